/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_OUTLET_H
#define EP_OUTLET_H

/*
 * ep_outlet - the standard error of the VM, where all goes that workers write to theirs.
 *
 * The launcher does not wait for it: what it does not take for so long that
 * EP_OUTLET_SIZE bytes wait is lost, with a line that says how much.
 *
 * Ownership  lives in its owner's memory, with an fd and a buffer of its own.
 * Threads    one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_OUTLET_SIZE (1u << 20)

struct ep_outlet {
    int fd;         /* -1: nobody reads any more */
    bool is_socket; /* of the VM's open file, so a flag of each write says not to wait */
    bool may_block; /* the same, and only poll() tells */
    size_t head;    /* of the ring */
    size_t length;
    uint64_t lost; /* bytes since the last line that told of it */
    char *ring;    /* EP_OUTLET_SIZE bytes, or NULL */
};

/* Takes over fd 2 of the process, which stays open. */
void ep_outlet_init(struct ep_outlet *outlet);
void ep_outlet_write(struct ep_outlet *outlet, const char *bytes, size_t size);

/* The fd to wait for until it can be written to, or -1 if nothing waits for that. */
int ep_outlet_wants(const struct ep_outlet *outlet);
void ep_outlet_flush(struct ep_outlet *outlet);
void ep_outlet_finish(struct ep_outlet *outlet);

#ifdef __cplusplus
}
#endif

#endif

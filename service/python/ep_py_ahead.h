/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_AHEAD_H
#define EP_PY_AHEAD_H

/*
 * ep_py_ahead - items of channels that have come ahead of their readers, see ep_lease.h.
 *
 * A thread that runs no request, or an event loop, asks the VM beside the rings: a way of three
 * threads. So it gets several items at once. They stay as bytes until somebody reads them, and
 * until then the VM may take them back.
 *
 * Threads  any; no Python code runs in here.
 */

#include "ep_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Once, before Python code runs: where the words of leases are. */
void ep_py_ahead_init(const void *mem_a, void *mem_b);

enum ep_ahead {
    EP_AHEAD_ITEM, /* appended to buf */
    EP_AHEAD_ASK,  /* for more, with the lease of that number from that position on */
    EP_AHEAD_NONE, /* without a lease: another thread asks with it, or there is none left */
};

/* The next item of that object, or how to ask for it. ASK ends with ep_py_ahead_end(), and until then
 * nobody reads or asks with that lease: the VM grants from the position that it was told. */
enum ep_ahead ep_py_ahead_next(uint64_t id, struct ep_buf *buf, uint32_t *ret_number,
                               uint64_t *ret_position);
void ep_py_ahead_end(uint32_t number);

/* Takes the payload of EP_ANSWER_ITEMS, and appends the first item to buf, if it is still there.
 * False: it makes no sense. */
bool ep_py_ahead_receive(const uint8_t *payload, size_t length, struct ep_buf *buf);

#endif

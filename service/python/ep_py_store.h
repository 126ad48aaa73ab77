/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_STORE_H
#define EP_PY_STORE_H

/*
 * ep_py_store - the arrays that this process knows: their segments, their blocks, who uses them.
 *
 * An entry stands for one array. Python objects, and messages on their way, have references to
 * it. With the last one the process tells the VM that it holds the array no more, if it has ever
 * claimed it. A block of our own is free again when the VM says so.
 *
 * Errors     0 or a negative errno.
 * Threads    any, with or without the GIL, which nothing here takes; but ep_py_store_make() waits
 *            for the VM: without it.
 * Trust      the VM's news are believed; what makes no sense ends the process.
 */

#include "ep_array.h"
#include "ep_buf.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_entry {
    struct ep_array_info info;
    uint8_t *mem;
    uint64_t block; /* is_made: offset of what was allocated */
    uint64_t claims;
    unsigned refs;
    unsigned mark; /* of ep_py_store_describe(), which leaves it 0, and the next false */
    bool is_brought;
    bool is_made;   /* by this process */
    bool is_sealed; /* else only this process knows it */
    bool is_known;  /* is_made: a message has named it */
};

/* Entries with a reference each. Zeroed means empty. */
struct ep_py_cargo {
    struct ep_py_entry **entries;
    uint32_t n, max;
};

/* Once, before any thread. socket: of the news. send: a message of kind EP_KIND_ARRAYS on the
 * control lane; it may wait, but not for Python. */
void ep_py_store_init(int socket,
                      void (*send)(uint8_t aux, uint64_t subject, const struct ep_buf *payload));

/* The list at the end of a message from the VM. *ret_length: what lies before it. *ret_shares:
 * whether every numpy array in the result is to be shared. -EPROTO: it makes
 * no sense.  -ENOMEM: the process is of no use any more. */
int ep_py_store_arrive(const uint8_t *payload, size_t length, struct ep_py_cargo *cargo,
                       size_t *ret_length, bool *ret_shares);

/* Adds a reference to the entry. Its index, or -1: too many, or no memory. */
int64_t ep_py_cargo_put(struct ep_py_cargo *cargo, struct ep_py_entry *entry);

/* Gives the references up, and leaves the cargo empty. */
void ep_py_cargo_finish(struct ep_py_cargo *cargo);

/* Appends the list of a message to the VM: the entries that its terms name, and of those that a
 * message brought which ends with it, what is still in use. Either may be NULL or empty. Both keep
 * their references until the message is out. Returns whether there is a list. */
bool ep_py_store_describe(const struct ep_py_cargo *named, const struct ep_py_cargo *brought,
                          struct ep_buf *buf);

/* Makes an entry with memory to write. -ENOMEM: no more memory may be shared. */
int ep_py_store_make(const struct ep_array_info *info, struct ep_py_entry **ret_entry);

/* Nobody writes it any more. -ENOMEM: the process has too many mappings. */
int ep_py_store_seal(struct ep_py_entry *entry);

void ep_py_entry_ref(struct ep_py_entry *entry);
void ep_py_entry_unref(struct ep_py_entry *entry);

/* Reads the news; gives segments back that have no blocks in use. */
void ep_py_store_tend(void);

#ifdef __cplusplus
}
#endif

#endif

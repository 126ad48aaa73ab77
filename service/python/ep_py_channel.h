/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_CHANNEL_H
#define EP_PY_CHANNEL_H

/*
 * ep_py_channel - the way from Python code to Erlang and back.
 *
 * A lane thread that runs a request has one of its own; all other threads share
 * one. The room above makes both: it serves requests while a question waits.
 *
 * Threads  set: the thread that the channel is for.
 */

#include "ep_buf.h"
#include "ep_layout.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a callback came to. The payload is lent until release(). */
struct ep_py_outcome {
    uint32_t aux; /* enum ep_answer */
    size_t length;
    bool has_arrays; /* its payload ends with a list of arrays */
    uint64_t asker;  /* for claim() */
    const uint8_t *payload;
    uint64_t block; /* the channel's */
    bool has_block;
    uint8_t data[EP_INLINE_MAX];
};

struct ep_py_channel {
    /* Whether a request runs in this thread that can ask. */
    bool (*is_open)(const struct ep_py_channel *channel);
    /* Asks and waits; attached before and after. Other requests may run meanwhile,
     * in this thread. -EINTR: the call is to be interrupted.  -ECANCELED: the
     * process ends.  -ENOMEM, -EMSGSIZE: no room for the question. */
    int (*ask)(struct ep_py_channel *channel, const struct ep_buf *question, bool has_arrays,
               struct ep_py_outcome *ret_outcome);
    /* Sends a list of arrays, perhaps an empty one: those of the outcome that are still in use.
     * Attached. */
    void (*claim)(struct ep_py_channel *channel, const struct ep_py_outcome *outcome,
                  const struct ep_buf *list);
    /* A lane's: serves what has come meanwhile, in the midst of the request that runs; attached
     * before and after. 0; -EINTR and -ECANCELED as above. */
    int (*serve)(struct ep_py_channel *channel);
    /* Whether a SEND of the thread goes this way: also while a question waits. */
    bool (*is_used)(const struct ep_py_channel *channel);
    /* Sends a message to an Erlang process; attached before and after. -ECANCELED: the process
     * ends. */
    int (*send)(struct ep_py_channel *channel, const struct ep_buf *letter, bool has_arrays);
    void (*release)(struct ep_py_channel *channel, struct ep_py_outcome *outcome);
};

/* Sets the channel of the calling thread; NULL: the shared one again. */
void ep_py_channel_set(struct ep_py_channel *channel);

/* Sets the channel of all other threads, once, before any of them runs, and the
 * word that changes with the names of callbacks. */
void ep_py_channel_set_shared(struct ep_py_channel *channel, const ep_atomic_u64 *names_epoch);

/* The one that a question of the calling thread takes. NULL: there is none. */
struct ep_py_channel *ep_py_channel_here(void);

/* That of all threads that run no request. */
struct ep_py_channel *ep_py_channel_shared(void);

/* The one that its messages to Erlang processes take, so that they stay in order. */
struct ep_py_channel *ep_py_channel_for_letters(void);

/* The word that changes with the names of callbacks; 0 before there is one. */
uint64_t ep_py_channel_names_epoch(void);

#ifdef __cplusplus
}
#endif

#endif

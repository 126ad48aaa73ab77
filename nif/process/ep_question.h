/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_QUESTION_H
#define EP_QUESTION_H

/*
 * ep_question - questions about objects, which the VM answers by itself: EP_QUESTION_TAKE and on.
 *
 *   question  --->  ep_question_serve()   STATUS, VALUE, ITEM   the caller sends the ANSWER
 *                                         WAITS                 it comes when there is something
 *                                         LONG                  again where it may take its time
 *                                         FORGED                the worker lies
 *
 * Ownership  ep_served_finish() ends what an outcome holds.
 * Threads    any. In the reaper, under the lock of a host, with is_short only.
 * Trust      the payload is private memory, or a block that the worker may change meanwhile: each
 *            byte is looked at once, or copied first.
 */

#include "ep_object.h"

/* Bytes that one ANSWER has of a buffer, at most. */
#define EP_QUESTION_READ_MAX (256u << 10)
/* Of an answer that the reaper makes. */
#define EP_QUESTION_SHORT_MAX (16u << 10)

enum ep_served_what {
    EP_SERVED_STATUS,
    EP_SERVED_VALUE, /* in buf */
    EP_SERVED_ITEM,
    EP_SERVED_ITEMS, /* in buf; lent, see ep_lent.h */
    EP_SERVED_WAITS,
    EP_SERVED_LONG,
    EP_SERVED_FORGED,
};

struct ep_served {
    enum ep_served_what what;
    enum ep_status status;
    struct ep_object *object; /* kept; or NULL */
    struct ep_item *item;
    struct ep_buf buf;
    uint8_t lent[64];
    /* UNWAIT: the question of a coroutine that waits no more; of kind NONE: none. */
    struct ep_waiter unwaited;
    /* PUT: who waited for it, to be woken when Python has its answer. */
    struct ep_waiter receiver;
    ErlNifEnv *env; /* of the source */
};

struct ep_question_source {
    struct ep_host *host; /* that asks */
    const uint8_t *payload;
    size_t length;
    bool is_short;  /* only what takes microseconds, and wakes nobody */
    bool is_dirty;  /* no scheduler waits */
    bool is_block;  /* the worker may still change it: it must be a PUT */
    ErlNifEnv *env; /* of the calling process; NULL: no scheduler */
};

/* Whether a payload asks about an object. */
bool ep_question_is_own(const uint8_t *payload, size_t length);

/* waiter: who would wait; taken with WAITS, when an ANSWER may have gone already. */
void ep_question_serve(const struct ep_question_source *source, struct ep_waiter *waiter,
                       struct ep_served *ret_served);

/* With no lock held, but that of a host where nobody is to be woken: is_short. */
void ep_served_finish(struct ep_served *served);

#endif

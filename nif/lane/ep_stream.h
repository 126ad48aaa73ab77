/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_STREAM_H
#define EP_STREAM_H

/*
 * ep_stream - calls that give items before they end.
 *
 * The worker puts items on a belt (ep_belt.h). ITEMS, a message of the response ring, names the
 * belt and leaves the call open. Further ones come only after the caller was about to sleep. So
 * the call has at most one message for any number of items, and the items wait in the worker's
 * memory until the caller takes them.
 *
 * A belt is a block of the worker's slab. It goes back when the worker has ended the stream and
 * the caller has taken the items; for one whose context ended first, when its late reply comes,
 * which names the block again.
 *
 * Errors   0 or a negative errno.
 * Trust    an ITEMS is hostile. Its cause is a stream that is open, and for all but the first that
 *          a caller of the lane was about to sleep.
 */

#include "ep_belt.h"
#include "ep_calls.h"
#include "ep_vm.h"

/* Takes an ITEMS about a call that lies in a ring of the lane. By the consumer. -EPROTO. */
int ep_stream_notice(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                     const struct ep_msg *msg);

/* Gives the belt back that the last reply to a call of a closed lane names. By the consumer. */
void ep_stream_late(struct ep_lane *lane, const struct ep_msg *msg);

/* What the caller of a stream holds besides the call. */
struct ep_reader {
    struct ep_belt_rx rx; /* rx.mem: NULL until the belt is known */
    struct ep_host *host; /* of the belt; lives as long as the call */
    bool is_waiting;      /* the message of the call is there, or will be */
    bool is_finishing;    /* the worker was told to end the stream */
    bool is_broken;       /* the worker has lied; it dies, and the call with it */
};

/* Whether there are items to take. By the caller. */
bool ep_stream_has_items(struct ep_reader *reader, const struct ep_call *call);

/* Takes all items that are there. Sets *ret_items to a list of them. Returns how many, or the
 * error of ep_term_decode() about the one that follows them. A worker that lies is ended. */
int ep_stream_take(ErlNifEnv *env, struct ep_lane *lane, struct ep_reader *reader,
                   const struct ep_call *call, ERL_NIF_TERM *ret_items);

/* Says that the caller is about to sleep. Look again after this (I2). */
void ep_stream_arm(struct ep_lane *lane);

#endif

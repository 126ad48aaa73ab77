/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_STREAM_WAIT_H
#define EP_STREAM_WAIT_H

/*
 * ep_stream_wait - waiting for the next items of a stream, or for its end.
 *
 * Threads  the caller's.
 */

#include "ep_stream.h"

enum ep_stream_wait {
    EP_STREAM_READY,  /* there are items, or the call is DONE */
    EP_STREAM_AGAIN,  /* let others have their turn, then ep_stream_poll() */
    EP_STREAM_PARKED, /* the call is PARKED; or it was, and something has come */
};

/* Looks for a moment. The call is SPINNING or DONE. */
enum ep_stream_wait ep_stream_spin(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                   struct ep_reader *reader);

/* Looks once more. */
enum ep_stream_wait ep_stream_poll(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                   struct ep_reader *reader);

#endif

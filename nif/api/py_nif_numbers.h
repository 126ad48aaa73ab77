/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_NUMBERS_H
#define PY_NIF_NUMBERS_H

/*
 * py_nif_numbers - the numbers that C and Erlang must have alike.
 *
 * Threads  any.
 */

#include "ep_lanes.h"
#include "py_nif_common.h"

/* Flags of a request, beside EP_FLAG_TRACEBACK, which the wire has. */
#define PY_NIF_FLAG_NESTED 0x100u   /* made in a callback: needs no slot, goes first */
#define PY_NIF_FLAG_SHARED 0x400u   /* every numpy array in the result is shared */
#define PY_NIF_FLAG_HAS_SLOT 0x200u /* the caller holds a slot for it */
#define PY_NIF_FLAG_TASK 0x1000u    /* for the event loop: see ep_task.h */
#define PY_NIF_FLAG_STREAM 0x2000u  /* the caller wants the items of the result */

/* How a request wants its answer, if not as its lane. Each bit counts if it is said to: if
 * the bit so much higher is set, too. */
#define PY_NIF_STYLE_MASK (EP_FLAG_NONE_MASK | EP_STYLE_TEXT)
#define PY_NIF_FLAG_SAID_SHIFT 16

/* Requests that may run at the same time, until set_max_slots says otherwise. */
#define PY_NIF_MAX_SLOTS UINT32_MAX

/* How many atoms Python makes, until set_max_atoms says otherwise. */
#define PY_NIF_MAX_ATOMS 10000u

/* [{Name, Number}]: what C has of the numbers in ep_nif.hrl; load() wants the same. */
ERL_NIF_TERM py_nif_shared_numbers(ErlNifEnv *env);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_PEEK_H
#define EP_NIF_PEEK_H

/*
 * ep_nif_peek - what tests in C++ look at inside of the NIF, whose headers are C.
 *
 * Trust  object is what fake_resource() gave for a term of the right type.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Calls of a lane that nobody spins for. */
uint32_t ep_nif_parked(const void *lane);

/* Entries of the call table of a lane that are not FREE. */
unsigned ep_nif_open_calls(void *lane);

/* The name of the state of the call that a reference is for; "none" once it has ended. */
const char *ep_nif_call_state(const void *call_ref);

/* Puts a byte into a byte channel, as a worker process does. */
bool ep_nif_put_for_erlang(void *object);

/* Takes an item as a request in Python does. Returns the bytes of its payload; 0: there is none, or
 * it is longer than that. */
size_t ep_nif_take_for_python(void *object, uint8_t *bytes, size_t n);

#ifdef __cplusplus
}
#endif

#endif

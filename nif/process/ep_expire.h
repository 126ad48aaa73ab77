/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_EXPIRE_H
#define EP_EXPIRE_H

/*
 * ep_expire - a budget that ends while the caller runs a callback.
 *
 * The caller cannot see to it, so the context does: the call is interrupted, and so
 * are those that the same process made in that callback and that run a callback in
 * turn, in whatever context. A caller that waits sees to its own deadline.
 *
 * Threads  any.
 */

#include "ep_vm.h"

/* Marks the calls as overdue, interrupts them and tells their contexts to watch them. */
void ep_expire(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id);

#endif

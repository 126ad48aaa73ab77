/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_RAN_H
#define EP_RAN_H

/*
 * ep_ran - what a lane ran when its worker process died.
 *
 * The request still lies in its cell of segment A, which only the VM writes, unless the ring
 * has gone round since. A payload in a block leaves its first bytes in the cell, too. So a
 * call pays nothing for this.
 *
 * Threads  the reaper, before the lane is detached.
 * Trust    which call it was the worker says; it can only name one that is open.
 */

#include "ep_vm.h"

/* Of a payload in a block. */
#define EP_RAN_SIZE 96u

/* Makes {Index, call | eval | exec, Module, Function}; binaries, or undefined. Returns false if
 * no request ran. */
bool ep_ran_make(ErlNifEnv *env, struct ep_lane *lane, const struct ep_host *host,
                 ERL_NIF_TERM *ret_term);

#endif

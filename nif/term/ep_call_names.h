/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CALL_NAMES_H
#define EP_CALL_NAMES_H

/*
 * ep_call_names - the module and the function of a call, as they cross the ring.
 *
 * Programs call few functions, and by atoms, which keep their names for the life of the
 * VM. So each thread keeps what it has written for the pairs that it met last: to look
 * both names up and write them anew takes a tenth of the time that a call spends in the VM.
 *
 * Threads  any.
 */

#include "ep_buf.h"
#include "ep_vm.h"

/* Appends what was written for that pair before. Returns false if the thread does not
 * have it, or no room. */
bool ep_call_names_put(struct ep_buf *buf, ERL_NIF_TERM module, ERL_NIF_TERM function);

/* Keeps what stands in buf from start on, for a pair of atoms. */
void ep_call_names_keep(const struct ep_buf *buf, size_t start, ErlNifEnv *env, ERL_NIF_TERM module,
                        ERL_NIF_TERM function);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ATTACH_H
#define EP_ATTACH_H

/*
 * ep_attach - what ties a lane to a worker process: attached to one after another, closed at
 * the end.
 *
 * The owner of the lane (a py_context process) gets
 *   {py_lane, started} | {py_lane, {failed, Type, Message}} after each attach
 *   {py_lane, stopped}                                      after a STOP
 *
 * Errors   0 or a negative errno.
 * Threads  any, unless said otherwise.
 */

#include "ep_buf.h"
#include "ep_vm.h"

/* Gives the lane a worker process: sends START, then what was waiting.
 * -ESRCH: that process is gone.  -ESTALE: the lane is closed.  -EBUSY: the lane
 * or that number is in use.  -EINVAL: no such number. */
int ep_attach_lane(struct ep_lane *lane, struct ep_host *host, uint32_t index, enum ep_mode mode,
                   const struct ep_buf *prologue);

/* The worker process of the lane with a reference for the caller, or NULL; and the number that
 * the lane has there, which another process may change once this returns. ret_index may be NULL. */
struct ep_host *ep_attach_keep_host(struct ep_lane *lane, uint32_t *ret_index);

/* Ends the lane: every call gets {context_died, reason}; reason is an atom. */
void ep_attach_close(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason);

/* The reaper, of a closed lane whose worker has sent something: STOP, if the call ring was
 * full when it closed. Each request that filled it is answered, so one of the answers finds
 * room. */
void ep_attach_send_stop(struct ep_lane *lane);

/* The reaper: the worker process is gone. Takes what it had published, fails the
 * rest; after a deliberate kill keeps what had not started. */
void ep_attach_host_died(struct ep_lane *lane, struct ep_host *host, int64_t exit_value);

/* The context has died: as ep_attach_close(). */
void ep_attach_owner_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

#endif

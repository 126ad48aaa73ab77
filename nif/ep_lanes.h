/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LANES_H
#define EP_LANES_H

/*
 * ep_lanes - the life of a lane: made by a context, attached to one worker
 * process after another, closed at the end.
 *
 * The owner (a py_context process) gets
 *   {py_lane, started} | {py_lane, {failed, Type, Message}} after each attach
 *   {py_lane, stopped}                                      after a STOP
 *   {py_lane, {cancelled, CallId}}  when a call was given up by its caller
 *
 * Errors   0 or a negative errno.
 * Threads  any, unless said otherwise.
 */

#include "ep_buf.h"
#include "ep_vm.h"

struct ep_lane *ep_lane_create(struct ep_vm *vm, const ErlNifPid *owner, uint32_t spin_min_ns,
                               uint32_t spin_max_ns);
void ep_lane_destroy(ErlNifEnv *env, void *object);
void ep_lane_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

/* Gives the lane a worker process: sends START, then what was waiting.
 * -ESRCH: that process is gone.  -ESTALE: the lane is closed.  -EBUSY: the lane
 * or that number is in use.  -EINVAL: no such number. */
int ep_lane_attach(struct ep_lane *lane, struct ep_host *host, uint32_t index, enum ep_mode mode,
                   const struct ep_buf *prologue);

/* Fails what waits and what comes, until the next attach. reason is copied. */
void ep_lane_set_unavailable(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason);

/* Ends the lane: every call gets {context_died, reason}; reason is an atom. */
void ep_lane_close(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason);

/* The reaper: the worker process is gone. Takes what it had published, fails the
 * rest; after a deliberate kill keeps what had not started. */
void ep_lane_host_died(struct ep_lane *lane, struct ep_host *host, int64_t exit_value);

void ep_lane_kill(struct ep_lane *lane, enum ep_kill_reason reason);

/* Gives up a call: true if it will never answer, false if it has answered. */
bool ep_lane_cancel(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call);

/* Interrupts a call, wherever it is; 0: the one that runs. Returns whether there is
 * such a call. */
bool ep_lane_interrupt(struct ep_lane *lane, uint64_t call_id);

/* The same for a call whose budget has ended, and tells the context to watch it. */
void ep_lane_interrupt_overdue(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id);

/* How far a call is that was given up. RUNS: it occupies the worker at this moment. */
enum ep_progress { EP_PROGRESS_ENDED, EP_PROGRESS_WAITS, EP_PROGRESS_RUNS };
enum ep_progress ep_lane_progress(struct ep_lane *lane, uint64_t call_id);

/* Whether no request runs or waits for an answer, as the worker says. */
bool ep_lane_is_idle(struct ep_lane *lane);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_EXIT_H
#define EP_EXIT_H

/*
 * ep_exit - how a worker process ended. It is not our child.
 *
 * Its parent, the launcher, says so, but may be stopped, or wait for a CPU. Until the parent
 * has taken it away, the kernel shows what it ended with.
 *
 * Errors   -ESRCH: its parent has taken it away.  -ENODATA: the kernel does not show it: it
 *          ended with 0, or has another user.  Others: of /proc.
 * Threads  any.
 */

#include <erl_nif.h>

#include <stdint.h>

/* Exit values beyond those of enum ep_control_event_kind. */
#define EP_EXIT_VALUE_KILL_AFTER (-1)
#define EP_EXIT_VALUE_VIOLATION (-2)
#define EP_EXIT_VALUE_UNKNOWN (-3)
#define EP_EXIT_VALUE_ERRNO (-1000) /* minus the errno because of which it did not start */

/* Returns 0 and the value as in enum ep_control_event_kind, EXITED. */
int ep_exit_read(int64_t os_pid, int pidfd, int64_t *ret_value);

/* The value as a term: a signal name, an exit status, kill_after. */
ERL_NIF_TERM ep_exit_reason(ErlNifEnv *env, int64_t exit_value);

#endif

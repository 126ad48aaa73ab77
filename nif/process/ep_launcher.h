/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_H
#define EP_LAUNCHER_H

/*
 * ep_launcher - the process that starts worker processes, as the VM sees it.
 *
 * It joins by a socket, and tells on it how its children begin and end. Its owner
 * (py_launcher) gets {py_launcher, Id, gone}.
 *
 * Ownership  launchers are resources; the reaper keeps one reference from their start to
 *            their end.
 * Errors     0 or a negative errno.
 * Threads    open and join: any; the rest says so.
 * Trust      one message names one worker process; what does not fit it is ignored.
 */

#include "ep_vm.h"

/* Opens the socket that the launcher shall join. name: at least 64 bytes. */
int ep_launcher_open(struct ep_vm *vm, const ErlNifPid *owner, char *name,
                     struct ep_launcher **ret_launcher);

/* Takes the launcher's connection; only the process os_pid with the right token
 * gets in. Waits at most 10 s. -ETIMEDOUT, -EACCES; -ECHILD: it has ended. */
int ep_launcher_join(struct ep_launcher *launcher, int64_t os_pid);

/* The reaper: reads what the launcher says. 1: a host has ended, *ret_ended: bury it, and read
 * on.  0: nothing more has come.  Negative: the launcher is gone. */
int ep_launcher_read(struct ep_launcher *launcher, struct ep_host **ret_ended);

void ep_launcher_destroy(ErlNifEnv *env, void *object);

#endif

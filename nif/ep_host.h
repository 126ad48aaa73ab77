/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_HOST_H
#define EP_HOST_H

/*
 * ep_host - a worker process as the VM sees it, and the launcher that starts it.
 *
 * The owner of a host (a process of py_worker) gets
 *   {py_host, Id, {spawned, OsPid}}
 *   {py_host, Id, {ready, OsPid, PythonVersion, OwnGil, FreeThreaded}}
 *   {py_host, Id, {exited, Reason}}    at the end, always and once
 * and the owner of a launcher (py_service) gets {py_launcher, Id, gone}.
 *
 * Ownership  hosts and launchers are resources; the reaper keeps one reference
 *            from their start to their end.
 * Errors     0 or a negative errno.
 */

#include "ep_vm.h"

struct ep_host_options {
    uint32_t lanes;                    /* control lane included */
    uint32_t spin_min_ns, spin_max_ns; /* of its lane threads, see ep_spin_init() */
    char worker_path[4096];
    char python_path[4096];
    char module_path[4096];
};

/* Creates the segments and asks the launcher for a process. The reaper takes
 * over; *ret_host carries a reference for the caller. May take milliseconds. */
int ep_host_start(struct ep_vm *vm, struct ep_launcher *launcher, const ErlNifPid *owner,
                  const struct ep_host_options *options, struct ep_host **ret_host);

/* Tells every worker process that the names of callbacks have changed. */
void ep_host_publish_names(struct ep_vm *vm);

/* Kills the process, for the first reason given. Any thread, no lock needed. */
void ep_host_kill(struct ep_host *host, enum ep_kill_reason reason);

/* Sends a message on the control lane. Under host->lock. */
void ep_host_control(struct ep_host *host, enum ep_kind kind, uint32_t aux, uint64_t call_id,
                     uint64_t subject);

/* The reaper: takes replies of all lanes and news of the control lane. */
void ep_host_drain(struct ep_host *host);

/* The reaper: the process is gone; ends every call and tells the owner. */
void ep_host_reap(struct ep_host *host);

void ep_host_destroy(ErlNifEnv *env, void *object);
void ep_host_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

/* Opens the socket that the launcher shall join. name: at least 64 bytes. */
int ep_launcher_open(struct ep_vm *vm, const ErlNifPid *owner, char *name,
                     struct ep_launcher **ret_launcher);

/* Takes the launcher's connection; only the process os_pid with the right token
 * gets in. Waits at most 10 s. -ETIMEDOUT, -EACCES. */
int ep_launcher_join(struct ep_launcher *launcher, int64_t os_pid);

/* The reaper: reads what the launcher says. False: it is gone. */
bool ep_launcher_read(struct ep_launcher *launcher);

void ep_launcher_destroy(ErlNifEnv *env, void *object);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_HOST_H
#define EP_HOST_H

/*
 * ep_host - a worker process as the VM sees it.
 *
 * The owner of a host (a process of py_worker) gets
 *   {py_host, Id, {spawned, OsPid}}
 *   {py_host, Id, {ready, OsPid, PythonVersion, OwnGil, FreeThreaded}}
 *   {py_host, Id, {exited, Reason, #{ran := What, stderr := Bytes}}}   at the end, always and
 *       once; What: of each lane that ran a request, see ep_ran.h; Bytes: what the process
 *       wrote last, if we know
 *
 * Ownership  hosts are resources; the reaper keeps one reference from their start to their
 *            end.
 * Errors     0 or a negative errno.
 */

#include "ep_vm.h"

/* How a process comes to be. */
enum ep_host_origin {
    EP_HOST_STARTED, /* the launcher executes the worker program */
    EP_HOST_ZYGOTE,  /* the same; it forks others */
    EP_HOST_FORKED,  /* a zygote forks it */
};

struct ep_host_options {
    enum ep_host_origin origin;
    uint64_t zygote_id;                /* FORKED: of its host */
    uint32_t lanes;                    /* control lane included */
    uint32_t spin_min_ns, spin_max_ns; /* of its lane threads, see ep_idle_init() */
    char worker_path[4096];
    char python_path[4096];
    char module_path[4096];
    const uint8_t *settings; /* the caller's; as in struct ep_control_request */
    uint32_t settings_size;
};

/* Creates the segments and asks the launcher for a process. The reaper takes
 * over; *ret_host carries a reference for the caller. May take milliseconds.
 * -EAGAIN: the launcher has so much to do that it takes no request at the moment. */
int ep_host_start(struct ep_vm *vm, struct ep_launcher *launcher, const ErlNifPid *owner,
                  const struct ep_host_options *options, struct ep_host **ret_host);

/* Tells every worker process that the names of callbacks have changed. */
void ep_host_publish_names(struct ep_vm *vm);

/* The reaper: takes replies of all lanes and news of the control lane, a batch of each.
 * What remains is for the next round. Returns whether notes wait for room. */
bool ep_host_drain(struct ep_host *host);

/* The reaper: the host after that one, or the first after NULL. */
struct ep_host *ep_host_next(struct ep_vm *vm, const struct ep_host *host);

/* The reaper: the host with that id, or NULL. */
struct ep_host *ep_host_find(struct ep_vm *vm, uint64_t id);

/* The reaper: takes the host out of the list. Returns whether it was there; then its
 * reference is the caller's. */
bool ep_host_unlink(struct ep_host *host);

/* Whether we need nobody to tell why the process has ended. */
bool ep_host_knows_why(const struct ep_host *host);

/* The reaper: closes our end of the control pipe, so that the process ends. */
void ep_host_hang_up(struct ep_host *host);

/* The reaper: the process is gone; ends every call. Once; the owner is not told. */
void ep_host_end_calls(struct ep_host *host);

/* The reaper: the same, and tells the owner. */
void ep_host_reap(struct ep_host *host);

void ep_host_destroy(ErlNifEnv *env, void *object);
void ep_host_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

#endif

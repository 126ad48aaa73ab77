/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_host.h"

#include "ep_answer.h"
#include "ep_asker.h"
#include "ep_atoms.h"
#include "ep_consume.h"
#include "ep_control.h"
#include "ep_etf.h"
#include "ep_fdpass.h"
#include "ep_lanes.h"
#include "ep_reaper.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

void ep_host_destroy(ErlNifEnv *env, void *object)
{
    struct ep_host *host = object;

    (void)env;
    if (host->vm == NULL)
        return;
    ep_lane_vm_finish(&host->control_lane);
    ep_seg_finish(&host->a);
    ep_seg_finish(&host->b);
    ep_seg_finish(&host->c);
    close_fd(&host->doorbell);
    close_fd(&host->control);
    close_fd(&host->pidfd);
    int fd = atomic_exchange(&host->kill_pidfd, -1);
    close_fd(&fd);
    pthread_mutex_destroy(&host->lock);
}

void ep_host_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)env;
    (void)pid;
    (void)monitor;
    ep_host_kill(object, EP_KILL_ASKED);
}

static int create_shared(struct ep_host *host, const struct ep_host_options *options,
                         int *ret_peer_control)
{
    struct ep_layout_header header;
    int pair[2];

    ep_layout_init(&header, options->lanes);
    header.spin_min_ns = options->spin_min_ns;
    header.spin_max_ns = options->spin_max_ns;
    int rc = ep_seg_create_own(&host->a, header.size_a, ep_layout_ring_bytes_a(options->lanes));
    if (rc < 0)
        return rc;
    rc = ep_seg_create_peer(&host->b, header.size_b);
    if (rc < 0)
        return rc;
    rc = ep_seg_create_slabs(&host->c, ep_layout_size_c(options->lanes));
    if (rc < 0)
        return rc;
    memcpy(host->a.mem, &header, sizeof(header));

    host->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (host->doorbell < 0)
        return -errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    host->control = pair[0];
    *ret_peer_control = pair[1];

    ep_lane_vm_attach(&host->control_lane, host->a.mem, host->b.mem, host->c.mem, options->lanes,
                      0);
    ep_bell_arm(&host->control_lane.response_bell);
    return 0;
}

static int send_spawn(struct ep_launcher *launcher, struct ep_host *host,
                      const struct ep_host_options *options, int peer_control)
{
    static const struct ep_control_request zero;
    int fds[EP_WORKER_FDS] = {host->a.fd, host->b.fd, host->c.fd, host->doorbell, peer_control};

    struct ep_control_request *request = enif_alloc(sizeof(*request));
    if (request == NULL)
        return -ENOMEM;
    *request = zero;
    request->version = EP_CONTROL_VERSION;
    request->kind = EP_CONTROL_SPAWN;
    request->worker_id = host->id;
    memcpy(request->worker_path, options->worker_path, sizeof(request->worker_path));
    memcpy(request->python_path, options->python_path, sizeof(request->python_path));
    memcpy(request->module_path, options->module_path, sizeof(request->module_path));
    int rc = launcher->socket < 0
                 ? -EPIPE
                 : ep_fdpass_send(launcher->socket, request, sizeof(*request), fds, EP_WORKER_FDS);
    enif_free(request);
    return rc;
}

/* Under vm->lock. */
static void write_epoch(struct ep_host *host)
{
    ep_atomic_u64 *word = (ep_atomic_u64 *)((uint8_t *)host->a.mem + EP_NAMES_EPOCH_OFFSET);

    /* Release: whoever sees the new epoch finds the new names. */
    atomic_store_explicit(word, host->vm->names_epoch, memory_order_release);
}

void ep_host_publish_names(struct ep_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->names_epoch++;
    for (struct ep_host *host = vm->hosts; host != NULL; host = host->next)
        write_epoch(host);
    pthread_mutex_unlock(&vm->lock);
}

int ep_host_start(struct ep_vm *vm, struct ep_launcher *launcher, const ErlNifPid *owner,
                  const struct ep_host_options *options, struct ep_host **ret_host)
{
    struct ep_host *host = enif_alloc_resource(ep_host_type, sizeof(*host));
    int peer_control = -1;

    if (host == NULL)
        return -ENOMEM;
    memset(host, 0, sizeof(*host));
    host->vm = vm;
    host->owner = *owner;
    host->launcher_id = launcher->id;
    host->n_lanes = options->lanes;
    host->doorbell = host->control = host->pidfd = -1;
    atomic_init(&host->kill_pidfd, -1);
    pthread_mutex_init(&host->lock, NULL);

    int rc = create_shared(host, options, &peer_control);
    if (rc < 0)
        goto release;
    if (enif_monitor_process(NULL, host, owner, NULL) != 0) {
        rc = -ESRCH;
        goto release;
    }

    /* In the list before the launcher knows of it: its answer must find it. */
    pthread_mutex_lock(&vm->lock);
    host->id = vm->next_id++;
    host->next = vm->hosts;
    vm->hosts = host;
    write_epoch(host);
    enif_keep_resource(host);
    pthread_mutex_unlock(&vm->lock);

    rc = send_spawn(launcher, host, options, peer_control);
    if (rc < 0) {
        ep_reaper_forget(vm, host);
        goto release;
    }
    ep_seg_close_fd(&host->a);
    ep_seg_close_fd(&host->b);
    ep_seg_close_fd(&host->c);
    close_fd(&peer_control);
    ep_reaper_wake(vm);
    *ret_host = host;
    return 0;

release:
    close_fd(&peer_control);
    enif_release_resource(host);
    return rc;
}

void ep_host_kill(struct ep_host *host, enum ep_kill_reason reason)
{
    int none = EP_KILL_NONE;

    if (atomic_compare_exchange_strong(&host->kill_reason, &none, (int)reason)
        && reason == EP_KILL_VIOLATION)
        atomic_fetch_add_explicit(&host->vm->violations, 1, memory_order_relaxed);
    int fd = atomic_load(&host->kill_pidfd);
    /* Not spawned yet: the reaper looks at kill_reason when it is. */
    if (fd >= 0)
        (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
}

void ep_host_control(struct ep_host *host, enum ep_kind kind, uint32_t aux, uint64_t call_id,
                     uint64_t subject)
{
    struct ep_slot *slot;

    /* Full only when 256 commands wait: a worker in that state is past helping. */
    if (host->dead || ep_ring_reserve(&host->control_lane.call, &slot) < 0)
        return;
    ep_slot_begin(slot, kind, 0, (uint8_t)aux, call_id, subject);
    (void)ep_ring_commit(&host->control_lane.call);
    if (ep_bell_must_ring(&host->control_lane.park))
        ep_futex_wake(host->control_lane.futex);
}

static ERL_NIF_TERM host_event(ErlNifEnv *env, const struct ep_host *host, ERL_NIF_TERM event)
{
    return enif_make_tuple3(env, am_py_host, enif_make_uint64(env, host->id), event);
}

/* HELLO: integer OS pid, binary sys.version, atoms owngil and free-threaded. */
static int report_ready(struct ep_host *host, const struct ep_msg *msg)
{
    struct ep_etf_cursor cursor;
    struct ep_etf_token pid, version, owngil, free_threaded;
    ERL_NIF_TERM text;

    if (msg->kind != EP_KIND_HELLO || (msg->flags & EP_FLAG_BLOCK) != 0)
        return -EPROTO;
    ep_etf_cursor_init(&cursor, msg->data, msg->length);
    if (ep_etf_next(&cursor, &pid) < 0 || ep_etf_next(&cursor, &version) < 0
        || ep_etf_next(&cursor, &owngil) < 0 || ep_etf_next(&cursor, &free_threaded) < 0
        || version.type != EP_ETF_BINARY || owngil.type != EP_ETF_ATOM
        || free_threaded.type != EP_ETF_ATOM)
        return -EPROTO;

    ErlNifEnv *env = enif_alloc_env();
    memcpy(enif_make_new_binary(env, version.count, &text), version.data, version.count);
    ERL_NIF_TERM event = enif_make_tuple5(
        env, am_ready, enif_make_int64(env, atomic_load(&host->os_pid)), text,
        owngil.count == 4 ? am_true : am_false, free_threaded.count == 4 ? am_true : am_false);
    (void)enif_send(NULL, &host->owner, env, host_event(env, host, event));
    enif_free_env(env);
    return 0;
}

static void drain_control(struct ep_host *host)
{
    struct ep_lane_vm *lane = &host->control_lane;
    struct ep_msg msg;
    int rc;

    do {
        ep_bell_rearm(&lane->response_bell);
        while ((rc = ep_ring_copy(&lane->response, &msg)) == 0) {
            ep_ring_advance(&lane->response);
            ep_ring_publish_head(&lane->response);
            rc =
                msg.kind == EP_KIND_HELLO ? report_ready(host, &msg) : ep_asker_receive(host, &msg);
            if (rc < 0)
                break;
        }
        const struct ep_slot *slot;
        if (rc == -EAGAIN && ep_ring_peek(&lane->response, &slot) == 0)
            rc = 0;
    } while (rc == 0);
    if (rc == -EPROTO)
        ep_host_kill(host, EP_KILL_VIOLATION);
}

void ep_host_drain(struct ep_host *host)
{
    pthread_mutex_lock(&host->lock);
    if (!host->dead) {
        drain_control(host);
        for (uint32_t i = 1; i < host->n_lanes; i++)
            if (host->lanes[i] != NULL)
                ep_consumer_ensure(host->lanes[i], NULL);
    }
    pthread_mutex_unlock(&host->lock);
}

static int64_t exit_value(struct ep_host *host)
{
    switch (atomic_load(&host->kill_reason)) {
    case EP_KILL_AFTER: return EP_EXIT_VALUE_KILL_AFTER;
    case EP_KILL_VIOLATION: return EP_EXIT_VALUE_VIOLATION;
    default: return host->exit_known ? host->exit_value : EP_EXIT_VALUE_UNKNOWN;
    }
}

void ep_host_reap(struct ep_host *host)
{
    struct ep_lane *lanes[EP_LANES_MAX];
    int64_t value = exit_value(host);

    pthread_mutex_lock(&host->lock);
    host->dead = true;
    memcpy(lanes, host->lanes, sizeof(lanes));
    memset(host->lanes, 0, sizeof(host->lanes));
    pthread_mutex_unlock(&host->lock);

    for (uint32_t i = 1; i < host->n_lanes; i++) {
        if (lanes[i] == NULL)
            continue;
        ep_lane_host_died(lanes[i], host, value);
        enif_release_resource(lanes[i]);
    }

    ep_inquiries_fail(host);

    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM event = enif_make_tuple2(env, am_exited, ep_answer_exit_reason(env, value));
    (void)enif_send(NULL, &host->owner, env, host_event(env, host, event));
    enif_free_env(env);
    close_fd(&host->control);
}

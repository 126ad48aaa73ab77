/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_host.h"

#include "ep_arrays.h"
#include "ep_asker.h"
#include "ep_atoms.h"
#include "ep_attach.h"
#include "ep_control.h"
#include "ep_etf.h"
#include "ep_exit.h"
#include "ep_fdpass.h"
#include "ep_inbox.h"
#include "ep_inquiry.h"
#include "ep_lanes.h"
#include "ep_letter.h"
#include "ep_note.h"
#include "ep_object.h"
#include "ep_peer.h"
#include "ep_ran.h"
#include "ep_wake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

ErlNifResourceType *ep_host_type;

/* How long a start waits for a launcher that has much to do. */
#define ROOM_WAIT_MS 100

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
    ep_arrays_finish_host(host);
    close_fd(&host->pidfd);
    ep_note_clear(host);
    enif_free(host->words);
    if (host->end != NULL)
        enif_free_env(host->end);
    if (host->letter_env != NULL)
        enif_free_env(host->letter_env);
    pthread_mutex_destroy(&host->lock);
    pthread_mutex_destroy(&host->notes_lock);
    pthread_mutex_destroy(&host->reclaim);
}

void ep_host_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)env;
    (void)pid;
    (void)monitor;
    (void)ep_peer_kill(object, EP_KILL_ASKED);
}

struct ep_host *ep_host_next(struct ep_vm *vm, const struct ep_host *host)
{
    pthread_mutex_lock(&vm->lock);
    struct ep_host *next = host == NULL ? vm->hosts : host->next;
    pthread_mutex_unlock(&vm->lock);
    return next;
}

struct ep_host *ep_host_find(struct ep_vm *vm, uint64_t id)
{
    pthread_mutex_lock(&vm->lock);
    struct ep_host *host = vm->hosts;
    while (host != NULL && host->id != id)
        host = host->next;
    pthread_mutex_unlock(&vm->lock);
    /* Only the reaper ends hosts, so it needs no reference of its own. */
    return host;
}

bool ep_host_unlink(struct ep_host *host)
{
    struct ep_vm *vm = host->vm;
    bool found = false;

    pthread_mutex_lock(&vm->lock);
    for (struct ep_host **at = &vm->hosts; *at != NULL; at = &(*at)->next) {
        if (*at == host) {
            *at = host->next;
            found = true;
            break;
        }
    }
    pthread_mutex_unlock(&vm->lock);
    return found;
}

static int create_shared(struct ep_host *host, const struct ep_host_options *options,
                         int *ret_peer_control)
{
    struct ep_layout_header header;
    int ends[2];

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
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    *ret_peer_control = ends[0];
    /* SUBTLE: the worker can put nothing into it. Closing our end would close the fds that it
     * has queued there, and that may take its time. */
    rc = shutdown(ends[1], SHUT_RD) < 0 ? -errno : ep_arrays_add_host(host, ends[1]);
    if (rc < 0) {
        (void)close(ends[1]);
        return rc;
    }

    ep_lane_vm_attach(&host->control_lane, host->a.mem, host->b.mem, host->c.mem, options->lanes,
                      0);
    ep_bell_arm(&host->control_lane.response_bell);
    return 0;
}

static int send_spawn(struct ep_launcher *launcher, struct ep_host *host,
                      const struct ep_host_options *options, int peer_control)
{
    int fds[EP_WORKER_FDS] = {host->a.fd, host->b.fd, host->c.fd, host->doorbell, peer_control};

    struct ep_control_request *request = enif_alloc(sizeof(*request));
    if (request == NULL)
        return -ENOMEM;
    memset(request, 0, ep_control_request_size(0));
    request->version = EP_CONTROL_VERSION;
    static const uint32_t kinds[] = {[EP_HOST_STARTED] = EP_CONTROL_SPAWN,
                                     [EP_HOST_ZYGOTE] = EP_CONTROL_ZYGOTE,
                                     [EP_HOST_FORKED] = EP_CONTROL_FORK};
    request->kind = kinds[options->origin];
    request->worker_id = host->id;
    request->zygote_id = options->zygote_id;
    memcpy(request->worker_path, options->worker_path, sizeof(request->worker_path));
    memcpy(request->python_path, options->python_path, sizeof(request->python_path));
    memcpy(request->module_path, options->module_path, sizeof(request->module_path));
    request->settings_size = options->settings_size;
    if (options->settings_size > 0)
        memcpy(request->settings, options->settings, options->settings_size);
    int rc = launcher->socket < 0 ? -EPIPE
                                  : ep_fdpass_send(launcher->socket, request,
                                                   ep_control_request_size(options->settings_size),
                                                   fds, EP_WORKER_FDS);
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

/* Waits a while until the launcher has taken most of what it was sent. -EAGAIN: it has not. */
static int wait_for_room(const struct ep_launcher *launcher)
{
    struct pollfd p = {.fd = launcher->socket, .events = POLLOUT};

    if (launcher->socket < 0)
        return -EPIPE;
    int n = poll(&p, 1, ROOM_WAIT_MS);
    return n > 0 ? 0 : n < 0 && errno != EINTR ? -errno : -EAGAIN;
}

int ep_host_start(struct ep_vm *vm, struct ep_launcher *launcher, const ErlNifPid *owner,
                  const struct ep_host_options *options, struct ep_host **ret_host)
{
    int peer_control = -1;

    int rc = wait_for_room(launcher);
    if (rc < 0)
        return rc;
    struct ep_host *host = enif_alloc_resource(ep_host_type, sizeof(*host));
    if (host == NULL)
        return -ENOMEM;
    memset(host, 0, sizeof(*host));
    host->vm = vm;
    host->owner = *owner;
    host->launcher_id = launcher->id;
    host->n_lanes = options->lanes;
    host->doorbell = host->pidfd = -1;
    atomic_init(&host->kill_pidfd, -1);
    pthread_mutex_init(&host->lock, NULL);
    pthread_mutex_init(&host->notes_lock, NULL);
    pthread_mutex_init(&host->reclaim, NULL);
    ep_queue_init(&host->notes);

    rc = create_shared(host, options, &peer_control);
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
    ep_letter_init(host);
    write_epoch(host);
    enif_keep_resource(host);
    pthread_mutex_unlock(&vm->lock);

    rc = send_spawn(launcher, host, options, peer_control);
    if (rc < 0) {
        atomic_store(&host->forgotten, true);
        ep_wake_reaper(vm);
        goto release;
    }
    ep_seg_close_fd(&host->a);
    ep_seg_close_fd(&host->b);
    ep_seg_close_fd(&host->c);
    close_fd(&peer_control);
    ep_wake_reaper(vm);
    *ret_host = host;
    return 0;

release:
    close_fd(&peer_control);
    enif_release_resource(host);
    return rc;
}

static ERL_NIF_TERM host_event(ErlNifEnv *env, const struct ep_host *host, ERL_NIF_TERM event)
{
    return enif_make_tuple3(env, am_py_host, enif_make_uint64(env, host->id), event);
}

/* What a worker says of its sandbox, which counts for nothing but to be told. */
static int note_sandbox(struct ep_host *host, struct ep_etf_cursor *cursor)
{
    struct ep_etf_token word;

    if (cursor->at == cursor->end)
        return 0; /* it has none */
    if (ep_etf_next(cursor, &word) < 0 || word.type != EP_ETF_INT || word.integer < 0
        || word.integer > EP_SANDBOX_WORD_MAX
        || (word.integer & EP_SANDBOX_WORD_LEVEL) > EP_SANDBOX_LEVEL_MAX)
        return -EPROTO;
    atomic_store(&host->sandbox, (uint32_t)word.integer);
    return 0;
}

/* HELLO: integer OS pid, binary sys.version, atoms owngil and free-threaded; the word of the
 * sandbox, see ep_control.h. */
static int report_ready(struct ep_host *host, const struct ep_msg *msg)
{
    struct ep_etf_cursor cursor;
    struct ep_etf_token pid, version, owngil, free_threaded;
    ERL_NIF_TERM text;

    if (host->greeted || (msg->flags & EP_FLAG_BLOCK) != 0)
        return -EPROTO;
    host->greeted = true;
    ep_etf_cursor_init(&cursor, msg->data, msg->length);
    if (ep_etf_next(&cursor, &pid) < 0 || ep_etf_next(&cursor, &version) < 0
        || ep_etf_next(&cursor, &owngil) < 0 || ep_etf_next(&cursor, &free_threaded) < 0
        || version.type != EP_ETF_BINARY || owngil.type != EP_ETF_ATOM
        || free_threaded.type != EP_ETF_ATOM || note_sandbox(host, &cursor) < 0)
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

/* A SEND of a thread that is no lane's. */
static int take_letter(struct ep_host *host, const struct ep_msg *msg, const struct ep_cargo *cargo)
{
    int rc = ep_letter_deliver(host, &host->control_lane, msg, cargo, 0, &host->letter_env);

    ep_peer_release_payload(host, msg);
    return rc;
}

/* A list of arrays and nothing else: of a thread that has read an outcome. */
static int take_arrays(struct ep_host *host, const struct ep_msg *msg)
{
    const uint8_t *payload;
    int rc = 0;

    if (msg->aux == EP_ARRAYS_CLAIM && msg->length == 0)
        ep_arrays_end_answer(host, msg->call_id);
    else if (ep_lane_vm_payload(&host->control_lane, msg, &payload) < 0)
        rc = -EPROTO;
    else
        rc = ep_arrays_receive(host, msg, payload);
    ep_peer_release_payload(host, msg);
    return rc;
}

static int handle_control(struct ep_host *host, struct ep_msg *msg)
{
    struct ep_cargo *cargo = NULL;
    const uint8_t *payload;
    int rc = 0;

    if ((msg->flags & EP_FLAG_ARRAYS) != 0) {
        rc = ep_lane_vm_payload(&host->control_lane, msg, &payload);
        if (rc == 0)
            rc = ep_arrays_take(host, payload, msg, &cargo);
        if (rc < 0)
            return rc;
    }
    switch (msg->kind) {
    case EP_KIND_HELLO: rc = report_ready(host, msg); break;
    case EP_KIND_SEND: rc = take_letter(host, msg, cargo); break;
    case EP_KIND_ARRAYS: rc = take_arrays(host, msg); break;
    default: rc = ep_asker_receive(host, msg, &cargo); break;
    }
    ep_cargo_free(cargo);
    return rc;
}

/* One batch. Returns whether there may be more. */
static bool drain_control(struct ep_host *host)
{
    struct ep_lane_vm *lane = &host->control_lane;
    const struct ep_cell *cell;
    struct ep_msg msg;
    size_t letter_bytes = 0;
    int rc = 0;

    ep_bell_rearm(&lane->response_bell);
    for (unsigned n = 0; n < EP_INBOX_BATCH && letter_bytes < EP_LETTER_BATCH && rc == 0; n++) {
        rc = ep_ring_copy(&lane->response, &msg);
        if (rc < 0)
            break;
        ep_ring_advance(&lane->response);
        rc = handle_control(host, &msg);
        /* After it was delivered: a request waits for the SENDs of its threads. */
        ep_ring_publish_head(&lane->response);
        letter_bytes += msg.kind == EP_KIND_SEND ? msg.length : 0;
    }
    if (rc == -EPROTO)
        (void)ep_peer_kill(host, EP_KILL_VIOLATION);
    return rc == 0 && ep_ring_peek(&lane->response, &cell) == 0;
}

static bool is_reply(const struct ep_msg *msg)
{
    return msg->kind == EP_KIND_RESULT || msg->kind == EP_KIND_ERROR
           || msg->kind == EP_KIND_DROPPED;
}

/* Delivers the SENDs and the replies that a dead process had published; nobody waits for the
 * rest. Under host->lock. */
static void drain_dead(struct ep_host *host)
{
    struct ep_ring_rx *ring = &host->control_lane.response;
    struct ep_msg msg;
    int rc = 0;

    for (unsigned n = 0; n < EP_RESPONSE_CELLS && rc == 0; n++) {
        rc = ep_ring_copy(ring, &msg);
        if (rc < 0)
            break;
        ep_ring_advance(ring);
        if (msg.kind == EP_KIND_SEND || is_reply(&msg))
            rc = handle_control(host, &msg);
    }
}

/* The lane has ended and sent its last message. Under host->lock. */
static void let_go(struct ep_host *host, uint32_t index)
{
    struct ep_lane *lane = host->lanes[index];

    if (!atomic_load_explicit(&lane->inbox.stopped, memory_order_acquire))
        return;
    host->lanes[index] = NULL;
    enif_release_resource(lane);
}

bool ep_host_drain(struct ep_host *host)
{
    bool has_more = false, has_notes = false;

    pthread_mutex_lock(&host->lock);
    if (!host->dead) {
        has_more = drain_control(host);
        for (uint32_t i = 1; i < host->n_lanes; i++) {
            if (host->lanes[i] == NULL)
                continue;
            ep_inbox_ensure(host->lanes[i], NULL);
            ep_attach_send_stop(host->lanes[i]);
            let_go(host, i);
        }
        has_notes = ep_note_flush(host);
    }
    pthread_mutex_unlock(&host->lock);
    if (has_more)
        ep_wake_for_round(host);
    return has_notes;
}

static int64_t exit_value(struct ep_host *host)
{
    switch (atomic_load(&host->kill_reason)) {
    case EP_KILL_AFTER: return EP_EXIT_VALUE_KILL_AFTER;
    case EP_KILL_VIOLATION: return EP_EXIT_VALUE_VIOLATION;
    default: return host->exit_known ? host->exit_value : EP_EXIT_VALUE_UNKNOWN;
    }
}

bool ep_host_knows_why(const struct ep_host *host)
{
    int reason = atomic_load(&host->kill_reason);

    return reason == EP_KILL_AFTER || reason == EP_KILL_VIOLATION || host->exit_known;
}

void ep_host_hang_up(struct ep_host *host)
{
    ep_arrays_hang_up(host);
}

/* {exited, Reason, #{ran => [{Index, Operation, Module, Function}], stderr => Bytes}} */
static void tell_exit(struct ep_host *host, ErlNifEnv *env, int64_t value, ERL_NIF_TERM ran)
{
    ERL_NIF_TERM keys[] = {am_ran, am_stderr};
    ERL_NIF_TERM values[] = {ran, 0};
    ERL_NIF_TERM known;

    uint8_t *bytes = enif_make_new_binary(env, host->n_words, &values[1]);
    if (host->n_words > 0)
        memcpy(bytes, host->words, host->n_words);
    (void)enif_make_map_from_arrays(env, keys, values, 2, &known);
    ERL_NIF_TERM event = enif_make_tuple3(env, am_exited, ep_exit_reason(env, value), known);
    (void)enif_send(NULL, &host->owner, env, host_event(env, host, event));
}

void ep_host_end_calls(struct ep_host *host)
{
    struct ep_lane *lanes[EP_LANES_MAX];
    int64_t value = exit_value(host);
    ERL_NIF_TERM what;

    if (host->end != NULL)
        return;
    host->end = enif_alloc_env();
    host->ran = enif_make_list(host->end, 0);
    pthread_mutex_lock(&host->lock);
    drain_dead(host);
    host->dead = true;
    memcpy(lanes, host->lanes, sizeof(lanes));
    memset(host->lanes, 0, sizeof(host->lanes));
    ep_note_clear(host);
    pthread_mutex_unlock(&host->lock);

    for (uint32_t i = 1; i < host->n_lanes; i++) {
        if (lanes[i] == NULL)
            continue;
        if (ep_ran_make(host->end, lanes[i], host, &what))
            host->ran = enif_make_list_cell(host->end, what, host->ran);
        ep_attach_host_died(lanes[i], host, value);
        enif_release_resource(lanes[i]);
    }
    ep_inquiry_fail_all(host);
    ep_arrays_end_host(host);
    ep_objects_forget_host(host);
}

void ep_host_reap(struct ep_host *host)
{
    ep_host_end_calls(host);
    ep_arrays_hang_up(host);
    /* The owner of one that is forgotten knows, and never knew its id. */
    if (!host->forgotten)
        tell_exit(host, host->end, exit_value(host), host->ran);
    enif_free_env(host->end);
    host->end = NULL;
}

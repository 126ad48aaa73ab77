/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_worker_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * The control lane. Its thread never takes the GIL: whatever Python does, the VM
 * can interrupt it, and SHUTDOWN ends the process.
 */

#define SHUTDOWN_LIMIT_S 4
#define HELPER_STACK_SIZE (128u << 10)

/* How often a message that finds the control lane full looks again. Its ring and its
 * slab are for hundreds of them; no bell is worth it. */
#define FULL_PAUSE_NS 1000000

static struct ep_lane_worker control;
static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER; /* response ring and slab */

void ep_worker_ring_doorbell(struct ep_worker *worker, struct ep_lane_worker *lane)
{
    uint64_t one = 1;

    if (!ep_bell_must_ring(&lane->response_bell))
        return;
    while (write(worker->doorbell, &one, sizeof(one)) < 0) {
        if (errno == EAGAIN)
            return; /* so full that nobody can overlook it */
        if (errno != EINTR)
            ep_worker_die(EP_EXIT_FDS_LOST, "Python code closed the doorbell");
    }
}

/* --- the VM's life ------------------------------------------------------------- */

static void *watch_socket(void *user)
{
    struct ep_worker *worker = user;
    char byte;

    for (;;) {
        struct pollfd p = {.fd = worker->control, .events = POLLIN};
        if (poll(&p, 1, -1) < 0)
            continue;
        if ((p.revents & POLLNVAL) != 0)
            ep_worker_die(EP_EXIT_FDS_LOST, "Python code closed the control socket");
        ssize_t n = recv(worker->control, &byte, sizeof(byte), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            _exit(EP_EXIT_ASKED); /* the VM is gone: nobody is left to tell */
    }
}

static void *watchdog(void *user)
{
    struct timespec limit = {.tv_sec = SHUTDOWN_LIMIT_S};

    (void)user;
    while (nanosleep(&limit, &limit) < 0 && errno == EINTR)
        continue;
    _exit(EP_EXIT_ASKED);
}

/* --- requests ------------------------------------------------------------------ */

static void *run_lane(void *user)
{
    struct ep_worker_lane *lane = user;
    struct ep_worker *worker = lane->worker;

    ep_worker_lane_run(lane);
    (void)pthread_mutex_lock(&worker->mutex);
    worker->running_lanes--;
    (void)pthread_cond_signal(&worker->lane_ended);
    (void)pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

static void open_lane(struct ep_worker *worker, uint32_t index)
{
    if (index == 0 || index >= worker->n_lanes)
        ep_worker_die(EP_EXIT_PROTOCOL, "LANE_OPEN of a lane that does not exist");
    if (worker->lanes[index] != NULL)
        return; /* lane 1 is open from the start */
    struct ep_worker_lane *lane = ep_worker_lane_create(worker, index);
    if (lane == NULL)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory for another lane");

    (void)pthread_mutex_lock(&worker->mutex);
    worker->running_lanes++;
    (void)pthread_mutex_unlock(&worker->mutex);
    if (ep_thread_start(run_lane, lane, EP_WORKER_STACK_SIZE, true) < 0)
        ep_worker_die(EP_EXIT_CANNOT_START, "no thread for another lane");
}

/* -EAGAIN: no room at the moment. Under the lock. */
static int try_send(struct ep_worker *worker, const struct ep_worker_note *note)
{
    size_t length = note->payload == NULL ? 0 : note->payload->length;
    struct ep_slot *slot;
    uint64_t block;

    int rc = ep_ring_reserve(&control.response, &slot);
    if (rc < 0)
        return rc;
    ep_slot_begin(slot, (enum ep_kind)note->kind, 0, note->aux, note->call_id, note->subject);
    ep_slot_set_stamp(slot, note->lane);
    slot->length = (uint32_t)length;
    if (length > EP_INLINE_MAX) {
        rc = ep_reclaim_collect(&control.reclaim_rx, &control.slab);
        if (rc >= 0)
            rc = ep_slab_alloc(&control.slab, length, &block);
        if (rc < 0)
            return rc;
        memcpy(control.slab_mem + block, note->payload->data, length);
        ep_slot_set_block(slot, block);
    } else if (length > 0) {
        memcpy(slot->data, note->payload->data, length);
    }
    (void)ep_ring_commit(&control.response);
    ep_worker_ring_doorbell(worker, &control);
    return 0;
}

bool ep_worker_control_send(struct ep_worker *worker, const struct ep_worker_note *note)
{
    struct timespec pause = {.tv_nsec = FULL_PAUSE_NS};
    int rc;

    for (;;) {
        (void)pthread_mutex_lock(&sending);
        rc = try_send(worker, note);
        (void)pthread_mutex_unlock(&sending);
        if (rc != -EAGAIN || ep_worker_is_stopping(worker))
            break;
        (void)nanosleep(&pause, NULL);
    }
    if (rc == -EPROTO)
        ep_worker_die(EP_EXIT_PROTOCOL, "the VM took or gave back what it did not have");
    return rc == 0;
}

static void interrupt(struct ep_worker *worker, uint32_t index, uint64_t call_id, uint64_t number)
{
    ep_worker_thread_strike(call_id, number);
    if (index < worker->n_lanes && worker->lanes[index] != NULL)
        ep_py_interrupt_strike(&worker->lanes[index]->interrupt, call_id, number);
}

/* Wakes the lanes until the process ends. SUBTLE: the futex words are the VM's,
 * so a lane that is just about to sleep cannot be told by a changed value; the
 * next round wakes it. */
static _Noreturn void shut_down(struct ep_worker *worker)
{
    struct timespec pause = {.tv_nsec = 2000000};

    if (ep_thread_start(watchdog, NULL, HELPER_STACK_SIZE, false) < 0)
        _exit(EP_EXIT_ASKED);
    atomic_store_explicit(&worker->is_stopping, 1, memory_order_seq_cst);
    for (uint32_t i = 1; i < worker->n_lanes; i++)
        interrupt(worker, i, EP_PY_CALL_ANY, 0);
    ep_worker_thread_stop();
    for (;;) {
        for (uint32_t i = 1; i < worker->n_lanes; i++) {
            if (worker->lanes[i] != NULL)
                (void)syscall(SYS_futex, worker->lanes[i]->shm.futex, FUTEX_WAKE, INT32_MAX, NULL,
                              NULL, 0);
        }
        (void)nanosleep(&pause, NULL);
    }
}

/* Slot and payload are copied by whoever needs them longer. */
static void serve(struct ep_worker *worker, const struct ep_slot *slot)
{
    const uint8_t *payload = ep_lane_worker_payload(&control, slot);
    uint8_t kind = slot->kind, aux = slot->aux;
    uint64_t call_id = slot->call_id, subject = slot->subject;

    switch (kind) {
    case EP_KIND_ANSWER:
    case EP_KIND_CALL:
    case EP_KIND_EVAL:
    case EP_KIND_EXEC: ep_worker_thread_deliver(worker, slot, payload); break;
    case EP_KIND_MAINTAIN: ep_worker_maintain(worker, slot, payload); break;
    default: break;
    }
    if ((slot->flags & EP_FLAG_BLOCK) != 0)
        ep_reclaim_push(&control.reclaim_tx, slot->block);
    ep_ring_advance(&control.call);
    ep_ring_publish_head(&control.call);

    switch (kind) {
    case EP_KIND_ANSWER:
    case EP_KIND_CALL:
    case EP_KIND_EVAL:
    case EP_KIND_EXEC:
    case EP_KIND_MAINTAIN: break;
    case EP_KIND_LANE_OPEN: open_lane(worker, aux); break;
    case EP_KIND_INTERRUPT: interrupt(worker, aux, call_id, subject); break;
    case EP_KIND_SHUTDOWN: shut_down(worker);
    default: ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on the control lane");
    }
}

static void *serve_control(void *user)
{
    struct ep_worker *worker = user;
    const struct ep_slot *slot;

    for (;;) {
        uint32_t value = ep_futex_value(control.futex);
        ep_bell_arm(&control.park);
        int rc = ep_ring_peek(&control.call, &slot);
        if (rc == -EAGAIN)
            ep_futex_wait(control.futex, value, -1);
        /* Also without a sleep: the VM answers each arming once, so the next sleep
         * needs a new one. */
        ep_bell_disarm(&control.park);
        if (rc == -EAGAIN)
            continue;
        if (rc < 0)
            ep_worker_die(EP_EXIT_PROTOCOL, "the control ring makes no sense");

        serve(worker, slot);
    }
}

static void say_hello(struct ep_worker *worker)
{
    struct ep_worker_note note = {.kind = EP_KIND_HELLO};
    struct ep_buf buf;
    uint8_t lent[EP_INLINE_MAX];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_py_describe(&buf);
    note.payload = &buf;
    if (!ep_worker_control_send(worker, &note))
        ep_worker_die(EP_EXIT_PROTOCOL, "no room for HELLO");
}

int ep_worker_control_start(struct ep_worker *worker)
{
    ep_lane_worker_attach(&control, worker->a.mem, worker->b.mem, worker->c.mem, worker->n_lanes,
                          0);
    ep_worker_thread_init(worker);
    int rc = ep_thread_start(watch_socket, worker, HELPER_STACK_SIZE, false);
    if (rc < 0)
        return rc;
    say_hello(worker);
    return ep_thread_start(serve_control, worker, HELPER_STACK_SIZE, false);
}

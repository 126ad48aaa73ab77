/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_worker.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
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

static struct ep_lane_worker control;

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

static void interrupt(struct ep_worker *worker, uint32_t index, uint64_t call_id, uint64_t number)
{
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
    for (;;) {
        for (uint32_t i = 1; i < worker->n_lanes; i++) {
            if (worker->lanes[i] != NULL)
                (void)syscall(SYS_futex, worker->lanes[i]->shm.futex, FUTEX_WAKE, INT32_MAX, NULL,
                              NULL, 0);
        }
        (void)nanosleep(&pause, NULL);
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

        uint16_t kind = slot->kind;
        uint32_t aux = slot->aux;
        uint64_t call_id = slot->call_id;
        uint64_t subject = slot->subject;
        ep_ring_advance(&control.call);
        ep_ring_publish_head(&control.call);
        switch (kind) {
        case EP_KIND_LANE_OPEN: open_lane(worker, aux); break;
        case EP_KIND_INTERRUPT: interrupt(worker, aux, call_id, subject); break;
        case EP_KIND_SHUTDOWN: shut_down(worker);
        default: ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on the control lane");
        }
    }
}

static void say_hello(struct ep_worker *worker)
{
    struct ep_slot *slot;
    struct ep_buf buf;

    if (ep_ring_reserve(&control.response, &slot) < 0)
        ep_worker_die(EP_EXIT_PROTOCOL, "no room for HELLO");
    ep_buf_init(&buf, slot->data, EP_INLINE_MAX, EP_INLINE_MAX);
    ep_py_describe(&buf);
    ep_slot_begin(slot, EP_KIND_HELLO, 0, 0, 0, 0);
    slot->length = (uint32_t)buf.length;
    (void)ep_ring_commit(&control.response);
    ep_worker_ring_doorbell(worker, &control);
}

int ep_worker_control_start(struct ep_worker *worker)
{
    ep_lane_worker_attach(&control, worker->a.mem, worker->b.mem, worker->n_lanes, 0);
    int rc = ep_thread_start(watch_socket, worker, HELPER_STACK_SIZE, false);
    if (rc < 0)
        return rc;
    say_hello(worker);
    return ep_thread_start(serve_control, worker, HELPER_STACK_SIZE, false);
}

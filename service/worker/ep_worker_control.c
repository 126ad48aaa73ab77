/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_worker_control.h"

#include "ep_buf.h"
#include "ep_cpu.h"
#include "ep_crashpoint.h"
#include "ep_etf.h"
#include "ep_py_ahead.h"
#include "ep_py_interrupt.h"
#include "ep_py_start.h"
#include "ep_py_store.h"
#include "ep_py_strike.h"
#include "ep_thread.h"
#include "ep_worker_await.h"
#include "ep_worker_lane.h"
#include "ep_worker_loop.h"
#include "ep_worker_maintain.h"
#include "ep_worker_note.h"
#include "ep_worker_sandbox.h"
#include "ep_worker_task.h"
#include "ep_worker_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * The control lane. Its thread never takes the GIL: whatever Python does, the VM
 * can interrupt it, and SHUTDOWN ends the process.
 */

#define SHUTDOWN_LIMIT_S 4
/* Of this, for Python's threads; the rest is for exit functions. */
#define THREADS_LIMIT_NS UINT64_C(3000000000)
#define HELPER_STACK_SIZE (128u << 10)
#define SIGNAL_STACK_SIZE (64u << 10)

/* --- the VM's life ------------------------------------------------------------- */

/* News of arrays come through the socket. It ends with the VM, or when the VM gives us up. */
static void *watch_vm(void *user)
{
    struct ep_worker *worker = user;

    for (;;) {
        struct pollfd p = {.fd = worker->control};
        if (poll(&p, 1, -1) < 0)
            continue;
        if ((p.revents & POLLNVAL) != 0)
            ep_worker_die(EP_EXIT_FDS_LOST, "Python code closed the control socket");
        if ((p.revents & (POLLHUP | POLLERR)) != 0)
            _exit(EP_EXIT_ASKED); /* nobody is left to tell */
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

/* For Python's handler of crashes. Where the stack has overflowed there is none to run on, and
 * the thread that started this one blocks all signals. The main thread needs neither. */
static void let_crashes_be_told(void)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    stack_t stack = {.ss_sp = malloc(SIGNAL_STACK_SIZE), .ss_size = SIGNAL_STACK_SIZE};
    sigset_t set;

    if (stack.ss_sp != NULL && sigaltstack(&stack, NULL) < 0)
        free(stack.ss_sp);
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
        (void)sigaddset(&set, crashes[i]);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the thread has it until the process ends. */
}

static void *run_lane(void *user)
{
    struct ep_worker_lane *lane = user;
    struct ep_worker *worker = lane->worker;

    let_crashes_be_told();
    ep_worker_loop_run(lane);
    (void)pthread_mutex_lock(&worker->mutex);
    worker->running_lanes--;
    (void)pthread_cond_broadcast(&worker->lane_ended);
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

static void interrupt(struct ep_worker *worker, uint32_t index, uint64_t call_id, uint64_t number,
                      bool is_forced)
{
    EP_CRASHPOINT("interrupt.before");
    ep_worker_thread_strike(call_id, number, is_forced);
    ep_worker_await_strike(call_id, number, is_forced);
    if (index < worker->n_lanes && worker->lanes[index] != NULL)
        ep_py_strike(&worker->lanes[index]->interrupt, call_id, number, is_forced);
}

/* Wakes the lanes until the process ends. SUBTLE: the futex words are the VM's,
 * so a lane that is just about to sleep cannot be told by a changed value; the
 * next round wakes it. */
static _Noreturn void shut_down(struct ep_worker *worker)
{
    struct timespec pause = {.tv_nsec = 2000000};

    if (ep_thread_start(watchdog, NULL, HELPER_STACK_SIZE, false) < 0)
        _exit(EP_EXIT_ASKED);
    worker->threads_until_ns = ep_clock_ns() + THREADS_LIMIT_NS;
    atomic_store_explicit(&worker->is_stopping, 1, memory_order_seq_cst);
    for (uint32_t i = 1; i < worker->n_lanes; i++)
        interrupt(worker, i, EP_PY_CALL_ANY, 0, false);
    EP_CRASHPOINT("shutdown.interrupted");
    (void)pthread_mutex_lock(&worker->mutex);
    (void)pthread_cond_broadcast(&worker->lane_ended);
    (void)pthread_mutex_unlock(&worker->mutex);
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

/* Cell and payload are copied by whoever needs them longer. */
static void serve(struct ep_worker *worker, const struct ep_cell *cell)
{
    struct ep_lane_worker *control = &worker->control_lane;
    const uint8_t *payload = ep_lane_worker_payload(control, cell);
    uint8_t kind = cell->kind, aux = cell->aux, flags = cell->flags;
    uint64_t call_id = cell->call_id, subject = cell->subject;

    EP_CRASHPOINT("control.seen");
    switch (kind) {
    case EP_KIND_ANSWER:
    case EP_KIND_CALL:
    case EP_KIND_EVAL:
    case EP_KIND_EXEC:
        (ep_worker_await_is(cell) ? ep_worker_await_deliver
                                  : ep_worker_thread_deliver)(worker, cell, payload);
        break;
    case EP_KIND_MAINTAIN: ep_worker_maintain(worker, cell, payload); break;
    case EP_KIND_TASK:
    case EP_KIND_TASK_CANCEL: ep_worker_task_deliver(worker, cell, payload); break;
    default: break;
    }
    if ((cell->flags & EP_FLAG_BLOCK) != 0)
        ep_reclaim_push(&control->reclaim_tx, cell->block);
    ep_ring_advance(&control->call);
    ep_ring_publish_head(&control->call);
    EP_CRASHPOINT("control.taken");

    switch (kind) {
    case EP_KIND_ANSWER:
    case EP_KIND_CALL:
    case EP_KIND_EVAL:
    case EP_KIND_EXEC:
    case EP_KIND_TASK:
    case EP_KIND_TASK_CANCEL:
    case EP_KIND_MAINTAIN: break;
    case EP_KIND_LANE_OPEN: open_lane(worker, aux); break;
    case EP_KIND_INTERRUPT:
        interrupt(worker, aux, call_id, subject, (flags & EP_FLAG_FORCED) != 0);
        break;
    case EP_KIND_TEND: ep_py_store_tend(); break;
    case EP_KIND_SHUTDOWN: shut_down(worker);
    default: ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on the control lane");
    }
}

static void *serve_control(void *user)
{
    struct ep_worker *worker = user;
    struct ep_lane_worker *control = &worker->control_lane;
    const struct ep_cell *cell;

    for (;;) {
        int rc = ep_ring_peek(&control->call, &cell);
        if (rc == -EAGAIN) {
            uint32_t value = ep_futex_value(control->futex);
            ep_bell_arm(&control->park);
            rc = ep_ring_peek(&control->call, &cell);
            if (rc == -EAGAIN)
                ep_futex_wait(control->futex, value, -1);
            /* Also without a sleep: the VM answers each arming once, so the next sleep
             * needs a new one. */
            ep_bell_disarm(&control->park);
        }
        if (rc == -EAGAIN)
            continue;
        if (rc < 0)
            ep_worker_die(EP_EXIT_PROTOCOL, "the control ring makes no sense");

        serve(worker, cell);
    }
}

static struct ep_worker *array_worker;

/* What the store says to the VM. */
static void send_arrays(uint8_t aux, uint64_t subject, const struct ep_buf *payload)
{
    struct ep_worker_note note = {
        .kind = EP_KIND_ARRAYS, .aux = aux, .subject = subject, .payload = payload};

    (void)ep_worker_note_send(array_worker, &note);
}

void ep_worker_control_greet(struct ep_worker *worker)
{
    struct ep_worker_note note = {.kind = EP_KIND_HELLO};
    struct ep_buf buf;
    uint8_t lent[EP_INLINE_MAX];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_py_start_describe(&buf);
    ep_etf_put_int(&buf, (int64_t)ep_worker_sandbox_word());
    EP_CRASHPOINT("hello.before");
    note.payload = &buf;
    if (!ep_worker_note_send(worker, &note))
        ep_worker_die(EP_EXIT_PROTOCOL, "no room for HELLO");
}

int ep_worker_control_start(struct ep_worker *worker)
{
    ep_lane_worker_attach(&worker->control_lane, worker->a.mem, worker->b.mem, worker->c.mem,
                          worker->n_lanes, 0);
    ep_worker_thread_init(worker);
    array_worker = worker;
    ep_py_store_init(worker->control, send_arrays);
    ep_py_ahead_init(worker->a.mem, worker->b.mem);
    ep_worker_await_init(worker);
    int rc = ep_thread_start(watch_vm, worker, HELPER_STACK_SIZE, false);
    if (rc < 0)
        return rc;
    ep_worker_control_greet(worker);
    return ep_thread_start(serve_control, worker, HELPER_STACK_SIZE, false);
}

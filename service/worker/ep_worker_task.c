/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_task.h"

#include "ep_buf.h"
#include "ep_cpu.h"
#include "ep_crashpoint.h"
#include "ep_py_context.h"
#include "ep_py_task.h"
#include "ep_thread.h"
#include "ep_worker_message.h"
#include "ep_worker_note.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/*
 * Waking a loop takes a system call on both sides, so it is done once for all messages that
 * come while it is awake:
 *
 *   append    put the message in the queue; then exchange is_awake for 1; wake if it was 0
 *   sleeper   set is_awake to 0; then look at the queue; stay awake if there is something
 *
 * All sequentially consistent, or ordered by the mutex, so one of the two sees the other.
 */

/* How long the end of a context waits for a loop that does not come round. */
#define LEAVE_LIMIT_NS UINT64_C(3000000000)

/* A loop that does not come round for so long is told of. */
#define BLOCKED_NS UINT64_C(1000000000)
#define WATCH_NS 250000000
#define WATCH_STACK_SIZE (1u << 20)

/* Messages of our own, beside TASK and TASK_CANCEL. */
enum { KIND_LEAVE = EP_KIND_STOP, KIND_END = EP_KIND_SHUTDOWN };

struct ep_worker_loop {
    struct ep_py_tasks tasks;
    struct ep_worker_loop *next; /* under worker->mutex */
    struct ep_worker *worker;
    void *interpreter;
    ep_atomic_u32 open;      /* tasks that have not been answered */
    ep_atomic_u32 wanted;    /* the watcher: how often the loop was asked to come round ... */
    ep_atomic_u32 came;      /* ... and the last time that it has done so for */
    pthread_cond_t has_open; /* the watcher sleeps until there are tasks */
    pthread_mutex_t mutex;
    struct ep_worker_message *first, **last;    /* under mutex */
    bool is_over;                               /* takes no messages; under mutex */
    bool has_ended;                             /* its thread has; under worker->mutex */
    struct ep_py_context *guests[EP_LANES_MAX]; /* of lanes that have tasks; the thread's own */
    atomic_bool has_more;                       /* messages of the same look; by the thread */
};

static struct ep_worker_loop *loops; /* under worker->mutex */

static struct ep_worker_loop *loop_of(struct ep_py_tasks *tasks)
{
    return (struct ep_worker_loop *)((char *)tasks - offsetof(struct ep_worker_loop, tasks));
}

/* --- the queue -------------------------------------------------------------------------- */

static void wake(struct ep_worker_loop *loop)
{
    const uint64_t one = 1;

    if (atomic_exchange_explicit(&loop->tasks.sleeper.is_awake, 1, memory_order_seq_cst) != 0)
        return;
    while (write(loop->tasks.fd, &one, sizeof(one)) < 0) {
        if (errno == EAGAIN)
            return;
        if (errno != EINTR)
            ep_worker_die(EP_EXIT_FDS_LOST, "Python code closed the bell of its event loop");
    }
}

/* Takes the message, unless the loop is over. */
static bool append(struct ep_worker_loop *loop, struct ep_worker_message *message)
{
    (void)pthread_mutex_lock(&loop->mutex);
    bool is_taken = !loop->is_over;
    if (is_taken) {
        *loop->last = message;
        loop->last = &message->next;
        if (message->cell.kind == EP_KIND_TASK
            && atomic_fetch_add_explicit(&loop->open, 1, memory_order_relaxed) == 0)
            (void)pthread_cond_signal(&loop->has_open);
    }
    (void)pthread_mutex_unlock(&loop->mutex);
    if (is_taken)
        wake(loop);
    return is_taken;
}

static struct ep_worker_message *take_all(struct ep_worker_loop *loop, bool is_over)
{
    (void)pthread_mutex_lock(&loop->mutex);
    struct ep_worker_message *first = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    loop->is_over = is_over;
    if (is_over)
        (void)pthread_cond_signal(&loop->has_open);
    (void)pthread_mutex_unlock(&loop->mutex);
    return first;
}

static bool is_empty(struct ep_worker_loop *loop)
{
    (void)pthread_mutex_lock(&loop->mutex);
    bool is = loop->first == NULL;
    (void)pthread_mutex_unlock(&loop->mutex);
    return is;
}

/* A task that is not begun. Detached. */
static void drop(struct ep_worker *worker, const struct ep_cell *cell)
{
    struct ep_worker_note note = {
        .kind = EP_KIND_DROPPED, .lane = cell->aux, .call_id = cell->call_id};

    if (cell->kind == EP_KIND_TASK)
        (void)ep_worker_note_send(worker, &note);
}

/* --- the thread -------------------------------------------------------------------------- */

static void begin(struct ep_worker_loop *loop, struct ep_worker_message *message)
{
    struct ep_cell *cell = &message->cell;
    struct ep_worker_lane *lane = loop->worker->lanes[cell->aux];
    struct ep_py_context **guest = &loop->guests[cell->aux];

    /* The context is there: it ends when this thread has let go of it, or is over. */
    if (*guest == NULL)
        *guest = ep_py_context_create_guest(lane->context);
    if (*guest == NULL) {
        (void)atomic_fetch_sub_explicit(&loop->open, 1, memory_order_relaxed);
        void *thread = ep_py_context_detach_thread();
        drop(loop->worker, cell);
        ep_py_context_attach_thread(thread);
        return;
    }
    cell->kind = (uint8_t)cell->stamp;
    EP_CRASHPOINT("task.before_python");
    if ((cell->kind != EP_KIND_CALL && cell->kind != EP_KIND_EVAL && cell->kind != EP_KIND_EXEC)
        || ep_py_task_begin(&loop->tasks, *guest, cell, message->payload) < 0)
        ep_worker_die(EP_EXIT_PROTOCOL, "a task is not in the format of docs/wire.md");
    EP_CRASHPOINT("task.begun");
}

static void handle(struct ep_worker_loop *loop, struct ep_worker_message *message)
{
    const struct ep_cell *cell = &message->cell;

    switch ((int)cell->kind) {
    case EP_KIND_TASK: begin(loop, message); break;
    case EP_KIND_TASK_CANCEL: ep_py_task_cancel(cell->aux, cell->call_id); break;
    case KIND_LEAVE: ep_py_task_leave(cell->aux); break;
    default: ep_py_task_end(); break;
    }
    free(message);
}

/* SUBTLE: the last message of a look may begin a task that does not end in it, and then nobody
 * rings for those before. The VM looks by itself, see EP_SEND_QUIET_NS. */
static bool look(struct ep_py_tasks *tasks, bool is_woken)
{
    struct ep_worker_loop *loop = loop_of(tasks);
    uint64_t unused;

    /* Before the queue is looked at; is_awake says that nobody writes it meanwhile. */
    if (is_woken)
        (void)!read(tasks->fd, &unused, sizeof(unused));
    atomic_store_explicit(&loop->came, atomic_load_explicit(&loop->wanted, memory_order_relaxed),
                          memory_order_relaxed);
    struct ep_worker_message *message = take_all(loop, false);
    if (message == NULL) {
        atomic_store_explicit(&loop->tasks.sleeper.is_awake, 0, memory_order_seq_cst);
        if (is_empty(loop))
            return false;
        atomic_store_explicit(&loop->tasks.sleeper.is_awake, 1, memory_order_seq_cst);
        return true;
    }
    while (message != NULL) {
        struct ep_worker_message *next = message->next;
        atomic_store_explicit(&loop->has_more, next != NULL, memory_order_relaxed);
        handle(loop, message);
        message = next;
    }
    return true;
}

static void reply(struct ep_py_tasks *tasks, uint32_t lane, uint64_t call_id,
                  const struct ep_py_reply *what, const struct ep_buf *payload)
{
    struct ep_worker *worker = loop_of(tasks)->worker;
    struct ep_worker_note note = {
        .kind = (uint8_t)what->kind,
        .aux = (uint8_t)what->aux,
        .lane = (uint8_t)lane,
        .has_arrays = what->has_arrays,
        .is_quiet = atomic_load_explicit(&loop_of(tasks)->has_more, memory_order_relaxed),
        .call_id = call_id,
        .payload = payload,
    };

    EP_CRASHPOINT("task.before_reply");
    (void)atomic_fetch_sub_explicit(&loop_of(tasks)->open, 1, memory_order_relaxed);
    if (ep_worker_note_try(worker, &note) == 0)
        return;
    void *thread = ep_py_context_detach_thread();
    (void)ep_worker_note_send(worker, &note);
    ep_py_context_attach_thread(thread);
}

static void left(struct ep_py_tasks *tasks, uint32_t index)
{
    struct ep_worker_loop *loop = loop_of(tasks);
    struct ep_worker *worker = loop->worker;

    if (index >= worker->n_lanes || worker->lanes[index] == NULL)
        return;
    ep_py_context_destroy_guest(loop->guests[index]);
    loop->guests[index] = NULL;
    (void)pthread_mutex_lock(&worker->mutex);
    worker->lanes[index]->has_no_tasks = true;
    (void)pthread_cond_broadcast(&worker->lane_ended);
    (void)pthread_mutex_unlock(&worker->mutex);
}

static void ended(struct ep_py_tasks *tasks)
{
    struct ep_worker_loop *loop = loop_of(tasks);

    for (uint32_t i = 1; i < loop->worker->n_lanes; i++) {
        ep_py_context_destroy_guest(loop->guests[i]);
        loop->guests[i] = NULL;
    }
}

/* Whatever comes to a loop that is over. Detached. */
static void finish(struct ep_worker_loop *loop)
{
    struct ep_worker *worker = loop->worker;
    struct ep_worker_message *message = take_all(loop, true);

    while (message != NULL) {
        struct ep_worker_message *next = message->next;
        drop(worker, &message->cell);
        free(message);
        message = next;
    }
    (void)pthread_mutex_lock(&worker->mutex);
    loop->has_ended = true;
    (void)pthread_cond_broadcast(&worker->lane_ended);
    (void)pthread_mutex_unlock(&worker->mutex);
}

static void *run_loop(void *user)
{
    struct ep_worker_loop *loop = user;

    ep_py_task_run_loop(&loop->tasks, loop->interpreter);
    EP_CRASHPOINT("task.loop_ended");
    finish(loop);
    return NULL;
}

/* --- the watcher --------------------------------------------------------------------------- */

/* Whether there are tasks; waits for some. False: the loop is over. */
static bool wait_for_tasks(struct ep_worker_loop *loop)
{
    (void)pthread_mutex_lock(&loop->mutex);
    while (!loop->is_over && atomic_load_explicit(&loop->open, memory_order_relaxed) == 0)
        (void)pthread_cond_wait(&loop->has_open, &loop->mutex);
    bool is_over = loop->is_over;
    (void)pthread_mutex_unlock(&loop->mutex);
    return !is_over;
}

/* Keeps the interpreter from ending: one of its contexts, or NULL. */
static struct ep_worker_lane *visit(struct ep_worker_loop *loop)
{
    struct ep_worker *worker = loop->worker;
    struct ep_worker_lane *found = NULL;

    (void)pthread_mutex_lock(&worker->mutex);
    for (uint32_t i = 1; i < worker->n_lanes && found == NULL; i++) {
        struct ep_worker_lane *lane = worker->lanes[i];
        if (lane != NULL && lane->loop == loop && lane->context != NULL && !lane->takes_no_tasks)
            found = lane;
    }
    if (found != NULL)
        found->visitors++;
    (void)pthread_mutex_unlock(&worker->mutex);
    return found;
}

static void end_visit(struct ep_worker_lane *lane)
{
    struct ep_worker *worker = lane->worker;

    (void)pthread_mutex_lock(&worker->mutex);
    lane->visitors--;
    (void)pthread_cond_broadcast(&worker->lane_ended);
    (void)pthread_mutex_unlock(&worker->mutex);
}

static void tell_blocked(struct ep_worker_loop *loop, uint64_t ns)
{
    struct ep_worker_lane *lane = visit(loop);

    if (lane == NULL)
        return;
    ep_py_task_tell_blocked(&loop->tasks, loop->interpreter, ns / 1000000);
    end_visit(lane);
}

/* Asks the loop to come round, again and again while it has tasks. */
static void *watch(void *user)
{
    struct ep_worker_loop *loop = user;
    const struct timespec pause = {.tv_nsec = WATCH_NS};
    uint64_t asked_ns = 0;
    bool is_told = false;

    while (wait_for_tasks(loop)) {
        uint32_t wanted = atomic_load_explicit(&loop->wanted, memory_order_relaxed);
        if (atomic_load_explicit(&loop->came, memory_order_relaxed) == wanted) {
            atomic_store_explicit(&loop->wanted, wanted + 1, memory_order_relaxed);
            asked_ns = ep_clock_ns();
            is_told = false;
            wake(loop);
        } else if (!is_told && ep_clock_ns() - asked_ns >= BLOCKED_NS) {
            is_told = true;
            tell_blocked(loop, ep_clock_ns() - asked_ns);
        }
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

/* --- messages from the VM ----------------------------------------------------------------- */

/* Under worker->mutex. NULL: no memory, descriptors or threads. */
static struct ep_worker_loop *create(struct ep_worker *worker, void *interpreter)
{
    struct ep_worker_loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL)
        return NULL;
    loop->tasks = (struct ep_py_tasks){.look = look, .reply = reply, .left = left, .ended = ended};
    loop->worker = worker;
    loop->interpreter = interpreter;
    loop->last = &loop->first;
    (void)pthread_mutex_init(&loop->mutex, NULL);
    (void)pthread_cond_init(&loop->has_open, NULL);
    loop->tasks.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->tasks.fd < 0)
        goto free_loop;
    if (ep_thread_start(run_loop, loop, EP_WORKER_STACK_SIZE, true) < 0)
        goto close_fd;
    /* Without it nobody hears of what holds the loop up, and nothing else is amiss. */
    (void)ep_thread_start(watch, loop, WATCH_STACK_SIZE, false);
    loop->next = loops;
    loops = loop;
    return loop;

close_fd:
    (void)close(loop->tasks.fd);
free_loop:
    (void)pthread_mutex_destroy(&loop->mutex);
    free(loop);
    return NULL;
}

/* The loop for the tasks of a lane; NULL: there is none, any more. */
static struct ep_worker_loop *find(struct ep_worker *worker, struct ep_worker_lane *lane,
                                   bool may_create)
{
    (void)pthread_mutex_lock(&worker->mutex);
    if (lane->context != NULL && !lane->takes_no_tasks && lane->loop == NULL && may_create) {
        void *interpreter = ep_py_context_interpreter(lane->context);
        struct ep_worker_loop *loop = loops;
        while (loop != NULL && (loop->interpreter != interpreter || loop->has_ended))
            loop = loop->next;
        lane->loop = loop != NULL ? loop : create(worker, interpreter);
        if (lane->loop != NULL)
            ep_py_context_set_sleeper(lane->context, &lane->loop->tasks.sleeper);
    }
    struct ep_worker_loop *found = lane->takes_no_tasks ? NULL : lane->loop;
    (void)pthread_mutex_unlock(&worker->mutex);
    return found;
}

void ep_worker_task_deliver(struct ep_worker *worker, const struct ep_cell *cell,
                            const uint8_t *payload)
{
    if (cell->aux >= worker->n_lanes || worker->lanes[cell->aux] == NULL)
        ep_worker_die(EP_EXIT_PROTOCOL, "a TASK of a lane that does not exist");
    struct ep_worker_lane *lane = worker->lanes[cell->aux];
    struct ep_worker_loop *loop = find(worker, lane, cell->kind == EP_KIND_TASK);
    struct ep_worker_message *message = loop == NULL ? NULL : ep_worker_message_copy(cell, payload);
    EP_CRASHPOINT("task.delivered");
    if (message != NULL && append(loop, message))
        return;
    free(message);
    drop(worker, cell);
}

/* --- the end ------------------------------------------------------------------------------- */

/* Waits until *is_over, under worker->mutex. False: not in time. */
static bool wait_for(struct ep_worker *worker, const bool *is_over)
{
    struct timespec until;
    int rc = 0;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LEAVE_LIMIT_NS / 1000000000u;
    (void)pthread_mutex_lock(&worker->mutex);
    while (!*is_over && rc == 0)
        rc = pthread_cond_timedwait(&worker->lane_ended, &worker->mutex, &until);
    bool is_done = *is_over;
    (void)pthread_mutex_unlock(&worker->mutex);
    return is_done;
}

/* Without memory the loop is not told, and stays until the process ends. */
static bool tell(struct ep_worker_loop *loop, int kind, uint32_t lane)
{
    struct ep_cell cell = {.kind = (uint8_t)kind, .aux = (uint8_t)lane};
    struct ep_worker_message *message = ep_worker_message_copy(&cell, cell.data);

    if (message != NULL && append(loop, message))
        return true;
    free(message);
    return false;
}

static void end(struct ep_worker *worker, struct ep_worker_loop *loop)
{
    if (tell(loop, KIND_END, 0))
        (void)wait_for(worker, &loop->has_ended);
}

static struct ep_worker_loop *next_loop(struct ep_worker *worker, const struct ep_worker_loop *loop)
{
    (void)pthread_mutex_lock(&worker->mutex);
    struct ep_worker_loop *next = loop == NULL ? loops : loop->next;
    (void)pthread_mutex_unlock(&worker->mutex);
    return next;
}

void ep_worker_task_leave(struct ep_worker_lane *lane)
{
    struct ep_worker *worker = lane->worker;

    (void)pthread_mutex_lock(&worker->mutex);
    lane->takes_no_tasks = true;
    struct ep_worker_loop *loop = lane->loop;
    (void)pthread_mutex_unlock(&worker->mutex);
    if (loop == NULL)
        return;
    EP_CRASHPOINT("task.leaving");
    /* One that does not come round now does not later. */
    bool has_left = !tell(loop, KIND_LEAVE, lane->index) || wait_for(worker, &lane->has_no_tasks);
    if (has_left && ep_py_context_owns_interpreter(lane->context))
        end(worker, loop);
}

void ep_worker_task_end(struct ep_worker *worker)
{
    struct ep_worker_loop *loop = NULL;

    /* Those of other interpreters have ended, but for what does not come round. */
    while ((loop = next_loop(worker, loop)) != NULL)
        end(worker, loop);
}

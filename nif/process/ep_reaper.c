/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_reaper.h"

#include "ep_arrays.h"
#include "ep_atoms.h"
#include "ep_drops.h"
#include "ep_exit.h"
#include "ep_host.h"
#include "ep_launcher.h"
#include "ep_object.h"
#include "ep_remains.h"
#include "ep_shrink.h"
#include "ep_wake.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* What an fd of the wait set is; the low bits of its tag, below the id. */
enum source { SOURCE_WAKE, SOURCE_DOORBELL, SOURCE_PIDFD, SOURCE_LAUNCHER };
#define TAG(id, source) ((uint64_t)(id) << 2 | (uint64_t)(source))

#define EVENTS_MAX 32
/* How long a death waits for the launcher, which says what the process wrote last, and what it
 * ended with if we cannot see that: mostly a fraction of a millisecond, on a busy machine until
 * the launcher has a CPU. */
#define EXIT_VALUE_WAIT_MS 2000
#define EXIT_VALUE_LIMIT_MS 10000
#define EXIT_VALUE_AGAIN_MS 100
/* How soon to look again whether notes find room, or the wait set takes an fd. */
#define NOTES_AGAIN_MS 2
#define ADD_AGAIN_MS 20
/* The same for what a worker has dropped, while replies of it are being taken. */
#define DROPS_AGAIN_MS 1

/* Returns what was in it. */
static uint64_t drain_eventfd(int fd)
{
    uint64_t value = 0;
    struct iovec iov = {.iov_base = &value, .iov_len = sizeof(value)};

    /* Never a plain read: a worker shares the open file and could have cleared
     * O_NONBLOCK and drained it, and then the read would block. */
    ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
    if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
        n = read(fd, &value, sizeof(value));
    return n == sizeof(value) ? value : 0;
}

/* Drains one host, which is the reaper's alone to do. */
static void drain(struct ep_host *host)
{
    host->watched_ns = ep_clock_ns();
    host->notes_wait = ep_host_drain(host);
}

/* Whether the host is to be looked at although it has not rung, see EP_SEND_WATCH_NS. */
static bool is_due(struct ep_host *host)
{
    if (host->watched_until_ns == 0)
        return false;
    uint64_t now = ep_clock_ns();
    if (now - host->watched_ns < EP_SEND_LOOK_MS * UINT64_C(1000000))
        return false;
    /* The last look is after the end. */
    if (now >= host->watched_until_ns)
        host->watched_until_ns = 0;
    return true;
}

static struct ep_launcher *find_launcher(struct ep_vm *vm, uint64_t id)
{
    pthread_mutex_lock(&vm->lock);
    struct ep_launcher *launcher = vm->launchers;
    while (launcher != NULL && launcher->id != id)
        launcher = launcher->next;
    pthread_mutex_unlock(&vm->lock);
    return launcher;
}

void ep_reaper_bury(struct ep_vm *vm, struct ep_host *host)
{
    if (host->doorbell_added)
        (void)ep_wait_remove(vm->wait, host->doorbell, TAG(host->id, SOURCE_DOORBELL));
    if (host->pidfd_added)
        (void)ep_wait_remove(vm->wait, host->pidfd, TAG(host->id, SOURCE_PIDFD));
    ep_host_reap(host);
    if (ep_host_unlink(host))
        enif_release_resource(host);
}

/* Adds what came since the last look. Returns the time-out after which to try again what
 * found no resources; negative: there is nothing like that. */
static int add_sources(struct ep_vm *vm)
{
    bool all = true;

    pthread_mutex_lock(&vm->lock);
    for (struct ep_host *host = vm->hosts; host != NULL; host = host->next) {
        if (!host->doorbell_added)
            host->doorbell_added =
                ep_wait_add(vm->wait, host->doorbell, TAG(host->id, SOURCE_DOORBELL)) == 0;
        if (!host->pidfd_added && host->pidfd >= 0)
            host->pidfd_added =
                ep_wait_add(vm->wait, host->pidfd, TAG(host->id, SOURCE_PIDFD)) == 0;
        all = all && host->doorbell_added && (host->pidfd < 0 || host->pidfd_added);
    }
    for (struct ep_launcher *l = vm->launchers; l != NULL; l = l->next) {
        if (!l->added)
            l->added = ep_wait_add(vm->wait, l->socket, TAG(l->id, SOURCE_LAUNCHER)) == 0;
        all = all && l->added;
    }
    pthread_mutex_unlock(&vm->lock);
    return all ? -1 : ADD_AGAIN_MS;
}

/* Its launcher is gone, which would have said how the process ended: by the parent-death
 * signal, unless it died of something else in the same moment. */
static void bury_orphan(struct ep_vm *vm, struct ep_host *host)
{
    if (!host->exit_known)
        host->exit_value = 256 + SIGKILL;
    host->exit_known = true;
    ep_reaper_bury(vm, host);
}

static void launcher_gone(struct ep_vm *vm, struct ep_launcher *launcher)
{
    (void)ep_wait_remove(vm->wait, launcher->socket, TAG(launcher->id, SOURCE_LAUNCHER));
    pthread_mutex_lock(&vm->lock);
    for (struct ep_launcher **at = &vm->launchers; *at != NULL; at = &(*at)->next) {
        if (*at == launcher) {
            *at = launcher->next;
            break;
        }
    }
    pthread_mutex_unlock(&vm->lock);

    /* Its workers die with it (parent-death signal) and their pidfds say so; a
     * process that was never spawned has none. */
    for (struct ep_host *host = ep_host_next(vm, NULL), *next; host != NULL; host = next) {
        next = ep_host_next(vm, host);
        if (host->launcher_id != launcher->id)
            continue;
        if (host->pidfd < 0)
            ep_reaper_bury(vm, host);
        else if (host->died_at_ns != 0)
            bury_orphan(vm, host);
    }
    ErlNifEnv *env = enif_alloc_env();
    (void)enif_send(
        NULL, &launcher->owner, env,
        enif_make_tuple3(env, am_py_launcher, enif_make_uint64(env, launcher->id), am_gone));
    enif_free_env(env);
    enif_release_resource(launcher);
}

static void launcher_spoke(struct ep_vm *vm, struct ep_launcher *launcher)
{
    struct ep_host *ended;
    int rc;

    while ((rc = ep_launcher_read(launcher, &ended)) > 0)
        ep_reaper_bury(vm, ended);
    if (rc < 0)
        launcher_gone(vm, launcher);
}

/* In vain when the launcher has taken the process away, and is about to tell. */
static bool can_see_why(struct ep_host *host)
{
    if (!host->exit_known)
        host->exit_known =
            ep_exit_read(atomic_load(&host->os_pid), host->pidfd, &host->exit_value) == 0;
    return host->exit_known;
}

static void handle(struct ep_vm *vm, uint64_t tag)
{
    uint64_t id = tag >> 2;
    struct ep_host *host;
    struct ep_launcher *launcher;

    switch ((enum source)(tag & 3)) {
    case SOURCE_WAKE: (void)drain_eventfd(vm->wake_fd); break;
    case SOURCE_DOORBELL:
        host = ep_host_find(vm, id);
        if (host == NULL)
            break;
        atomic_fetch_add_explicit(&vm->doorbells, 1, memory_order_relaxed);
        if (drain_eventfd(host->doorbell) >= EP_DOORBELL_SEND)
            host->watched_until_ns = ep_clock_ns() + EP_SEND_WATCH_NS;
        drain(host);
        break;
    case SOURCE_PIDFD:
        host = ep_host_find(vm, id);
        if (host == NULL || host->died_at_ns != 0)
            break;
        (void)ep_wait_remove(vm->wait, host->pidfd, tag);
        host->died_at_ns = ep_clock_ns();
        if (find_launcher(vm, host->launcher_id) == NULL)
            bury_orphan(vm, host);
        else if (ep_host_knows_why(host))
            ep_reaper_bury(vm, host);
        else if (can_see_why(host))
            ep_host_end_calls(host); /* callers need not wait for the launcher */
        break;
    case SOURCE_LAUNCHER:
        launcher = find_launcher(vm, id);
        if (launcher != NULL)
            launcher_spoke(vm, launcher);
        break;
    }
}

/* The earlier of two time-outs; negative: never. */
static int earlier(int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

/* Whether nothing is left to wait for. */
static bool is_overdue(struct ep_host *host, uint64_t ms)
{
    if (ms < EXIT_VALUE_WAIT_MS)
        return false;
    return can_see_why(host) || ms >= EXIT_VALUE_LIMIT_MS;
}

/* Ends the dead whose exit value does not come, and those that were never born. Returns the
 * next time-out in ms. */
static int bury_overdue(struct ep_vm *vm)
{
    uint64_t now = ep_clock_ns();
    int timeout = -1;

    for (struct ep_host *host = ep_host_next(vm, NULL), *next; host != NULL; host = next) {
        next = ep_host_next(vm, host);
        if (host->died_at_ns == 0 && !atomic_load(&host->forgotten))
            continue;
        if (atomic_load(&host->forgotten) || is_overdue(host, (now - host->died_at_ns) / 1000000))
            ep_reaper_bury(vm, host);
        else
            timeout = EXIT_VALUE_AGAIN_MS;
    }
    return timeout;
}

/* Gives each host that has something left a batch. Returns the next time-out in ms: at once
 * while there is more, so that news of other hosts come in between. */
static int go_round(struct ep_vm *vm)
{
    int timeout = -1;

    for (struct ep_host *host = ep_host_next(vm, NULL); host != NULL;
         host = ep_host_next(vm, host)) {
        bool wants = atomic_load_explicit(&host->wants_round, memory_order_relaxed)
                     || host->notes_wait || is_due(host);
        if (wants) {
            atomic_store(&host->wants_round, false);
            drain(host);
        }
        if (host->watched_until_ns != 0)
            timeout = earlier(timeout, EP_SEND_LOOK_MS);
        if (ep_drops_ripen(host))
            timeout = earlier(timeout, DROPS_AGAIN_MS);
        if (host->notes_wait)
            timeout = earlier(timeout, NOTES_AGAIN_MS);
        if (atomic_load(&host->wants_round))
            timeout = 0;
    }
    return timeout;
}

/* What a new thread gets. */
struct start {
    struct ep_vm *vm;
    sem_t go; /* the thread before it has ended */
};

static void *run(void *argument)
{
    struct start *start = argument;
    struct ep_vm *vm = start->vm;
    struct ep_wait_event events[EVENTS_MAX];
    sigset_t all;

    /* Signals belong to the VM's own threads. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (sem_wait(&start->go) < 0) { /* EINTR */
    }
    (void)sem_destroy(&start->go);
    enif_free(start);

    while (!atomic_load_explicit(&vm->stop, memory_order_acquire)) {
        int timeout = add_sources(vm);
        timeout = earlier(timeout, bury_overdue(vm));
        timeout = earlier(timeout, ep_shrink_run(vm));
        timeout = earlier(timeout, ep_arrays_look(vm));
        timeout = earlier(timeout, ep_objects_look(vm));
        timeout = earlier(timeout, go_round(vm));
        int n = ep_wait_next(vm->wait, events, EVENTS_MAX, timeout);
        for (int i = 0; i < n; i++)
            handle(vm, events[i].tag);
    }
    return NULL;
}

/* Makes a thread, which does nothing yet. */
static int create_thread(struct ep_vm *vm, struct start **ret_start, ErlNifTid *ret_thread)
{
    struct start *start = enif_alloc(sizeof(*start));

    if (start == NULL)
        return -ENOMEM;
    start->vm = vm;
    (void)sem_init(&start->go, 0, 0);
    int rc = -enif_thread_create("ep_reaper", ret_thread, run, start, NULL);
    if (rc < 0) {
        (void)sem_destroy(&start->go);
        enif_free(start);
        return rc;
    }
    *ret_start = start;
    return 0;
}

/* The thread before it, if there was one, has ended. */
static void let_go(struct ep_vm *vm, struct start *start, ErlNifTid thread)
{
    atomic_store(&vm->stop, false);
    vm->reaper = thread;
    vm->reaper_runs = true;
    (void)sem_post(&start->go);
}

static void join(struct ep_vm *vm)
{
    atomic_store_explicit(&vm->stop, true, memory_order_release);
    ep_wake_reaper(vm);
    (void)enif_thread_join(vm->reaper, NULL);
    vm->reaper_runs = false;
}

int ep_reaper_start(struct ep_vm *vm)
{
    struct start *start;
    ErlNifTid thread;

    int rc = ep_wait_create(&vm->wait);
    if (rc < 0)
        return rc;
    vm->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vm->wake_fd < 0) {
        rc = -errno;
        goto destroy_wait;
    }
    rc = ep_wait_add(vm->wait, vm->wake_fd, TAG(0, SOURCE_WAKE));
    if (rc < 0)
        goto close_wake;
    rc = create_thread(vm, &start, &thread);
    if (rc < 0)
        goto close_wake;
    let_go(vm, start, thread);
    return 0;

close_wake:
    (void)close(vm->wake_fd);
    vm->wake_fd = -1;
destroy_wait:
    ep_wait_destroy(vm->wait);
    vm->wait = NULL;
    return rc;
}

int ep_reaper_hand_over(struct ep_vm *vm)
{
    struct start *start;
    ErlNifTid thread;

    int rc = create_thread(vm, &start, &thread);
    if (rc < 0)
        return rc;
    if (vm->reaper_runs)
        join(vm);
    let_go(vm, start, thread);
    return 0;
}

void ep_reaper_stop(struct ep_vm *vm)
{
    if (!vm->reaper_runs)
        return;
    join(vm);
    ep_remains_end(vm);
    ep_wait_destroy(vm->wait);
    vm->wait = NULL;
    /* Objects that outlive the library may still want to wake somebody. */
    pthread_mutex_lock(&vm->wake_lock);
    (void)close(vm->wake_fd);
    vm->wake_fd = -1;
    pthread_mutex_unlock(&vm->wake_lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_reaper.h"

#include "ep_atoms.h"
#include "ep_host.h"
#include "ep_shrink.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* What an fd of the wait set is; the low bits of its tag, below the id. */
enum source { SOURCE_WAKE, SOURCE_DOORBELL, SOURCE_PIDFD, SOURCE_LAUNCHER };
#define TAG(id, source) ((uint64_t)(id) << 2 | (uint64_t)(source))

#define EVENTS_MAX 32
/* How long a death waits for the launcher to say what it was. */
#define EXIT_VALUE_WAIT_MS 50

static void drain_eventfd(int fd)
{
    uint64_t value;
    struct iovec iov = {.iov_base = &value, .iov_len = sizeof(value)};

    /* Never a plain read: a worker shares the open file and could have cleared
     * O_NONBLOCK and drained it, and then the read would block. */
    ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
    if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
        n = read(fd, &value, sizeof(value));
    (void)n;
}

void ep_reaper_wake(struct ep_vm *vm)
{
    uint64_t one = 1;

    /* Our own eventfd, non-blocking: full means that it is awake anyway. */
    ssize_t n = write(vm->wake_fd, &one, sizeof(one));
    (void)n;
}

struct ep_host *ep_reaper_find_host(struct ep_vm *vm, uint64_t id)
{
    pthread_mutex_lock(&vm->lock);
    struct ep_host *host = vm->hosts;
    while (host != NULL && host->id != id)
        host = host->next;
    pthread_mutex_unlock(&vm->lock);
    /* Only the reaper ends hosts, so it needs no reference of its own. */
    return host;
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

static bool unlink_host(struct ep_vm *vm, struct ep_host *host)
{
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

void ep_reaper_forget(struct ep_vm *vm, struct ep_host *host)
{
    if (unlink_host(vm, host))
        enif_release_resource(host);
}

void ep_reaper_bury(struct ep_vm *vm, struct ep_host *host)
{
    if (host->doorbell_added)
        (void)ep_wait_remove(vm->wait, host->doorbell, TAG(host->id, SOURCE_DOORBELL));
    if (host->pidfd_added)
        (void)ep_wait_remove(vm->wait, host->pidfd, TAG(host->id, SOURCE_PIDFD));
    ep_host_reap(host);
    if (unlink_host(vm, host))
        enif_release_resource(host);
}

/* Adds what came since the last look. False: out of resources, try again later. */
static void add_sources(struct ep_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    for (struct ep_host *host = vm->hosts; host != NULL; host = host->next) {
        if (!host->doorbell_added)
            host->doorbell_added =
                ep_wait_add(vm->wait, host->doorbell, TAG(host->id, SOURCE_DOORBELL)) == 0;
        if (!host->pidfd_added && host->pidfd >= 0)
            host->pidfd_added =
                ep_wait_add(vm->wait, host->pidfd, TAG(host->id, SOURCE_PIDFD)) == 0;
    }
    for (struct ep_launcher *l = vm->launchers; l != NULL; l = l->next)
        if (!l->added)
            l->added = ep_wait_add(vm->wait, l->socket, TAG(l->id, SOURCE_LAUNCHER)) == 0;
    pthread_mutex_unlock(&vm->lock);
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
    for (struct ep_host *host = vm->hosts, *next; host != NULL; host = next) {
        next = host->next;
        if (host->launcher_id == launcher->id && host->pidfd < 0)
            ep_reaper_bury(vm, host);
    }
    ErlNifEnv *env = enif_alloc_env();
    (void)enif_send(
        NULL, &launcher->owner, env,
        enif_make_tuple3(env, am_py_launcher, enif_make_uint64(env, launcher->id), am_gone));
    enif_free_env(env);
    enif_release_resource(launcher);
}

static void handle(struct ep_vm *vm, uint64_t tag)
{
    uint64_t id = tag >> 2;
    struct ep_host *host;
    struct ep_launcher *launcher;

    switch ((enum source)(tag & 3)) {
    case SOURCE_WAKE: drain_eventfd(vm->wake_fd); break;
    case SOURCE_DOORBELL:
        host = ep_reaper_find_host(vm, id);
        if (host == NULL)
            break;
        atomic_fetch_add_explicit(&vm->doorbells, 1, memory_order_relaxed);
        drain_eventfd(host->doorbell);
        ep_host_drain(host);
        break;
    case SOURCE_PIDFD:
        host = ep_reaper_find_host(vm, id);
        if (host == NULL || host->died_at_ns != 0)
            break;
        (void)ep_wait_remove(vm->wait, host->pidfd, tag);
        host->died_at_ns = ep_clock_ns();
        break;
    case SOURCE_LAUNCHER:
        launcher = find_launcher(vm, id);
        if (launcher != NULL && !ep_launcher_read(launcher))
            launcher_gone(vm, launcher);
        break;
    }
}

/* Ends the dead whose exit value does not come. Returns the next time-out in ms. */
static int bury_overdue(struct ep_vm *vm)
{
    uint64_t now = ep_clock_ns();
    int timeout = -1;

    for (struct ep_host *host = vm->hosts, *next; host != NULL; host = next) {
        next = host->next;
        if (host->died_at_ns == 0)
            continue;
        if (now - host->died_at_ns >= EXIT_VALUE_WAIT_MS * 1000000ull)
            ep_reaper_bury(vm, host);
        else
            timeout = EXIT_VALUE_WAIT_MS;
    }
    return timeout;
}

/* The earlier of two time-outs; negative: never. */
static int earlier(int a, int b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

static void *run(void *argument)
{
    struct ep_vm *vm = argument;
    struct ep_wait_event events[EVENTS_MAX];
    sigset_t all;

    /* Signals belong to the VM's own threads. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);

    while (!atomic_load_explicit(&vm->stop, memory_order_acquire)) {
        add_sources(vm);
        int n = ep_wait_next(vm->wait, events, EVENTS_MAX,
                             earlier(bury_overdue(vm), ep_shrink_run(vm)));
        for (int i = 0; i < n; i++)
            handle(vm, events[i].tag);
    }
    return NULL;
}

int ep_reaper_start(struct ep_vm *vm)
{
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
    atomic_store(&vm->stop, false);
    rc = -enif_thread_create("ep_reaper", &vm->reaper, run, vm, NULL);
    if (rc < 0)
        goto close_wake;
    vm->reaper_runs = true;
    return 0;

close_wake:
    (void)close(vm->wake_fd);
destroy_wait:
    ep_wait_destroy(vm->wait);
    vm->wait = NULL;
    return rc;
}

void ep_reaper_stop(struct ep_vm *vm)
{
    if (!vm->reaper_runs)
        return;
    atomic_store_explicit(&vm->stop, true, memory_order_release);
    ep_reaper_wake(vm);
    (void)enif_thread_join(vm->reaper, NULL);
    vm->reaper_runs = false;
    ep_wait_destroy(vm->wait);
    vm->wait = NULL;
    (void)close(vm->wake_fd);
    /* A successor's wait set starts empty. */
    for (struct ep_host *host = vm->hosts; host != NULL; host = host->next)
        host->doorbell_added = host->pidfd_added = false;
    for (struct ep_launcher *l = vm->launchers; l != NULL; l = l->next)
        l->added = false;
}

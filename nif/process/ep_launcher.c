/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_launcher.h"

#include "ep_atoms.h"
#include "ep_control.h"
#include "ep_exit.h"
#include "ep_fdpass.h"
#include "ep_host.h"
#include "ep_peer.h"
#include "ep_wake.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

ErlNifResourceType *ep_launcher_type;

#define JOIN_TIMEOUT_MS 10000
#define JOIN_LOOK_MS 100

void ep_launcher_destroy(ErlNifEnv *env, void *object)
{
    struct ep_launcher *launcher = object;

    (void)env;
    if (launcher->vm == NULL)
        return;
    if (launcher->listener >= 0)
        (void)close(launcher->listener);
    if (launcher->socket >= 0)
        (void)close(launcher->socket);
}

static void to_hex(const uint8_t *bytes, size_t n, char *text)
{
    for (size_t i = 0; i < n; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

int ep_launcher_open(struct ep_vm *vm, const ErlNifPid *owner, char *name,
                     struct ep_launcher **ret_launcher)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t random[16];

    struct ep_launcher *launcher = enif_alloc_resource(ep_launcher_type, sizeof(*launcher));
    if (launcher == NULL)
        return -ENOMEM;
    memset(launcher, 0, sizeof(*launcher));
    launcher->vm = vm;
    launcher->owner = *owner;
    launcher->socket = -1;
    launcher->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    int rc = 0;
    if (launcher->listener < 0 || getrandom(random, sizeof(random), 0) != sizeof(random)
        || getrandom(launcher->token, sizeof(launcher->token), 0) != sizeof(launcher->token)) {
        rc = -errno;
        goto release;
    }
    /* In the abstract name space: no file, and gone with the socket. */
    (void)snprintf(name, 64, "erlang_python-");
    to_hex(random, sizeof(random), name + strlen(name));
    memcpy(address.sun_path + 1, name, strlen(name));
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    if (bind(launcher->listener, (struct sockaddr *)&address, length) < 0
        || listen(launcher->listener, 4) < 0) {
        rc = -errno;
        goto release;
    }
    *ret_launcher = launcher;
    return 0;

release:
    enif_release_resource(launcher);
    return rc;
}

static int wait_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int n;

    do {
        n = poll(&poll_fd, 1, timeout_ms);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

/* -ECHILD: the process has ended. Its parent takes it away at once. */
static int wait_for_connection(struct ep_launcher *launcher, int64_t os_pid)
{
    uint64_t start = ep_clock_ns();
    int rc;

    while ((rc = wait_readable(launcher->listener, JOIN_LOOK_MS)) == -ETIMEDOUT) {
        if (kill((pid_t)os_pid, 0) < 0 && errno == ESRCH)
            return -ECHILD;
        if (ep_clock_ns() - start >= JOIN_TIMEOUT_MS * 1000000ull)
            break;
    }
    return rc;
}

/* Only the process we started, with the token we gave it, is our launcher. */
static int check_peer(struct ep_launcher *launcher, int fd, int64_t os_pid)
{
    struct ep_control_event event;
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return -errno;
    if (peer.pid != os_pid)
        return -EACCES;
    int rc = wait_readable(fd, JOIN_TIMEOUT_MS);
    if (rc < 0)
        return rc;
    ssize_t n = ep_fdpass_receive(fd, &event, sizeof(event), NULL);
    if (n < 0)
        return (int)n;
    if (n != sizeof(event) || event.version != EP_CONTROL_VERSION || event.kind != EP_CONTROL_READY
        || memcmp(event.token, launcher->token, sizeof(event.token)) != 0)
        return -EACCES;
    return 0;
}

int ep_launcher_join(struct ep_launcher *launcher, int64_t os_pid)
{
    struct ep_vm *vm = launcher->vm;
    int fd, rc;

    do {
        rc = wait_for_connection(launcher, os_pid);
        if (rc < 0)
            return rc;
        fd = accept4(launcher->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return -errno;
        rc = check_peer(launcher, fd, os_pid);
        if (rc < 0)
            (void)close(fd);
    } while (rc == -EACCES); /* a stranger: go on waiting for ours */
    if (rc < 0)
        return rc;

    (void)close(launcher->listener);
    launcher->listener = -1;
    launcher->socket = fd;
    pthread_mutex_lock(&vm->lock);
    launcher->id = vm->next_id++;
    launcher->next = vm->launchers;
    vm->launchers = launcher;
    enif_keep_resource(launcher);
    pthread_mutex_unlock(&vm->lock);
    ep_wake_reaper(vm);
    return 0;
}

/* The process runs, but there was no number left for its pidfd, so it cannot be watched. */
static void give_up(struct ep_launcher *launcher, struct ep_host *host)
{
    struct ep_control_request *request = enif_alloc(sizeof(*request));

    host->exit_value = EP_EXIT_VALUE_ERRNO - EMFILE;
    host->exit_known = true;
    /* It ends by itself when the pipe does; if it is stopped, the launcher kills it. */
    ep_host_hang_up(host);
    if (request == NULL)
        return;
    memset(request, 0, sizeof(*request));
    request->version = EP_CONTROL_VERSION;
    request->kind = EP_CONTROL_KILL;
    request->worker_id = host->id;
    (void)ep_fdpass_send(launcher->socket, request, ep_control_request_size(0), NULL, 0);
    enif_free(request);
}

static void host_spawned(struct ep_host *host, int64_t os_pid, int pidfd)
{
    host->pidfd = pidfd;
    atomic_store(&host->os_pid, os_pid);
    atomic_store(&host->kill_pidfd, pidfd);
    if (atomic_load(&host->kill_reason) != EP_KILL_NONE)
        (void)ep_peer_kill(host, EP_KILL_ASKED);

    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM event = enif_make_tuple2(env, am_spawned, enif_make_int64(env, os_pid));
    (void)enif_send(NULL, &host->owner, env,
                    enif_make_tuple3(env, am_py_host, enif_make_uint64(env, host->id), event));
    enif_free_env(env);
}

/* Without memory they are not known. */
static void keep_words(struct ep_host *host, const char *text, size_t size)
{
    if (host->words != NULL || size == 0 || (host->words = enif_alloc(size)) == NULL)
        return;
    memcpy(host->words, text, size);
    host->n_words = size;
}

/* With so many bytes of text behind it. Returns the host if that has ended, or NULL. */
static struct ep_host *handle_event(struct ep_launcher *launcher,
                                    const struct ep_control_words *words, size_t size, int fds[])
{
    const struct ep_control_event *event = &words->event;
    struct ep_host *host = ep_host_find(launcher->vm, event->worker_id);

    if (host == NULL)
        return NULL;
    switch (event->kind) {
    case EP_CONTROL_SPAWNED:
        if (host->pidfd >= 0)
            return NULL;
        if (fds[0] < 0) {
            give_up(launcher, host);
            return NULL;
        }
        host_spawned(host, event->value, fds[0]);
        fds[0] = -1;
        break;
    case EP_CONTROL_FAILED:
    case EP_CONTROL_EXITED:
        if (!host->exit_known)
            host->exit_value = event->kind == EP_CONTROL_EXITED
                                   ? event->value
                                   : EP_EXIT_VALUE_ERRNO - event->value;
        host->exit_known = true;
        return host;
    case EP_CONTROL_WROTE: keep_words(host, words->text, size); break;
    default: break;
    }
    return NULL;
}

int ep_launcher_read(struct ep_launcher *launcher, struct ep_host **ret_ended)
{
    struct ep_control_words words;
    const struct ep_control_event *event = &words.event;
    int fds[EP_FDPASS_MAX];

    for (;;) {
        ssize_t n = ep_fdpass_receive(launcher->socket, &words, sizeof(words), fds);
        if (n < 0)
            return n == -EAGAIN ? 0 : (int)n;
        struct ep_host *ended = NULL;
        if (n >= (ssize_t)sizeof(*event) && event->version == EP_CONTROL_VERSION
            && (n == sizeof(*event) || event->kind == EP_CONTROL_WROTE))
            ended = handle_event(launcher, &words, (size_t)n - sizeof(*event), fds);
        for (int i = 0; i < EP_FDPASS_MAX; i++)
            if (fds[i] >= 0)
                (void)close(fds[i]);
        if (ended != NULL) {
            *ret_ended = ended;
            return 1;
        }
    }
}

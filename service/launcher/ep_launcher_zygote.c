/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_launcher_zygote.h"

#include "ep_fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ep_launcher_worker *find_id(const struct ep_launcher_table *table, uint64_t id)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->workers[i].id == id)
            return &table->workers[i];
    }
    return NULL;
}

static bool is_zygote(const struct ep_launcher_worker *worker)
{
    return worker != NULL && worker->zygote >= 0 && !worker->is_dead;
}

int ep_launcher_zygote_fork(struct ep_launcher_table *table,
                            const struct ep_control_request *request, const int fds[EP_WORKER_FDS])
{
    int all_fds[EP_FDPASS_MAX];
    struct ep_tail tail;

    const struct ep_launcher_worker *zygote = find_id(table, request->zygote_id);
    if (!is_zygote(zygote))
        return -ESRCH;
    int socket = zygote->zygote;
    int rc = ep_launcher_table_make_room(table);
    if (rc < 0)
        return rc;
    memcpy(all_fds, fds, EP_WORKER_FDS * sizeof(*fds));
    rc = ep_tail_init(&tail, &all_fds[EP_WORKER_FDS]);
    if (rc < 0)
        return rc;
    rc = ep_fdpass_send(socket, request, ep_control_request_size(request->settings_size), all_fds,
                        EP_WORKER_FDS + 1);
    (void)close(all_fds[EP_WORKER_FDS]);
    if (rc < 0) {
        ep_tail_finish(&tail);
        return rc == -EPIPE ? -ESRCH : rc;
    }
    table->workers[table->count++] = (struct ep_launcher_worker){
        .id = request->worker_id, .zygote = -1, .zygote_id = request->zygote_id, .tail = tail};
    return 0;
}

/* 0: there is no such process. */
static pid_t parent_of(pid_t pid)
{
    char path[64], text[512];

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* The name may contain anything; it ends with the last parenthesis. */
    const char *at = strrchr(text, ')');
    return at == NULL || strlen(at) < 5 ? 0 : (pid_t)strtol(at + 4, NULL, 10);
}

/* Whether the worker is the grandchild of the zygote, and of nobody's else. */
static bool is_grandchild(const struct ep_launcher_table *table, pid_t pid, pid_t zygote)
{
    pid_t between = pid > 1 ? parent_of(pid) : 0;

    return between > 1 && between != zygote && parent_of(between) == zygote
           && ep_launcher_table_find(table, pid) == NULL;
}

void ep_launcher_zygote_end_stopped(const struct ep_launcher_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct ep_launcher_worker *worker = &table->workers[i];
        siginfo_t info = {.si_pid = 0};

        if (is_zygote(worker) && waitid(P_PID, (id_t)worker->pid, &info, WSTOPPED | WNOHANG) == 0
            && info.si_pid != 0)
            (void)kill(worker->pid, SIGKILL);
    }
}

static void forget(struct ep_launcher_table *table, struct ep_launcher_worker *worker)
{
    ep_tail_finish(&worker->tail);
    *worker = table->workers[--table->count];
}

/* Returns whether there is an event for the VM. */
static bool take(struct ep_launcher_table *table, const struct ep_launcher_worker *zygote,
                 struct ep_control_event *event, int *ret_pidfd)
{
    struct ep_launcher_worker *worker = find_id(table, event->worker_id);

    if (worker == NULL || worker->pid != 0 || worker->zygote_id != zygote->id)
        return false; /* nobody has asked for it */
    pid_t pid = event->kind == EP_CONTROL_FORKED ? (pid_t)event->value : 0;
    if (pid != 0 && is_grandchild(table, pid, zygote->pid)) {
        *ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (*ret_pidfd >= 0) {
            worker->pid = pid;
            if (worker->is_doomed)
                (void)kill(pid, SIGKILL);
            event->kind = EP_CONTROL_SPAWNED;
            return true;
        }
    }
    if (event->kind != EP_CONTROL_FAILED)
        event->value = ECHILD; /* it has died, or is none of ours */
    event->kind = EP_CONTROL_FAILED;
    forget(table, worker);
    return true;
}

/* A worker that a zygote was to fork which has gone. */
static bool take_orphan(struct ep_launcher_table *table, struct ep_control_event *ret_event)
{
    for (size_t i = 0; i < table->count; i++) {
        struct ep_launcher_worker *worker = &table->workers[i];
        if (worker->pid != 0 || is_zygote(find_id(table, worker->zygote_id)))
            continue;
        *ret_event = (struct ep_control_event){
            .kind = EP_CONTROL_FAILED, .worker_id = worker->id, .value = ESRCH};
        forget(table, worker);
        return true;
    }
    return false;
}

bool ep_launcher_zygote_read(struct ep_launcher_table *table, struct ep_control_event *ret_event,
                             int *ret_pidfd, int *ret_known)
{
    int fds[EP_FDPASS_MAX];

    *ret_pidfd = *ret_known = -1;
    for (size_t i = 0; i < table->count; i++) {
        struct ep_launcher_worker *zygote = &table->workers[i];
        while (zygote->zygote >= 0) {
            ssize_t n = ep_fdpass_receive(zygote->zygote, ret_event, sizeof(*ret_event), fds);
            if (n == -EAGAIN)
                break;
            if (n != sizeof(*ret_event)) {
                /* It has ended, or makes no sense. Its death is seen like any other. */
                (void)close(zygote->zygote);
                zygote->zygote = -1;
                (void)kill(zygote->pid, SIGKILL);
                for (int f = 0; n >= 0 && f < EP_FDPASS_MAX; f++) {
                    if (fds[f] >= 0)
                        (void)close(fds[f]);
                }
                break;
            }
            for (int f = 1; f < EP_FDPASS_MAX; f++) {
                if (fds[f] >= 0)
                    (void)close(fds[f]);
            }
            if (take(table, zygote, ret_event, ret_pidfd)) {
                *ret_known = fds[0];
                return true;
            }
            if (fds[0] >= 0)
                (void)close(fds[0]);
        }
    }
    return take_orphan(table, ret_event);
}

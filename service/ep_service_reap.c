/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int ep_service_reap(struct ep_service_table *table, struct ep_control_event *ret_event)
{
    siginfo_t info = {.si_pid = 0};

    /* WNOWAIT: as long as it is not reaped, its pid names its process group and
     * nothing else. */
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    if (info.si_pid == 0)
        return -EAGAIN;

    struct ep_service_worker *worker = ep_service_find(table, info.si_pid);
    if (worker != NULL) {
        (void)kill(-worker->pid, SIGKILL);
        *ret_event = (struct ep_control_event){
            .kind = EP_CONTROL_EXITED,
            .worker_id = worker->id,
            .value = info.si_code == CLD_EXITED ? info.si_status : 256 + info.si_status,
        };
        *worker = table->workers[--table->count];
    }
    (void)waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    return worker != NULL;
}

/* Reads at most size - 1 bytes of a file and ends them with a NUL. Returns how
 * many, or a negative errno. */
static ssize_t read_file(const char *path, char *ret_text, size_t size)
{
    size_t n = 0;
    ssize_t got;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    do {
        got = read(fd, ret_text + n, size - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    } while (got > 0 && n < size - 1);
    (void)close(fd);
    ret_text[n] = '\0';
    return (ssize_t)n;
}

/* The worker that the process descends from: its pid, 0 if it does not say, or -1 if
 * there is nothing to read, as in the middle of an execve. */
static pid_t mark_of(pid_t pid)
{
    static const char name[] = "\0" EP_SERVICE_MARK "=";
    static char text[1 << 16]; /* the mark is put last, but rarely beyond this */
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
    text[0] = '\0';
    ssize_t size = read_file(path, text + 1, sizeof(text) - 1);
    if (size <= 0)
        return -1;
    const char *at = memmem(text, (size_t)size + 1, name, sizeof(name) - 1);
    return at == NULL ? 0 : (pid_t)strtol(at + sizeof(name) - 1, NULL, 10);
}

static bool is_abandoned(const struct ep_service_table *table, pid_t pid, bool *ret_unsure)
{
    if (ep_service_find(table, getpgid(pid)) != NULL)
        return false;
    pid_t worker = mark_of(pid);
    if (worker < 0 && table->count > 0) {
        *ret_unsure = true;
        return false;
    }
    return worker > 0 ? ep_service_find(table, worker) == NULL : table->count == 0;
}

bool ep_service_sweep(const struct ep_service_table *table, bool everybody)
{
    bool unsure = false;
    static char text[1 << 16];
    char *at = text, *end;

    /* What does not fit in one reading comes with the next SIGCHLD. */
    if (read_file("/proc/thread-self/children", text, sizeof(text)) <= 0)
        return false;
    for (;; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at)
            return unsure;
        if (pid <= 1)
            continue;
        if (everybody || (ep_service_find(table, pid) == NULL && is_abandoned(table, pid, &unsure)))
            (void)kill(pid, SIGKILL);
    }
}

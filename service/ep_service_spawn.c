/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_END (EP_WORKER_FD_CONTROL + 1)

struct ep_service_worker *ep_service_find(const struct ep_service_table *table, pid_t pid)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->workers[i].pid == pid)
            return &table->workers[i];
    }
    return NULL;
}

static int make_room(struct ep_service_table *table)
{
    if (table->count < table->capacity)
        return 0;
    size_t capacity = table->capacity == 0 ? 16 : table->capacity * 2;
    void *workers = realloc(table->workers, capacity * sizeof(*table->workers));
    if (workers == NULL)
        return -ENOMEM;
    table->workers = workers;
    table->capacity = capacity;
    return 0;
}

/* --- in the child ---------------------------------------------------------------- */

static void close_from(int least)
{
    if (syscall(SYS_close_range, (unsigned)least, ~0u, 0) == 0)
        return;
    struct rlimit limit = {.rlim_cur = 65536};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = least; fd < (int)limit.rlim_cur; fd++)
        (void)close(fd);
}

static int place_fds(const int fds[EP_WORKER_FDS])
{
    int high[EP_WORKER_FDS];

    /* Above the targets first: source and target numbers may overlap. */
    for (int i = 0; i < EP_WORKER_FDS; i++) {
        high[i] = fcntl(fds[i], F_DUPFD, FDS_END);
        if (high[i] < 0)
            return -errno;
    }
    for (int i = 0; i < EP_WORKER_FDS; i++) {
        if (dup2(high[i], EP_WORKER_FD_A + i) < 0)
            return -errno;
    }
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0)
        return -errno;
    close_from(FDS_END);
    return 0;
}

static void set_limits(void)
{
    const struct rlimit no_core = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &no_core);
    /* When memory is short, a worker should go before the VM. Best effort. */
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "500", 3);
        (void)close(fd);
    }
}

/* All of them to their default. Straight to the kernel, for the C library refuses
 * the two signals it keeps for itself, which a parent may have left ignored. */
static void reset_signals(void)
{
    static const char zero[64]; /* SIG_DFL, no flags, empty mask */

    for (int n = 1; n < NSIG; n++)
        (void)syscall(SYS_rt_sigaction, n, zero, NULL, NSIG / 8);
}

static _Noreturn void become_worker(const struct ep_control_request *request,
                                    const int fds[EP_WORKER_FDS], pid_t launcher)
{
    char mark[sizeof(EP_SERVICE_MARK) + 24];
    char *argv[] = {(char *)"ep_worker", (char *)request->python_path, (char *)request->module_path,
                    NULL};
    sigset_t none;

    (void)setpgid(0, 0);
    /* If the launcher died before this took effect, its death is seen below. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != launcher)
        _exit(127);
    reset_signals();
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    set_limits();
    (void)snprintf(mark, sizeof(mark), "%s=%ld", EP_SERVICE_MARK, (long)getpid());
    if (place_fds(fds) < 0 || putenv(mark) != 0)
        _exit(127);
    (void)execv(request->worker_path, argv);
    _exit(127);
}

/* --- in the launcher --------------------------------------------------------------- */

int ep_service_spawn(struct ep_service_table *table, const struct ep_control_request *request,
                     const int fds[EP_WORKER_FDS], pid_t *ret_pid, int *ret_pidfd)
{
    int rc = make_room(table);
    if (rc < 0)
        return rc;

    pid_t launcher = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        become_worker(request, fds, launcher);

    /* Both do it, so that it is done whoever comes first. */
    (void)setpgid(pid, pid);
    /* The child may be dead, but nobody has reaped it: the pid is still its own. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        rc = -errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return rc;
    }
    table->workers[table->count++] =
        (struct ep_service_worker){.id = request->worker_id, .pid = pid};
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}

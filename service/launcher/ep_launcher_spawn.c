/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_launcher_spawn.h"

#include "ep_fdpass.h"
#include "ep_launcher_mark.h"
#include "ep_launcher_temp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_MAX (EP_WORKER_FDS + 1)

static sigset_t ignored, blocked; /* in workers */

void ep_launcher_spawn_note_signals(void)
{
    /* The VM ignores the first two for itself. Without the others Python code could neither
     * be interrupted nor wait for its children. */
    static const int never[] = {SIGPIPE, SIGFPE, SIGINT, SIGCHLD};
    struct sigaction action;

    (void)sigemptyset(&ignored);
    for (int n = 1; n < NSIG; n++) {
        if (sigaction(n, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            (void)sigaddset(&ignored, n);
    }
    (void)sigprocmask(SIG_SETMASK, NULL, &blocked);
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        (void)sigdelset(&ignored, never[i]);
        (void)sigdelset(&blocked, never[i]);
    }
    /* The interrupter's (ep_py_interrupt.c) is among these. */
    for (int n = SIGRTMIN; n <= SIGRTMAX; n++)
        (void)sigdelset(&blocked, n);
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

static int place_fds(const int *fds, int n)
{
    int high[FDS_MAX], end = EP_WORKER_FD_A + n;

    /* Above the targets first: source and target numbers may overlap. */
    for (int i = 0; i < n; i++) {
        high[i] = fcntl(fds[i], F_DUPFD, end);
        if (high[i] < 0)
            return -errno;
    }
    for (int i = 0; i < n; i++) {
        if (dup2(high[i], EP_WORKER_FD_A + i) < 0)
            return -errno;
    }
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0)
        return -errno;
    close_from(end);
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

/* As the VM was started with them, and as a worker's own children shall have them. All
 * others to their default: straight to the kernel, for the C library refuses the two signals
 * that it keeps for itself, which a parent may have left ignored. */
static void reset_signals(void)
{
    static const char zero[64]; /* SIG_DFL, no flags, empty mask */

    for (int n = 1; n < NSIG; n++) {
        if (sigismember(&ignored, n) != 1)
            (void)syscall(SYS_rt_sigaction, n, zero, NULL, NSIG / 8);
        else
            (void)signal(n, SIG_IGN);
    }
    (void)sigprocmask(SIG_SETMASK, &blocked, NULL);
}

/* The VM finds the line among what the worker wrote. */
static _Noreturn void give_up(const char *what, const char *path, int error)
{
    char line[EP_CONTROL_STRING_MAX + 128];

    int n = snprintf(line, sizeof(line), "ep_launcher: %s%s: %s\n", what, path, strerror(error));
    if (n > 0)
        (void)!write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
    _exit(EP_EXIT_NOT_EXECUTED);
}

/* Of private memory: what the segments take does not count. */
static void limit_memory(const char *bytes)
{
    rlim_t most = (rlim_t)strtoull(bytes, NULL, 10);
    struct rlimit limit = {most, most};

    if (setrlimit(RLIMIT_DATA, &limit) < 0)
        give_up("cannot set the configured memory_limit ", bytes, errno);
}

static void apply_settings(const struct ep_control_request *request)
{
    const char *at = request->settings, *end = at + request->settings_size;

    if (at == end)
        return;
    if (at[0] != '\0' && chdir(at) < 0)
        give_up("cannot enter the configured working directory (cwd) ", at, errno);
    at += strlen(at) + 1;
    if (at < end && at[0] != '\0')
        limit_memory(at);
    if (at < end)
        at += strlen(at) + 1; /* the sandbox is the worker's own */
    while (at < end && (at += strlen(at) + 1) < end && at[0] != '\0') {
        /* The request lives until the worker is executed. */
        int rc = strchr(at, '=') != NULL ? putenv((char *)at) : unsetenv(at);
        if (rc != 0)
            give_up("cannot set the configured environment (env) of a worker", "", errno);
    }
}

static const char *sandbox_of(const struct ep_control_request *request)
{
    return ep_control_setting(request, EP_CONTROL_SETTINGS_FIRST - 1);
}

/* The private directory of a worker. */
static const char *make_temp(uint64_t worker_id)
{
    static char path[PATH_MAX];

    int rc = ep_launcher_temp_make(worker_id, path, sizeof(path));
    if (rc < 0)
        give_up("no private directory for temporary files (sandbox strict) can be had in ",
                ep_launcher_temp_parent(), -rc);
    return path;
}

static _Noreturn void become_worker(const struct ep_control_request *request, const int *fds,
                                    int n_fds, int error_fd, pid_t launcher)
{
    char mark[sizeof(EP_LAUNCHER_MARK) + 24];
    bool is_zygote = n_fds > EP_WORKER_FDS;
    const char *sandbox = sandbox_of(request);
    char *argv[] = {(char *)"ep_worker",
                    (char *)request->python_path,
                    (char *)request->module_path,
                    is_zygote ? (char *)"zygote" : NULL,
                    (char *)sandbox,
                    (char *)"",
                    NULL};

    (void)dup2(error_fd, STDERR_FILENO);
    (void)setpgid(0, 0);
    /* If the launcher died before this took effect, its death is seen below. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != launcher)
        _exit(EP_EXIT_NOT_EXECUTED);
    reset_signals();
    set_limits();
    (void)snprintf(mark, sizeof(mark), EP_LAUNCHER_MARK "=" EP_LAUNCHER_MARK_FORMAT,
                   (long)getpid());
    int rc = place_fds(fds, n_fds);
    if (rc < 0)
        give_up("cannot place the descriptors of a worker", "", -rc);
    apply_settings(request);
    if (putenv(mark) != 0)
        give_up("cannot set the environment of a worker", "", errno);
    if (sandbox[0] == '\0') {
        argv[4] = NULL;
    } else if (!is_zygote) {
        argv[3] = (char *)"worker";
        if (strcmp(sandbox, "strict") == 0)
            argv[5] = (char *)make_temp(request->worker_id);
    }
    (void)execv(request->worker_path, argv);
    give_up("cannot execute ", request->worker_path, errno);
}

/* --- in the launcher --------------------------------------------------------------- */

static void close_ends(const int ends[2])
{
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0)
            (void)close(ends[i]);
    }
}

/* The socket of a zygote, with the request in it, which says what to prepare. */
static int open_zygote(const struct ep_control_request *request, int ret_ends[2])
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    int rc =
        ep_fdpass_send(ends[0], request, ep_control_request_size(request->settings_size), NULL, 0);
    if (rc < 0) {
        close_ends(ends);
        return rc;
    }
    memcpy(ret_ends, ends, sizeof(ends));
    return 0;
}

int ep_launcher_spawn(struct ep_launcher_table *table, const struct ep_control_request *request,
                      const int fds[EP_WORKER_FDS], pid_t *ret_pid, int *ret_pidfd)
{
    int all_fds[FDS_MAX], ends[2] = {-1, -1}, n_fds = EP_WORKER_FDS;
    struct ep_tail tail;
    int error_fd = -1;

    int rc = ep_launcher_table_make_room(table);
    if (rc == 0 && request->kind == EP_CONTROL_ZYGOTE)
        rc = open_zygote(request, ends);
    if (rc == 0)
        rc = ep_tail_init(&tail, &error_fd);
    if (rc < 0) {
        close_ends(ends);
        return rc;
    }
    memcpy(all_fds, fds, EP_WORKER_FDS * sizeof(*fds));
    if (ends[1] >= 0)
        all_fds[n_fds++] = ends[1];

    if (strcmp(sandbox_of(request), "strict") == 0)
        ep_launcher_temp_prepare();
    pid_t launcher = getpid();
    pid_t pid = fork();
    rc = pid < 0 ? -errno : 0;
    if (pid == 0)
        become_worker(request, all_fds, n_fds, error_fd, launcher);
    (void)close(error_fd);
    if (ends[1] >= 0)
        (void)close(ends[1]);
    ends[1] = -1;
    if (rc < 0) {
        close_ends(ends);
        ep_tail_finish(&tail);
        return rc;
    }

    /* Both do it, so that it is done whoever comes first. */
    (void)setpgid(pid, pid);
    /* The child may be dead, but nobody has reaped it: the pid is still its own. */
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        rc = -errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        close_ends(ends);
        ep_tail_finish(&tail);
        return rc;
    }
    table->workers[table->count++] = (struct ep_launcher_worker){
        .id = request->worker_id, .pid = pid, .zygote = ends[0], .tail = tail};
    *ret_pid = pid;
    *ret_pidfd = pidfd;
    return 0;
}

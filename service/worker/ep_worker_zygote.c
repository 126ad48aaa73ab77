/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_worker_zygote.h"

#include "ep_cpu.h"
#include "ep_crashpoint.h"
#include "ep_fdpass.h"
#include "ep_py_zygote.h"
#include "ep_worker_control.h"
#include "ep_worker_sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * Two forks for each worker, so that the launcher becomes its parent. Both are those of the C
 * library, for libraries rely on its handlers, and what Python does about a fork lies around
 * both of them: the process in between runs no Python.
 */

#define SOCKET EP_WORKER_FD_ZYGOTE
#define MARK "EP_LAUNCHER_MARK"
#define MARK_SIZE 10
#define TRIAL_LIMIT_MS 10000
/* A thread that has been joined is listed for a moment yet. */
#define LAST_LOOKS 100
/* For the process in between to end by itself; then the worker kills it, and at last gives up. */
#define PARENT_WAIT_NS UINT64_C(20000000)
#define PARENT_LIMIT_NS UINT64_C(1000000000)

static char *mark;      /* in the memory that /proc/PID/environ shows */
static char *directory; /* the configured one, or NULL */
static pid_t launcher;
static unsigned threads; /* at the last fork, when the libraries had prepared it */

static void pause_us(unsigned us)
{
    struct timespec pause = {.tv_nsec = (long)us * 1000};

    (void)nanosleep(&pause, NULL);
}

/* --- threads that a fork would leave behind -------------------------------------------- */

static unsigned count_threads(void)
{
    unsigned n = 0;

    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL)
        return 1;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    (void)closedir(dir);
    return n;
}

/* SUBTLE: handlers run in the opposite order of their registration, and this one was the first.
 * So libraries that end their threads before a fork, as OpenBLAS does, have done so. */
static void note_threads(void)
{
    for (unsigned i = 0; (threads = count_threads()) > 1 && i < LAST_LOOKS; i++)
        pause_us(100);
}

static bool has_threads(void)
{
    note_threads();
    return threads > 1;
}

static void note_threads_once(void)
{
    static bool is_done; /* counted for the trial only */

    if (!is_done)
        note_threads();
    is_done = true;
}

void ep_worker_zygote_note(void)
{
    mark = getenv(MARK);
    launcher = getppid();
    if (pthread_atfork(note_threads_once, NULL, NULL) != 0)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory");
}

static bool ends_well(pid_t pid)
{
    int status = 0;

    for (unsigned ms = 0; ms < TRIAL_LIMIT_MS; ms++) {
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid)
            return status == 0;
        if (ended < 0 && errno != EINTR)
            return false;
        pause_us(1000);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return false;
}

static void try_a_fork(void)
{
    char why[128];

    ep_py_zygote_before_fork();
    pid_t pid = fork();
    if (pid == 0) {
        ep_py_zygote_in_child();
        _exit(ep_py_zygote_try() ? 0 : 1);
    }
    ep_py_zygote_after_fork();
    if (pid < 0)
        ep_worker_die(EP_EXIT_NO_ZYGOTE, "nothing can be forked: no process");
    bool is_good = ends_well(pid);
    if (threads > 1) {
        (void)snprintf(why, sizeof(why),
                       "nothing can be forked: a library runs %u threads that a fork would leave "
                       "behind",
                       threads - 1);
        ep_worker_die(EP_EXIT_NO_ZYGOTE, why);
    }
    if (!is_good)
        ep_worker_die(EP_EXIT_NO_ZYGOTE,
                      "nothing can be forked: a child that was forked for a trial fails");
}

/* --- one worker ------------------------------------------------------------------------- */

static void say(uint32_t kind, uint64_t worker_id, int64_t value, const int *fd)
{
    struct ep_control_event event = {
        .version = EP_CONTROL_VERSION, .kind = kind, .worker_id = worker_id, .value = value};

    while (ep_fdpass_send(SOCKET, &event, sizeof(event), fd, fd == NULL ? 0 : 1) == -EAGAIN)
        pause_us(1000);
}

/* Until the launcher knows the worker, or has ended: the pipe has no other end then. */
static void wait_for_end(int pipe)
{
    struct pollfd p = {.fd = pipe};

    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        continue;
}

/* The process in between. */
static _Noreturn void introduce(pid_t worker, uint64_t worker_id, const int known[2])
{
    if (worker < 0) {
        say(EP_CONTROL_FAILED, worker_id, errno, NULL);
        _exit(1);
    }
    (void)setpgid(worker, worker);
    EP_CRASHPOINT("zygote.forked");
    say(EP_CONTROL_FORKED, worker_id, worker, &known[1]);
    (void)close(known[1]);
    wait_for_end(known[0]);
    EP_CRASHPOINT("zygote.known");
    _exit(0);
}

/* Somebody has stopped it. As long as it is the parent, it has its number, and the handle that was
 * opened meanwhile means it. */
static void kill_between(pid_t between)
{
    int fd = (int)syscall(SYS_pidfd_open, between, 0);

    if (fd < 0)
        return;
    if (getppid() == between)
        (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    (void)close(fd);
}

/* The process in between has said who this is, and ends: the launcher becomes the parent. Only a
 * parent can tell how a process ended, so the launcher would not know if that one stayed. */
static void await_parent(pid_t between)
{
    uint64_t start = ep_clock_ns(), waited;

    /* Another parent: the launcher has died, too, and whoever adopts orphans here is a stranger. */
    while (getppid() == between && (waited = ep_clock_ns() - start) < PARENT_LIMIT_NS) {
        if (waited >= PARENT_WAIT_NS)
            kill_between(between);
        pause_us(50);
    }
    /* If the launcher died before this took effect, its death is seen below. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != launcher)
        _exit(EP_EXIT_ASKED);
}

static void write_mark(void)
{
    char text[MARK_SIZE + 12];

    (void)snprintf(text, sizeof(text), "%010ld", (long)getpid());
    if (mark != NULL && strlen(mark) == MARK_SIZE)
        memcpy(mark, text, MARK_SIZE);
}

static void become_worker(struct ep_worker *zygote, pid_t between, const int known[2], int error_fd)
{
    (void)close(SOCKET);
    (void)close(zygote->doorbell);
    (void)close(zygote->control);
    (void)close(known[1]);
    (void)setpgid(0, 0);
    write_mark();
    (void)dup2(error_fd, STDERR_FILENO);
    (void)close(error_fd);
    /* The segments of the zygote are not mapped here. */
    *zygote = (struct ep_worker){
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .lane_ended = PTHREAD_COND_INITIALIZER,
    };
    EP_CRASHPOINT("zygote.child");
    /* It may have gone, or be another one under that name. */
    if (directory != NULL && chdir(directory) < 0)
        ep_worker_die(EP_EXIT_CANNOT_START, "cannot enter the configured working directory (cwd)");
    ep_py_zygote_in_child();
    ep_py_zygote_become_worker();
    /* Last: the process in between takes its time to end. */
    wait_for_end(known[0]);
    (void)close(known[0]);
    await_parent(between);
    ep_worker_sandbox_enter_again();
}

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
        fds[i] = -1;
    }
}

/* Returns whether this is the worker. */
static bool fork_worker(struct ep_worker *zygote, uint64_t worker_id, const int *fds)
{
    int known[2], status = 0;

    if (pipe2(known, O_CLOEXEC) < 0) {
        say(EP_CONTROL_FAILED, worker_id, errno, NULL);
        return false;
    }
    EP_CRASHPOINT("zygote.asked");
    ep_py_zygote_before_fork();
    pid_t between = fork();
    if (between == 0) {
        (void)prctl(PR_SET_NAME, "ep_worker"); /* what looks for zygotes finds none here */
        between = getpid();
        pid_t worker = fork();
        if (worker != 0)
            introduce(worker, worker_id, known);
        become_worker(zygote, between, known, fds[EP_WORKER_FDS]);
        return true;
    }
    int error = errno;
    close_all(known, 2);
    ep_py_zygote_after_fork();
    if (between < 0) {
        say(EP_CONTROL_FAILED, worker_id, error, NULL);
        return false;
    }
    while (waitpid(between, &status, 0) < 0 && errno == EINTR)
        continue;
    /* Without effect if the launcher has heard of the worker. */
    if (status != 0)
        say(EP_CONTROL_FAILED, worker_id, ECHILD, NULL);
    return false;
}

/* --- its life ---------------------------------------------------------------------------- */

static struct ep_control_request request;

/* Waits for a request of the launcher, with its fds. */
static void receive(const struct ep_worker *zygote, int fds[EP_FDPASS_MAX])
{
    for (;;) {
        struct pollfd p[2] = {{.fd = SOCKET, .events = POLLIN}, {.fd = zygote->control}};
        ssize_t n = ep_fdpass_receive(SOCKET, &request, sizeof(request), fds);
        if (n >= 0)
            return;
        if (n != -EAGAIN)
            _exit(EP_EXIT_ASKED);
        if (poll(p, 2, -1) > 0 && p[1].revents != 0)
            _exit(EP_EXIT_ASKED);
    }
}

/* What the launcher has sent with the settings, behind an empty string; the first ones may be
 * empty, too. */
static const char *find_plan(size_t *ret_size)
{
    const char *at = request.settings, *end = at + request.settings_size;

    for (unsigned i = 0; at < end; i++) {
        size_t length = strlen(at);
        at += length + 1;
        if (length == 0 && i >= EP_CONTROL_SETTINGS_FIRST)
            break;
    }
    *ret_size = (size_t)(end - at);
    return at;
}

void ep_worker_zygote_run(struct ep_worker *zygote, struct ep_worker_fds *ret_fds)
{
    int fds[EP_FDPASS_MAX];
    char why[EP_WORKER_WHY_SIZE];
    size_t size;

    (void)fcntl(SOCKET, F_SETFD, FD_CLOEXEC);
    receive(zygote, fds);
    const char *plan = find_plan(&size);
    if (request.settings_size > 0 && request.settings[0] != '\0')
        directory = strdup(request.settings);
    ep_py_zygote_attach();
    if (ep_py_zygote_prepare(plan, size, why, sizeof(why)) < 0)
        ep_worker_die(EP_EXIT_NO_ZYGOTE, why);
    /* Python alone survives. What a site module has imported may not. */
    if (size > 0 || has_threads())
        try_a_fork();
    ep_lane_worker_attach(&zygote->control_lane, zygote->a.mem, zygote->b.mem, zygote->c.mem,
                          zygote->n_lanes, 0);
    ep_worker_control_greet(zygote);
    for (;;) {
        receive(zygote, fds);
        bool is_fork = request.kind == EP_CONTROL_FORK && fds[EP_WORKER_FDS] >= 0;
        if (is_fork && fork_worker(zygote, request.worker_id, fds))
            break;
        close_all(fds, EP_FDPASS_MAX);
    }
    *ret_fds = (struct ep_worker_fds){fds[0], fds[1], fds[2], fds[3], fds[4]};
}

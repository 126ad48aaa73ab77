/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_control.h"
#include "ep_cpu.h"
#include "ep_fdpass.h"
#include "ep_launcher_reap.h"
#include "ep_launcher_request.h"
#include "ep_launcher_spawn.h"
#include "ep_launcher_table.h"
#include "ep_launcher_temp.h"
#include "ep_launcher_zygote.h"
#include "ep_outlet.h"
#include "ep_tail.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * ep_launcher SOCKET: a port program of the VM (nouse_stdio). On fd 3 it reads a token, which
 * everybody could see among its arguments, and proves with it that the VM has started it. The
 * VM's life is that pipe and the socket; when either ends, or anything more is written to
 * the pipe, everything ends that was started here. No signal but SIGKILL ends it: a signal
 * to all processes of the node is for the VM to judge.
 *
 * One thread, no Python, no shared memory: it outlives whatever a worker does.
 */

#define PORT_IN 3
#define PORT_OUT 4
#define SWEEP_AGAIN_MS 20
#define SWEEPS_AGAIN 50
#define TRACKERS_LOOK_MS 100
#define CLEANUP_LIMIT_NS UINT64_C(3000000000)
/* Of this, for what has to be killed after that. */
#define KILL_LIMIT_NS UINT64_C(1000000000)
#define LAST_WORDS_NS 500000000u

enum { FD_SOCKET, FD_SIGNALS, FD_PORT, FD_OUTLET, FIXED_FDS };

struct launcher {
    int socket;
    int signals;
    struct ep_launcher_table table;
    struct ep_outlet outlet; /* what the workers write to stderr */
    struct pollfd *fds;      /* FIXED_FDS, then two for each worker */
    size_t max_fds;
    unsigned sweeps; /* still to come, because one met a process that it could not judge */
};

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "ep_launcher: %s\n", what);
    exit(EXIT_FAILURE);
}

/* --- start --------------------------------------------------------------------- */

static int read_token(uint8_t ret_token[16])
{
    uint8_t token[16];
    size_t n = 0;

    while (n < sizeof(token)) {
        ssize_t got = read(PORT_IN, token + n, sizeof(token) - n);
        if (got == 0 || (got < 0 && errno != EINTR))
            return -EPIPE;
        n += got > 0 ? (size_t)got : 0;
    }
    memcpy(ret_token, token, sizeof(token));
    return 0;
}

/* The VM's standard streams may be closed; nothing else may get their numbers. */
static void fill_standard_fds(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", O_RDWR);
    }
    (void)fcntl(PORT_IN, F_SETFD, FD_CLOEXEC);
    (void)fcntl(PORT_OUT, F_SETFD, FD_CLOEXEC);
}

static int open_signals(void)
{
    static const int ignored[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    sigset_t set;

    ep_launcher_spawn_note_signals();
    for (int n = 1; n < NSIG; n++)
        (void)signal(n, SIG_DFL);
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        (void)signal(ignored[i], SIG_IGN);
    /* The outlet may be a terminal that lets only one process group write. */
    (void)signal(SIGTTOU, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static int connect_to(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(name);

    if (size == 0 || size >= sizeof(address.sun_path))
        return -EINVAL;
    memcpy(address.sun_path + 1, name, size); /* after the NUL: an abstract name */
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size);
    if (connect(fd, (struct sockaddr *)&address, length) < 0) {
        int rc = -errno;
        (void)close(fd);
        return rc;
    }
    return fd;
}

/* --- loop ----------------------------------------------------------------------- */

/* Sends, waiting for room, an event and what belongs behind it. A failure means that the VM
 * is gone. */
static int send_more(struct launcher *launcher, struct ep_control_event *event, size_t more,
                     const int *fd)
{
    size_t size = sizeof(*event) + more;
    int rc;

    event->version = EP_CONTROL_VERSION;
    while ((rc = ep_fdpass_send(launcher->socket, event, size, fd, fd == NULL ? 0 : 1))
           == -EAGAIN) {
        struct pollfd fds[2] = {
            {.fd = launcher->socket, .events = POLLOUT},
            {.fd = PORT_IN},
        };
        (void)poll(fds, 2, -1);
        if ((fds[1].revents & (POLLHUP | POLLERR)) != 0)
            return -EPIPE;
    }
    return rc;
}

static int send_event(struct launcher *launcher, struct ep_control_event *event, const int *fd)
{
    return send_more(launcher, event, 0, fd);
}

/* Makes room for what list_fds() lists, and for one worker more. */
static int make_room(struct launcher *launcher)
{
    size_t n = FIXED_FDS + 2 * (launcher->table.count + 1);

    if (n <= launcher->max_fds)
        return 0;
    struct pollfd *fds = realloc(launcher->fds, 2 * n * sizeof(*fds));
    if (fds == NULL)
        return -ENOMEM;
    launcher->fds = fds;
    launcher->max_fds = 2 * n;
    return 0;
}

/* Starts one worker. What fails here fails for that worker only. */
static int spawn(struct launcher *launcher, const struct ep_control_request *request,
                 const int fds[EP_WORKER_FDS])
{
    struct ep_control_event event = {.kind = EP_CONTROL_FAILED, .worker_id = request->worker_id};
    int pidfd = -1;
    pid_t pid = 0;

    /* The kernel discards fds that find no number here. */
    int rc = fds[EP_WORKER_FDS - 1] < 0 ? -EMFILE : make_room(launcher);
    if (rc == 0 && request->kind == EP_CONTROL_FORK) {
        rc = ep_launcher_zygote_fork(&launcher->table, request, fds);
        if (rc == 0)
            return 0; /* the zygote says how it went */
    } else if (rc == 0) {
        rc = ep_launcher_spawn(&launcher->table, request, fds, &pid, &pidfd);
    }
    event.value = rc < 0 ? -rc : pid;
    if (rc == 0)
        event.kind = EP_CONTROL_SPAWNED;
    rc = send_event(launcher, &event, rc < 0 ? NULL : &pidfd);
    if (pidfd >= 0)
        (void)close(pidfd);
    return rc;
}

/* Serves one request, if there is one. A failure ends the launcher. */
static int serve_request(struct launcher *launcher)
{
    struct ep_control_request request;
    int fds[EP_FDPASS_MAX];

    int rc = ep_launcher_request_receive(launcher->socket, &request, fds);
    if (rc < 0)
        return rc == -EAGAIN ? 0 : rc;
    if (request.kind == EP_CONTROL_KILL)
        ep_launcher_table_kill(&launcher->table, request.worker_id);
    else
        rc = spawn(launcher, &request, fds);
    ep_launcher_request_close_fds(fds);
    return rc;
}

/* What zygotes say, and those that are gone do not say any more. */
static int serve_zygotes(struct launcher *launcher)
{
    struct ep_control_event event;
    int pidfd, known, rc = 0;

    while (rc == 0 && ep_launcher_zygote_read(&launcher->table, &event, &pidfd, &known)) {
        rc = send_event(launcher, &event, pidfd < 0 ? NULL : &pidfd);
        if (pidfd >= 0)
            (void)close(pidfd);
        if (known >= 0)
            (void)close(known);
    }
    return rc;
}

static void drain_signals(struct launcher *launcher)
{
    struct signalfd_siginfo info;

    while (read(launcher->signals, &info, sizeof(info)) == sizeof(info))
        continue;
}

static int serve_children(struct launcher *launcher)
{
    static struct ep_control_words words;
    struct ep_control_event event;
    int rc;

    drain_signals(launcher);
    ep_launcher_zygote_end_stopped(&launcher->table);
    /* Before anything is judged: what was forked is known then. */
    if ((rc = serve_zygotes(launcher)) < 0)
        return rc;
    while (ep_launcher_reap_bury(&launcher->table, &launcher->outlet, &event, &words)) {
        if (words.event.value > 0
            && (rc = send_more(launcher, &words.event, (size_t)words.event.value, NULL)) < 0)
            return rc;
        if ((rc = send_event(launcher, &event, NULL)) < 0)
            return rc;
    }
    if ((rc = serve_zygotes(launcher)) < 0)
        return rc;
    launcher->sweeps =
        ep_launcher_reap_sweep(&launcher->table, &launcher->outlet, false) ? SWEEPS_AGAIN : 0;
    return 0;
}

/* Until the next look at children that no signal asks for. */
static int next_look_ms(const struct launcher *launcher)
{
    if (launcher->sweeps > 0)
        return SWEEP_AGAIN_MS;
    for (size_t i = 0; i < launcher->table.count; i++) {
        if (launcher->table.workers[i].is_dead)
            return TRACKERS_LOOK_MS;
    }
    return -1;
}

/* What to wait for. Returns how many. */
static nfds_t list_fds(struct launcher *launcher)
{
    const struct ep_launcher_table *table = &launcher->table;
    size_t n = FIXED_FDS + 2 * table->count;
    struct pollfd *fds = launcher->fds;
    fds[FD_SOCKET] = (struct pollfd){.fd = launcher->socket, .events = POLLIN};
    fds[FD_SIGNALS] = (struct pollfd){.fd = launcher->signals, .events = POLLIN};
    fds[FD_PORT] = (struct pollfd){.fd = PORT_IN, .events = POLLIN};
    fds[FD_OUTLET] = (struct pollfd){.fd = ep_outlet_wants(&launcher->outlet), .events = POLLOUT};
    for (size_t i = 0; i < table->count; i++) {
        const struct ep_launcher_worker *worker = &table->workers[i];
        fds[FIXED_FDS + 2 * i] = (struct pollfd){.fd = worker->tail.fd, .events = POLLIN};
        fds[FIXED_FDS + 2 * i + 1] = (struct pollfd){.fd = worker->zygote, .events = POLLIN};
    }
    return n;
}

/* Before the table changes, whose order that of the fds is. Returns whether a zygote says
 * something. */
static bool read_tails(struct launcher *launcher, nfds_t n)
{
    bool has_news = false;

    for (nfds_t i = FIXED_FDS; i < n; i += 2) {
        if (launcher->fds[i].revents != 0)
            (void)ep_tail_read(&launcher->table.workers[(i - FIXED_FDS) / 2].tail,
                               &launcher->outlet);
        has_news = has_news || launcher->fds[i + 1].revents != 0;
    }
    return has_news;
}

static void run(struct launcher *launcher)
{
    int rc = 0;

    while (rc == 0) {
        nfds_t n_fds = list_fds(launcher);
        struct pollfd *fds = launcher->fds;
        int n = poll(fds, n_fds, next_look_ms(launcher));
        if (n < 0 && errno != EINTR)
            return;
        if (n < 0)
            continue;
        bool has_news = read_tails(launcher, n_fds);
        if (fds[FD_OUTLET].revents != 0)
            ep_outlet_flush(&launcher->outlet);
        if (n == 0) {
            bool again = ep_launcher_reap_sweep(&launcher->table, &launcher->outlet, false);
            launcher->sweeps = again && launcher->sweeps > 0 ? launcher->sweeps - 1 : 0;
        }
        if (fds[FD_PORT].revents != 0)
            return;
        if (has_news)
            rc = serve_zygotes(launcher);
        if (rc == 0 && fds[FD_SIGNALS].revents != 0)
            rc = serve_children(launcher);
        if (rc == 0 && fds[FD_SOCKET].revents != 0)
            rc = serve_request(launcher);
    }
}

/* As far as somebody reads it. */
static void pass_on_the_rest(struct ep_outlet *outlet)
{
    struct pollfd p = {.events = POLLOUT};
    uint64_t start = ep_clock_ns();

    while ((p.fd = ep_outlet_wants(outlet)) >= 0 && ep_clock_ns() - start < LAST_WORDS_NS) {
        if (poll(&p, 1, 50) == 1)
            ep_outlet_flush(outlet);
    }
    ep_outlet_finish(outlet);
}

/* Kills the workers and everything that descends from here, then what that leaves as
 * orphans, until nobody is left; resource trackers get some time to end. */
static void clean_up(struct launcher *launcher)
{
    struct ep_launcher_table *table = &launcher->table;
    static struct ep_control_words words;
    uint64_t start = ep_clock_ns();
    struct ep_control_event event;

    for (size_t i = 0; i < table->count; i++) {
        if (table->workers[i].pid > 0)
            (void)kill(table->workers[i].pid, SIGKILL);
    }
    for (;;) {
        struct pollfd fd = {.fd = launcher->signals, .events = POLLIN};
        uint64_t took = ep_clock_ns() - start;

        while (ep_launcher_reap_bury(table, &launcher->outlet, &event, &words))
            continue;
        for (size_t i = 0; took > CLEANUP_LIMIT_NS && i < table->count; i++)
            table->workers[i].until_ns = 0;
        (void)ep_launcher_reap_sweep(table, &launcher->outlet, true);
        if (!ep_launcher_reap_has_children() || took > CLEANUP_LIMIT_NS + KILL_LIMIT_NS)
            break;
        (void)poll(&fd, 1, 10);
        drain_signals(launcher);
    }
    ep_launcher_temp_finish();
    pass_on_the_rest(&launcher->outlet);
}

int main(int argc, char **argv)
{
    struct ep_control_event ready = {.kind = EP_CONTROL_READY};
    struct launcher launcher = {.socket = -1};

    fill_standard_fds();
    if (argc != 2)
        die("started by the application erlang_python only: SOCKET");
    if (read_token(ready.token) < 0)
        die("the VM says nothing");
    /* Ctrl-C in the terminal is for the VM. */
    (void)setpgid(0, 0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        die("cannot become a subreaper");
    if (make_room(&launcher) < 0)
        die("no memory");
    ep_outlet_init(&launcher.outlet);
    launcher.signals = open_signals();
    if (launcher.signals < 0)
        die("no signalfd");
    launcher.socket = connect_to(argv[1]);
    if (launcher.socket < 0)
        die("the VM does not listen");

    ep_launcher_temp_sweep();
    ready.value = getpid();
    if (send_event(&launcher, &ready, NULL) == 0)
        run(&launcher);
    clean_up(&launcher);
    free(launcher.table.workers);
    free(launcher.fds);
    return EXIT_SUCCESS;
}

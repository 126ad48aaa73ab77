/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_service.h"

#include "ep_cpu.h"
#include "ep_fdpass.h"

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
 * ep_service SOCKET TOKEN: a port program of the VM (nouse_stdio). The VM's life
 * is the pipe on fd 3 and the socket; when either ends, so does everything that
 * was started here.
 */

#define PORT_IN 3
#define PORT_OUT 4
#define SWEEP_AGAIN_MS 20
#define SWEEPS_AGAIN 50
#define CLEANUP_LIMIT_NS 1000000000u

struct service {
    int socket;
    int signals;
    struct ep_service_table table;
    unsigned sweeps; /* still to come, because one met a process that it could not judge */
};

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "ep_service: %s\n", what);
    exit(EXIT_FAILURE);
}

/* --- start --------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int read_token(const char *hex, uint8_t ret_token[16])
{
    if (strlen(hex) != 32)
        return -EINVAL;
    for (size_t i = 0; i < 16; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        ret_token[i] = (uint8_t)(high << 4 | low);
    }
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
    sigset_t set;

    for (int n = 1; n < NSIG; n++)
        (void)signal(n, SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
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

/* Sends, waiting for room. A failure means that the VM is gone. */
static int send_event(struct service *service, struct ep_control_event *event, const int *fd)
{
    int rc;

    event->version = EP_CONTROL_VERSION;
    while ((rc = ep_fdpass_send(service->socket, event, sizeof(*event), fd, fd == NULL ? 0 : 1))
           == -EAGAIN) {
        struct pollfd fds[2] = {
            {.fd = service->socket, .events = POLLOUT},
            {.fd = PORT_IN},
        };
        (void)poll(fds, 2, -1);
        if ((fds[1].revents & (POLLHUP | POLLERR)) != 0)
            return -EPIPE;
    }
    return rc;
}

static bool is_text(const char *text)
{
    return memchr(text, '\0', EP_CONTROL_STRING_MAX) != NULL;
}

/* Serves one request, if there is one. A failure ends the launcher. */
static int serve_request(struct service *service)
{
    struct ep_control_request request;
    struct ep_control_event event = {.kind = EP_CONTROL_FAILED};
    int fds[EP_FDPASS_MAX];
    int pidfd = -1;
    pid_t pid = 0;

    ssize_t size = ep_fdpass_receive(service->socket, &request, sizeof(request), fds);
    if (size == -EAGAIN)
        return 0;
    if (size < 0)
        return (int)size;
    int rc = -EPROTO;
    if (size != sizeof(request) || request.version != EP_CONTROL_VERSION
        || request.kind != EP_CONTROL_SPAWN || fds[EP_WORKER_FDS - 1] < 0
        || !is_text(request.worker_path) || !is_text(request.python_path)
        || !is_text(request.module_path))
        goto close_fds;

    rc = ep_service_spawn(&service->table, &request, fds, &pid, &pidfd);
    event.worker_id = request.worker_id;
    event.value = rc < 0 ? -rc : pid;
    if (rc == 0)
        event.kind = EP_CONTROL_SPAWNED;
    rc = send_event(service, &event, rc < 0 ? NULL : &pidfd);

close_fds:
    if (pidfd >= 0)
        (void)close(pidfd);
    for (int i = 0; i < EP_FDPASS_MAX; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
    return rc;
}

/* Returns -EINTR when a signal asks the launcher to end. */
static int serve_signals(struct service *service)
{
    struct signalfd_siginfo info;
    struct ep_control_event event;
    int rc;

    while (read(service->signals, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo != SIGCHLD)
            return -EINTR;
    }
    while ((rc = ep_service_reap(&service->table, &event)) >= 0) {
        if (rc == 1 && (rc = send_event(service, &event, NULL)) < 0)
            return rc;
    }
    service->sweeps = ep_service_sweep(&service->table, false) ? SWEEPS_AGAIN : 0;
    return 0;
}

static void run(struct service *service)
{
    char rubbish[64];
    int rc = 0;

    while (rc == 0) {
        struct pollfd fds[3] = {
            {.fd = service->socket, .events = POLLIN},
            {.fd = service->signals, .events = POLLIN},
            {.fd = PORT_IN, .events = POLLIN},
        };
        int n = poll(fds, 3, service->sweeps > 0 ? SWEEP_AGAIN_MS : -1);
        if (n < 0 && errno != EINTR)
            return;
        if (n == 0)
            service->sweeps = ep_service_sweep(&service->table, false) ? service->sweeps - 1 : 0;
        if (fds[2].revents != 0 && read(PORT_IN, rubbish, sizeof(rubbish)) <= 0)
            return;
        if (fds[1].revents != 0)
            rc = serve_signals(service);
        if (rc == 0 && fds[0].revents != 0)
            rc = serve_request(service);
    }
}

/* Kills everything that descends from here and is still alive, then what that
 * leaves as orphans, until nobody is left. */
static void clean_up(struct service *service)
{
    uint64_t start = ep_clock_ns();
    struct ep_control_event event;
    int rc;

    for (size_t i = 0; i < service->table.count; i++)
        (void)kill(-service->table.workers[i].pid, SIGKILL);
    do {
        ep_service_sweep(&service->table, true);
        while ((rc = ep_service_reap(&service->table, &event)) >= 0)
            continue;
        if (rc == -EAGAIN) {
            struct signalfd_siginfo info;
            struct pollfd fd = {.fd = service->signals, .events = POLLIN};
            (void)poll(&fd, 1, 10);
            (void)!read(service->signals, &info, sizeof(info));
        }
    } while (rc != -ECHILD && ep_clock_ns() - start < CLEANUP_LIMIT_NS);
}

int main(int argc, char **argv)
{
    struct ep_control_event ready = {.kind = EP_CONTROL_READY};
    struct service service = {.socket = -1};

    fill_standard_fds();
    if (argc != 3 || read_token(argv[2], ready.token) < 0)
        die("started by the application erlang_python only: SOCKET TOKEN");
    /* Ctrl-C in the terminal is for the VM. */
    (void)setpgid(0, 0);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        die("cannot become a subreaper");
    service.signals = open_signals();
    if (service.signals < 0)
        die("no signalfd");
    service.socket = connect_to(argv[1]);
    if (service.socket < 0)
        die("the VM does not listen");

    ready.value = getpid();
    if (send_event(&service, &ready, NULL) == 0)
        run(&service);
    clean_up(&service);
    free(service.table.workers);
    return EXIT_SUCCESS;
}

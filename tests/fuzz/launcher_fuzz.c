/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the VM reads from the launcher: a script of messages, each an event of five bytes and some
 * fds that the input says, of the right length or not; four hosts that wait for theirs. nif/process/ep_launcher.c is
 * linked with what it needs of the reaper and of erl_nif, made here.
 *
 * Whatever comes: a host hears at most once that it was spawned and is buried at most once, it is
 * told of no process that has no pidfd, and no fd is left open but the pidfds of hosts.
 */
#include "ep_control.h"
#include "ep_fdpass.h"
#include "ep_host.h"
#include "ep_launcher.h"
#include "ep_peer.h"
#include "ep_wake.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define check(condition) ((condition) ? (void)0 : failed(#condition, __LINE__))
#define N_HOSTS 4

static _Noreturn void failed(const char *condition, int line)
{
    (void)fprintf(stderr, "%s:%d: not %s\n", __FILE__, line, condition);
    abort();
}

static struct ep_vm vm;
static struct ep_host hosts[N_HOSTS];
static bool buried[N_HOSTS];
static unsigned told[N_HOSTS], killed, hung_up;
static int pair[2] = {-1, -1}, null = -1;

/* --- what nif/process/ep_launcher.c calls ---------------------------------------------- */

ERL_NIF_TERM am_py_host, am_spawned;

struct ep_host *ep_host_find(struct ep_vm *of, uint64_t id)
{
    check(of == &vm);
    return id >= 1 && id <= N_HOSTS && !buried[id - 1] ? &hosts[id - 1] : NULL;
}

void ep_wake_reaper(struct ep_vm *of)
{
    check(of == &vm);
}

bool ep_peer_kill(struct ep_host *host, enum ep_kill_reason reason)
{
    check(reason == EP_KILL_ASKED && host->pidfd >= 0);
    killed++;
    return true;
}

void ep_host_hang_up(struct ep_host *host)
{
    check(host->exit_known);
    hung_up++;
}

void *enif_alloc(size_t size)
{
    return malloc(size);
}

void enif_free(void *memory)
{
    free(memory);
}

void *enif_alloc_resource(ErlNifResourceType *type, size_t size)
{
    (void)type;
    return malloc(size);
}

void enif_release_resource(void *object)
{
    free(object);
}

void enif_keep_resource(void *object)
{
    check(object != NULL);
}

ErlNifEnv *enif_alloc_env(void)
{
    return calloc(1, 1);
}

void enif_free_env(ErlNifEnv *env)
{
    free(env);
}

/* The number of the host is the message. */
ERL_NIF_TERM enif_make_uint64(ErlNifEnv *env, ErlNifUInt64 value)
{
    check(env != NULL);
    return value;
}

ERL_NIF_TERM enif_make_int64(ErlNifEnv *env, ErlNifSInt64 value)
{
    check(env != NULL);
    return (ERL_NIF_TERM)value;
}

ERL_NIF_TERM enif_make_tuple(ErlNifEnv *env, unsigned count, ...)
{
    ERL_NIF_TERM term = 0;
    va_list list;

    check(env != NULL && (count == 2 || count == 3));
    va_start(list, count);
    for (unsigned i = 0; i < 2; i++)
        term = va_arg(list, ERL_NIF_TERM);
    va_end(list);
    return term;
}

int enif_send(ErlNifEnv *caller, const ErlNifPid *pid, ErlNifEnv *env, ERL_NIF_TERM message)
{
    check(caller == NULL && env != NULL && message >= 1 && message <= N_HOSTS);
    check(pid == &hosts[message - 1].owner);
    told[message - 1]++;
    return 1;
}

/* --- the script ------------------------------------------------------------------------ */

static int next_fd(void)
{
    int fd = dup(null);

    check(fd >= 0);
    (void)close(fd);
    return fd;
}

static void begin(void)
{
    if (null < 0)
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
    check(null >= 0);
    if (pair[0] >= 0) {
        (void)close(pair[0]);
        (void)close(pair[1]);
    }
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    killed = hung_up = 0;
    for (uint64_t i = 0; i < N_HOSTS; i++) {
        memset(&hosts[i], 0, sizeof(hosts[i]));
        hosts[i].id = i + 1;
        hosts[i].vm = &vm;
        hosts[i].pidfd = -1;
        atomic_init(&hosts[i].kill_pidfd, -1);
        /* The last two were asked to end before they were there. */
        atomic_init(&hosts[i].kill_reason, i < 2 ? EP_KILL_NONE : EP_KILL_ASKED);
        told[i] = 0;
        buried[i] = false;
    }
}

/* kind and version, host, value, fds, length. */
static void send_event(const uint8_t step[5])
{
    struct {
        struct ep_control_event event;
        uint8_t more[64];
    } message = {.event = {.version = EP_CONTROL_VERSION}};
    int fds[EP_FDPASS_MAX] = {null, null, null, null, null, null};
    size_t length = sizeof(message.event);

    message.event.kind = step[0] % 8;
    if ((step[0] & 0x80) != 0)
        message.event.version = step[0];
    message.event.worker_id = (step[1] & 0x80) != 0 ? UINT64_MAX - step[1] : step[1] % 8;
    memset(&message.event.value, step[2], sizeof(message.event.value));
    if (step[4] != 0)
        length = step[4] % (sizeof(message.event) + 32);
    (void)ep_fdpass_send(pair[1], &message, length, fds, step[3] % (EP_FDPASS_MAX + 1));
}

static void end(int before)
{
    unsigned spawned_to_die = 0;

    for (uint64_t i = 0; i < N_HOSTS; i++) {
        check(told[i] == (hosts[i].pidfd >= 0));
        spawned_to_die += i >= 2 && hosts[i].pidfd >= 0;
        if (atomic_load(&hosts[i].kill_pidfd) >= 0
            && atomic_load(&hosts[i].kill_pidfd) != hosts[i].pidfd)
            (void)close(atomic_load(&hosts[i].kill_pidfd));
        if (hosts[i].pidfd >= 0)
            (void)close(hosts[i].pidfd);
        check(hosts[i].n_words <= EP_CONTROL_TEXT_MAX);
        free(hosts[i].words);
    }
    check(killed == spawned_to_die);
    check(next_fd() == before);
}

/* As the reaper does. Returns whether the launcher is there still. */
static bool read_all(struct ep_launcher *launcher)
{
    struct ep_host *ended;
    int rc;

    while ((rc = ep_launcher_read(launcher, &ended)) > 0) {
        check(ended->exit_known && !buried[ended - hosts]);
        buried[ended - hosts] = true;
    }
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    begin();
    struct ep_launcher launcher = {.vm = &vm, .socket = pair[0], .listener = -1};
    int before = next_fd();
    bool is_there = true;

    for (unsigned n = 0; size >= 5 && n < 256 && is_there; n++, data += 5, size -= 5) {
        send_event(data);
        if (data[4] % 3 != 2) /* else more than one message lies there */
            is_there = read_all(&launcher);
    }
    if (is_there)
        (void)read_all(&launcher);
    else {
        /* What it said is not read any more; its fds go with the socket. */
        (void)close(pair[0]);
        (void)close(pair[1]);
        check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    }
    end(before);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the launcher reads: requests from its socket, each with some fds, and the environment of
 * processes that a worker's children may have written. The first byte says how many fds come,
 * and whether the rest is a request or an environment; a request begins like a good one, and the
 * input says where it differs.
 *
 * Whatever comes: a good request has the fds that were sent and texts with an end, anything else leaves no
 * fd open.
 */
#include "ep_fdpass.h"
#include "ep_launcher_mark.h"
#include "ep_launcher_request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int pair[2] = {-1, -1};
static int null = -1;

#define check(condition) ((condition) ? (void)0 : failed(#condition, __LINE__))

static _Noreturn void failed(const char *condition, int line)
{
    (void)fprintf(stderr, "%s:%d: not %s\n", __FILE__, line, condition);
    abort();
}

static void open_all(void)
{
    if (null < 0)
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (pair[0] < 0)
        check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    check(null >= 0);
}

/* The next fd that is free: the same before and after, if none was left open. */
static int next_fd(void)
{
    int fd = dup(null);

    check(fd >= 0);
    (void)close(fd);
    return fd;
}

/* 16-bit offset, length, bytes; until the input ends. Returns the size of the message. */
static size_t spoil(struct ep_control_request *request, const uint8_t *data, size_t size)
{
    static const char settings[] = "/\0A=1\0B";
    size_t length = SIZE_MAX;
    uint8_t *bytes = (uint8_t *)request;

    request->settings_size = sizeof(settings);
    memcpy(request->settings, settings, sizeof(settings));
    while (size >= 3) {
        size_t at = ((size_t)data[0] << 8 | data[1]) % sizeof(*request), n = data[2];
        data += 3;
        size -= 3;
        if (n == 255) {
            /* The message is only that long. */
            length = at;
            continue;
        }
        n = n < size ? n : size;
        n = n < sizeof(*request) - at ? n : sizeof(*request) - at;
        memcpy(bytes + at, data, n);
        data += n;
        size -= n;
    }
    if (length == SIZE_MAX && request->settings_size <= EP_CONTROL_SETTINGS_MAX)
        length = ep_control_request_size(request->settings_size);
    return length == SIZE_MAX ? sizeof(*request) : length;
}

static void check_request(const struct ep_control_request *request, int fds[EP_FDPASS_MAX],
                          int n_fds)
{
    check(request->kind >= EP_CONTROL_SPAWN && request->kind <= EP_CONTROL_FORK);
    check(request->version == EP_CONTROL_VERSION);
    check(strlen(request->worker_path) < EP_CONTROL_STRING_MAX
          && strlen(request->python_path) < EP_CONTROL_STRING_MAX
          && strlen(request->module_path) < EP_CONTROL_STRING_MAX);
    check(request->settings_size <= EP_CONTROL_SETTINGS_MAX);
    check(request->settings_size == 0 || request->settings[request->settings_size - 1] == '\0');
    for (int i = 0; i < EP_FDPASS_MAX; i++)
        check(i < n_fds ? (fcntl(fds[i], F_GETFD) & FD_CLOEXEC) != 0 : fds[i] < 0);
    ep_launcher_request_close_fds(fds);
}

static void request(int n_fds, const uint8_t *data, size_t size)
{
    static struct ep_control_request sent, got;
    int fds[EP_FDPASS_MAX];

    memset(&sent, 0, sizeof(sent));
    sent.version = EP_CONTROL_VERSION;
    sent.kind = EP_CONTROL_SPAWN;
    sent.worker_id = 1;
    strcpy(sent.worker_path, "/worker");
    strcpy(sent.module_path, "/modules");
    size_t length = spoil(&sent, data, size);
    for (int i = 0; i < EP_FDPASS_MAX; i++)
        fds[i] = null;
    check(ep_fdpass_send(pair[1], &sent, length, fds, (size_t)n_fds) == 0);

    int rc = ep_launcher_request_receive(pair[0], &got, fds);
    if (rc == 0)
        check_request(&got, fds, n_fds);
    else
        check(rc == -EPROTO || (rc == -EPIPE && length == 0));
}

static void environment(const uint8_t *data, size_t size)
{
    char *text = calloc(1, size + 2);

    check(text != NULL);
    memcpy(text + 1, data, size);
    (void)ep_launcher_mark_in(text, size + 1);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    open_all();
    int before = next_fd();
    if (data[0] < 128)
        request(data[0] % (EP_FDPASS_MAX + 1), data + 1, size - 1);
    else
        environment(data + 1, size - 1);
    check(next_fd() == before);
    return 0;
}

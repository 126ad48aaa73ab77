/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_launcher_request.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static bool is_text(const char *text)
{
    return memchr(text, '\0', EP_CONTROL_STRING_MAX) != NULL;
}

static bool is_terminated(const struct ep_control_request *request)
{
    uint32_t size = request->settings_size;

    return size == 0 || request->settings[size - 1] == '\0';
}

static bool is_request(const struct ep_control_request *request, ssize_t size)
{
    return size >= (ssize_t)ep_control_request_size(0)
           && request->settings_size <= EP_CONTROL_SETTINGS_MAX
           && size == (ssize_t)ep_control_request_size(request->settings_size)
           && is_terminated(request) && request->version == EP_CONTROL_VERSION
           && request->kind >= EP_CONTROL_SPAWN && request->kind <= EP_CONTROL_FORK
           && is_text(request->worker_path) && is_text(request->python_path)
           && is_text(request->module_path);
}

void ep_launcher_request_close_fds(int fds[EP_FDPASS_MAX])
{
    for (int i = 0; i < EP_FDPASS_MAX; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
        fds[i] = -1;
    }
}

int ep_launcher_request_receive(int socket, struct ep_control_request *ret_request,
                                int ret_fds[EP_FDPASS_MAX])
{
    struct ep_control_request request;

    ssize_t size = ep_fdpass_receive(socket, &request, sizeof(request), ret_fds);
    if (size < 0)
        return (int)size;
    if (!is_request(&request, size)) {
        ep_launcher_request_close_fds(ret_fds);
        return -EPROTO;
    }
    memcpy(ret_request, &request, (size_t)size);
    return 0;
}

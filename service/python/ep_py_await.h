/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_AWAIT_H
#define EP_PY_AWAIT_H

/*
 * ep_py_await - callbacks that coroutines await: erlang.async_call.
 *
 * An event loop that asks has a port: an fd that is readable when outcomes have come. The room
 * above makes ports; erlang._await holds the futures.
 *
 * Errors   0 or a negative errno.
 * Threads  that of the loop, attached.
 */

#include "ep_buf.h"
#include "ep_py_channel.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct _object; /* PyObject */
struct ep_py_port;

struct ep_py_await_room {
    /* NULL: no memory, or no descriptor. */
    struct ep_py_port *(*open)(int *ret_fd);
    /* The loop is gone. What comes is dropped. */
    void (*close)(struct ep_py_port *port);
    /* -EDQUOT: too many questions are open.  -ECANCELED: the process or the context ends.
     * -ENOMEM, -EMSGSIZE. */
    int (*ask)(struct ep_py_port *port, const struct ep_buf *question, bool has_arrays,
               uint64_t *ret_id);
    /* The next outcome, if there is one; runs the requests that came before it. is_woken: the fd
     * was readable. *ret_is_asleep: the fd tells of the next one. */
    bool (*next)(struct ep_py_port *port, bool is_woken, uint64_t *ret_id,
                 struct ep_py_outcome *ret_outcome);
    void (*release)(struct ep_py_outcome *outcome);
};

/* Once, before Python code runs. */
void ep_py_await_set_room(const struct ep_py_await_room *room);

/* Functions of the module _erlang. New. */
struct _object *ep_py_await_open(struct _object *module, struct _object *unused);
struct _object *ep_py_await_ask(struct _object *module, struct _object *const *args, ssize_t n);
struct _object *ep_py_await_next(struct _object *module, struct _object *const *args, ssize_t n);

/* Asks what was encoded; port: of await_open(). The number of the question, new. */
struct ep_buf;
struct _object *ep_py_await_ask_buf(struct _object *port, const struct ep_buf *question);

#ifdef __cplusplus
}
#endif

#endif

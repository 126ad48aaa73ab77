/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_STREAM_H
#define EP_PY_STREAM_H

/*
 * ep_py_stream - the items of a request's result, one after the other.
 *
 * Any iterable will do. What makes items and can be closed, a generator, is closed when the
 * stream ends before it does. One that is asynchronous goes to the event loop, and to a task that
 * Erlang makes of it; the request has no items then, and ends.
 *
 * Errors   a Python exception becomes the end of the request, as one of its function would.
 * Threads  the context's own, attached.
 */

#include "ep_buf.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_cargo;
struct ep_py_context;
struct ep_py_request;

/* Where items go. Each function is called attached and returns attached; requests on top, and
 * interrupts, happen in the second and the third. */
struct ep_py_sink {
    /* Lends memory for an item; 0 bytes: the process ends. */
    size_t (*room)(struct ep_py_sink *sink, uint8_t **ret_mem);
    /* Takes the item of n bytes that was written there. 0; 1: the reader wants no more;
     * -EINTR: the request is to be interrupted; -ECANCELED: the process ends. */
    int (*put)(struct ep_py_sink *sink, size_t n);
    /* Takes an item that found no room there, or names arrays; also -ENOMEM. */
    int (*send)(struct ep_py_sink *sink, const struct ep_buf *item,
                const struct ep_py_cargo *named);
};

/* Puts the items of the request's result into the sink, and None in the result's place. */
void ep_py_stream_run(struct ep_py_context *context, struct ep_py_request *request,
                      struct ep_py_sink *sink);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_REQUEST_H
#define EP_PY_REQUEST_H

/*
 * ep_py_request - one request: CALL, EVAL or EXEC.
 *
 * It goes decode, run, encode, finish: decode copies everything out of shared
 * memory, so the lane can give the cell back before any Python code runs.
 *
 * Errors   0 or a negative errno for what ends the process; Python exceptions
 *          become error records in the reply.
 * Threads  the context's own, attached.
 */

#include "ep_buf.h"
#include "ep_layout.h"
#include "ep_py_error.h"
#include "ep_py_store.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct _object; /* PyObject */
struct ep_py_context;
struct ep_py_target;

#define EP_PY_ARGS_INLINE 8

/* Treat the fields as private. */
struct ep_py_request {
    uint16_t kind;
    uint16_t flags;
    bool is_stream;              /* the caller wants the items of the result */
    bool has_failed;             /* a Python exception is set */
    bool is_missing;             /* the exception: there is no such module or function */
    const char *root;            /* where an error happened: "args", "result", ... or NULL */
    uint8_t scopes;              /* enum ep_py_scopes */
    bool has_entered;            /* the namespace */
    uint8_t outer_none;          /* see ep_py_none_enter() */
    struct _object *space;       /* new: the namespace */
    struct _object *env;         /* its globals; borrowed */
    struct _object *vars;        /* new: the copy of contextvars that it runs in, or NULL */
    struct _object *outer;       /* new: with vars, the namespace of the request below, or NULL */
    struct _object *first;       /* new: module name, or code object, or source */
    struct ep_py_target *target; /* where the names are kept, or NULL */
    struct _object *second;      /* new: function name, or dict of locals */
    struct _object *kwnames;     /* new: tuple, or NULL */
    struct _object **args;       /* own_args + 1, or from the heap (+ 1) */
    size_t n_args;               /* positional */
    size_t n_all;                /* with keyword arguments */
    struct _object *result;      /* new */
    bool shares;                 /* every numpy array in the result becomes a shared one */
    struct ep_py_cargo brought;  /* arrays that came with it */
    struct ep_py_cargo named;    /* arrays of the reply, until it is out */
    struct _object *own_args[1 + EP_PY_ARGS_INLINE]; /* [0]: scratch for vectorcall */
};

/* Reads a CALL, EVAL or EXEC. What Python does not like is noted in the request.
 * -EPROTO: not what docs/wire.md says. */
int ep_py_request_decode(struct ep_py_context *context, struct ep_py_request *request,
                         const struct ep_cell *cell, const uint8_t *payload);

void ep_py_request_run(struct ep_py_context *context, struct ep_py_request *request);

/* Bytes that the reply takes at least, if that is known without encoding it. */
size_t ep_py_request_size_hint(const struct ep_py_request *request);

/* Writes the result, or the error record, to the empty buf. */
void ep_py_request_encode(struct ep_py_context *context, struct ep_py_request *request,
                          struct ep_buf *buf, struct ep_py_reply *ret_reply);

/* Lets arguments and result go, before the VM is told which arrays are still in use. */
void ep_py_request_release(struct ep_py_request *request);

void ep_py_request_finish(struct ep_py_context *context, struct ep_py_request *request);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_CODE_H
#define EP_PY_CODE_H

/*
 * ep_py_code - source text to code objects.
 */

#include "ep_etf.h"
#include "ep_python.h"

struct ep_py_context;
struct ep_py_request;

#define EP_PY_CODE_MAX 256
#define EP_PY_CODES 64 /* a power of two */

struct ep_py_code {
    uint16_t size;
    uint16_t kind;
    uint8_t bytes[EP_PY_CODE_MAX];
    PyObject *code;
    bool has_scopes;  /* in which locals are to be seen */
    PyObject *names;  /* of the locals that closed is for; a tuple, or NULL */
    PyObject *closed; /* the same as a function of them, or None */
};

/* How the nested scopes of an eval find its locals. */
enum ep_py_scopes {
    EP_PY_SCOPES_NONE,   /* there are none */
    EP_PY_SCOPES_CLOSED, /* the code is a function of them */
    EP_PY_SCOPES_MERGED, /* in a copy of the globals */
};

/* Reads the text of an EVAL or EXEC, whose locals are read already. */
int ep_py_code_decode(struct ep_py_context *context, struct ep_py_request *request,
                      const struct ep_etf_token *token);
void ep_py_code_clear(struct ep_py_code *entry);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_TARGET_H
#define EP_PY_TARGET_H

/*
 * ep_py_target - what calls name: a module and a function.
 */

#include "ep_etf.h"
#include "ep_python.h"

struct ep_py_context;
struct ep_py_request;

#define EP_PY_TARGET_MAX 103
#define EP_PY_TARGETS_LOG2 7

/* What calls name, by the bytes of both names with their headers. */
struct ep_py_target {
    PyObject *module_name, *function_name; /* interned */
    PyObject *module;                      /* that of the name, once it was seen initialised */
    uint8_t size;                          /* 0: nothing is kept here */
    uint8_t bytes[EP_PY_TARGET_MAX];
};

/* Reads the names that a call begins with into first and second, and target if they are
 * kept; second is NULL if an exception is set. -EPROTO: these are not two binaries. */
int ep_py_target_decode(struct ep_py_context *context, struct ep_py_request *request,
                        struct ep_etf_cursor *cursor);

/* Whether it still belongs to the names of the request: calls that run on top of one take
 * places, too. target may be NULL. */
bool ep_py_target_is_of(const struct ep_py_target *target, const struct ep_py_request *request);

void ep_py_target_clear(struct ep_py_target *target);

#endif

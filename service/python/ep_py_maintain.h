/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_MAINTAIN_H
#define EP_PY_MAINTAIN_H

/*
 * ep_py_maintain - functions of erlang._maintenance, which the VM names.
 */

#include "ep_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_context;

/* Runs a function of the module erlang._maintenance beside the requests, in a thread
 * without a place in the interpreter. payload: its name, its arguments. Writes the
 * result, or an error record: true then. */
bool ep_py_maintain(const struct ep_py_context *context, const uint8_t *payload, size_t size,
                    struct ep_buf *ret_buf);

/* Runs functions of erlang._maintenance in the context itself: names and lists of
 * arguments. What fails is reported on stderr. Attached. */
void ep_py_maintain_prologue(struct ep_py_context *context, const uint8_t *payload, size_t size);

#ifdef __cplusplus
}
#endif

#endif

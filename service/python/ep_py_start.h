/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_START_H
#define EP_PY_START_H

/*
 * ep_py_start - Python in this process.
 */

#include "ep_buf.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Initialises Python in the calling thread, which becomes Python's main thread,
 * and leaves it detached. python_path "": the Python built against. On failure a
 * sentence is in ret_why. */
int ep_py_start(const char *python_path, const char *module_path, char *ret_why, size_t why_size);

/* In a worker that a zygote has forked: its signals are those of any worker. */
void ep_py_start_again(void);

/* Appends what HELLO says about this Python. */
void ep_py_start_describe(struct ep_buf *buf);

#ifdef __cplusplus
}
#endif

#endif

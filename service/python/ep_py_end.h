/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_END_H
#define EP_PY_END_H

/*
 * ep_py_end - the end of an interpreter, of a forked child.
 *
 * Threads  the one that ends, attached.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Waits for threads, at most until then, runs exit functions, flushes. */
void ep_py_end_interpreter(uint64_t until_ns);

/* What the calling thread starts is waited for at the end. */
void ep_py_end_adopt_thread(void);

/* The calling thread leaves the interpreter, which may end. */
void ep_py_end_thread(void);

/* Ends a forked child as Python ends a program: with the status that the exception which
 * is set asks for. */
_Noreturn void ep_py_end_forked(void);

#ifdef __cplusplus
}
#endif

#endif

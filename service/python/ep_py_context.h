/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_CONTEXT_H
#define EP_PY_CONTEXT_H

/*
 * ep_py_context - one thread's place in one interpreter, with its namespaces and caches.
 *
 * Ownership  create/destroy by the lane, or the Python thread, that uses it.
 * Errors     Python exceptions become error records.
 * Threads    its own, attached (it holds the GIL).
 */

#include "ep_buf.h"
#include "ep_layout.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_context; /* ep_py_context_fields.h */

/* Makes a context and attaches. On failure returns NULL, detached, with an error
 * record in error. mode: enum ep_mode. */
struct ep_py_context *ep_py_context_create(uint32_t mode, bool is_main_thread,
                                           struct ep_buf *error);

/* Ends the context (attached before, detached after). */
void ep_py_context_destroy(struct ep_py_context *context);

void ep_py_context_attach(struct ep_py_context *context);
void ep_py_context_detach(struct ep_py_context *context);

/* A thread that has a place in an interpreter and sleeps most of the time: its event loop. */
struct ep_py_sleeper {
    ep_atomic_u64
        tstate; /* PyThreadState *; set by the thread itself; 0: it has no place (any more) */
    ep_atomic_u32 is_awake; /* or about to be: by whoever wakes it, before it wants the GIL */
};

/* Whether no other thread has a place in the interpreter, so that keeping the
 * GIL for a moment keeps nobody waiting. A sleeper that sleeps does not count. */
bool ep_py_context_is_alone(const struct ep_py_context *context);

/* Names the interpreter's sleeper. Any thread. */
void ep_py_context_set_sleeper(struct ep_py_context *context, const struct ep_py_sleeper *sleeper);

/* Runs one bytecode or two: lets waiting threads, the garbage collector and
 * pending signals have their turn, which pure C functions never do. */
void ep_py_context_breathe(struct ep_py_context *context);

/* The context as a Python thread that is none of its lane's sees it: the same
 * namespaces, caches of its own. Attached, in the context's interpreter. NULL: no
 * memory. */
struct ep_py_context *ep_py_context_create_guest(const struct ep_py_context *host);
void ep_py_context_destroy_guest(struct ep_py_context *guest);

/* For threads of Python code, which are attached when they come to us. */
void *ep_py_context_detach_thread(void);
void ep_py_context_attach_thread(void *thread);

/* Whether the calling thread, attached, is in the context's interpreter. */
bool ep_py_context_is_here(const struct ep_py_context *context);

/* The interpreter, as a name for it. */
void *ep_py_context_interpreter(const struct ep_py_context *context);

/* Whether it is one that ends with the context. */
bool ep_py_context_owns_interpreter(const struct ep_py_context *context);

/* Forgets a namespace. */
void ep_py_context_drop_env(struct ep_py_context *context, uint64_t env_id);

/* What Python does first when it exits: waits for the interpreter's threads, at most until
 * then, runs its exit functions and flushes its streams. context NULL: the main
 * interpreter's, from the main thread, detached before and after. */
void ep_py_context_run_exit(struct ep_py_context *context, uint64_t until_ns);

#ifdef __cplusplus
}
#endif

#endif

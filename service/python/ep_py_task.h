/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_TASK_H
#define EP_PY_TASK_H

/*
 * ep_py_task - tasks: requests that the event loop of an interpreter runs.
 *
 * The loop has a thread of its own, which the room above starts. erlang._tasks holds the loop;
 * this is what lies between it and the messages: a task is decoded and begun here, and its
 * outcome is encoded here.
 *
 * Ownership  a token stands for a task that has not been answered. One that is collected so
 *            answers that the task was dropped: no caller waits for nothing.
 * Threads    the loop's, attached.
 */

#include "ep_buf.h"
#include "ep_layout.h"
#include "ep_py_context.h"
#include "ep_py_error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct _object; /* PyObject */
struct ep_py_context;

/* What the room above has for the loop's thread. */
struct ep_py_tasks {
    struct ep_py_sleeper sleeper; /* is_awake: the loop looks before it sleeps */
    int fd; /* an eventfd, readable when something has come and the loop may sleep */
    /* Does what has come; is_woken: fd was readable. Returns whether there was something, and
     * the loop looks again before it sleeps. Attached. */
    bool (*look)(struct ep_py_tasks *tasks, bool is_woken);
    /* Answers a task; attached before and after. Any thread: a coroutine that is not awaited to
     * its end is collected in any. */
    void (*reply)(struct ep_py_tasks *tasks, uint32_t lane, uint64_t call_id,
                  const struct ep_py_reply *reply, const struct ep_buf *payload);
    /* No task of that lane is left. Attached. */
    void (*left)(struct ep_py_tasks *tasks, uint32_t lane);
    /* The loop has ended, and its thread leaves the interpreter. Attached. */
    void (*ended)(struct ep_py_tasks *tasks);
};

/* Runs the loop of an interpreter in the calling thread, which has no place in it yet, until
 * ep_py_task_end(). */
void ep_py_task_run_loop(struct ep_py_tasks *tasks, void *interpreter);

/* Begins a task. cell->kind: CALL, EVAL or EXEC. -EPROTO: not what docs/wire.md says. */
int ep_py_task_begin(struct ep_py_tasks *tasks, struct ep_py_context *guest,
                     const struct ep_cell *cell, const uint8_t *payload);

/* Cancels a task, if it has not ended. */
void ep_py_task_cancel(uint32_t lane, uint64_t call_id);

/* Cancels the tasks of a lane; left() follows. */
void ep_py_task_leave(uint32_t lane);

/* Ends the loop: its tasks are cancelled first. */
void ep_py_task_end(void);

/* Tells Erlang that the loop of an interpreter stands still, and by what. The calling thread is
 * another one, which has no place in it. */
void ep_py_task_tell_blocked(struct ep_py_tasks *tasks, void *interpreter, uint64_t ms);

/* Functions of the module _erlang. New. */
struct _object *ep_py_task_look(struct _object *module, struct _object *is_woken);
struct _object *ep_py_task_done(struct _object *module, struct _object *const *args, ssize_t n);
struct _object *ep_py_task_failed(struct _object *module, struct _object *const *args, ssize_t n);
struct _object *ep_py_task_left(struct _object *module, struct _object *lane);

#ifdef __cplusplus
}
#endif

#endif

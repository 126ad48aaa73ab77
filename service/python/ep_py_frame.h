/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_FRAME_H
#define EP_PY_FRAME_H

/*
 * ep_py_frame - the frame of Python's below all calls of a thread.
 */

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_context;

/* Runs loop(user) under a frame of Python's, so that functions which look at their caller
 * find one. Attached before and after, and no more in a frame then. */
void ep_py_frame_run(struct ep_py_context *context, void (*loop)(void *user), void *user);

#ifdef __cplusplus
}
#endif

#endif

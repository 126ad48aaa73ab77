/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_SIGNAL_H
#define EP_PY_SIGNAL_H

/*
 * ep_py_signal - what the process does with signals beside Python's own handlers.
 */

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_signals {
    bool is_default[2]; /* of those that Python ignores */
};

/* Before Python starts, and after. */
void ep_py_signal_note(struct ep_py_signals *ret_before);
void ep_py_signal_install(const struct ep_py_signals *before);

/* Around a fork, in the thread that forks: a child ends when it is told to. */
void ep_py_signal_before_fork(void);
void ep_py_signal_after_fork(void);
void ep_py_signal_in_child(void);

#ifdef __cplusplus
}
#endif

#endif

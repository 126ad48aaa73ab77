/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SANDBOX_FILTER_H
#define EP_SANDBOX_FILTER_H

/*
 * ep_sandbox_filter - the system calls that fail: a seccomp filter.
 *
 * Errors     0 or a negative errno.
 * Threads    binds all threads of the process. It cannot get new privileges.
 */

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

int ep_sandbox_filter_load(bool is_strict);

#ifdef __cplusplus
}
#endif

#endif

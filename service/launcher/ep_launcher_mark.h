/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_MARK_H
#define EP_LAUNCHER_MARK_H

/*
 * ep_launcher_mark - the environment variable that names the worker which a process comes from.
 *
 * Threads  any.
 * Trust    the environment is what a worker's descendants wrote.
 */

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_LAUNCHER_MARK "EP_LAUNCHER_MARK"
/* Of one width: a worker that a zygote has forked writes over that of the zygote. */
#define EP_LAUNCHER_MARK_FORMAT "%010ld"

/* The worker that an environment names: its pid, or 0. Strings that each end with a NUL, with
 * one before the first and one behind the last. */
pid_t ep_launcher_mark_in(const char *environ, size_t size);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SANDBOX_CAPABILITIES_H
#define EP_SANDBOX_CAPABILITIES_H

/*
 * ep_sandbox_capabilities - what a process of root may do beyond others.
 *
 * Errors     0 or a negative errno.
 * Threads    the calling thread only.
 */

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Drops those that administer the kernel or reach into other processes, for this process and
 * whatever it executes; with everything, all that Python code does not need to read files. Does
 * nothing for a process that has none. */
int ep_sandbox_capabilities_drop(bool everything);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CRASHPOINT_H
#define EP_CRASHPOINT_H

/*
 * ep_crashpoint - named steps of a worker process at which a test can let it die.
 *
 * Nothing, unless the build has the option EP_CRASHPOINTS: then each step looks at a page
 * that the test shares with the process (tests/chaos/ep_crashpoint.c) and, if it is the
 * one that the test has chosen, ends or stops the process there.
 *
 * Threads    any; async-signal-safe.
 */

#ifdef __cplusplus
extern "C" {
#endif

#ifdef EP_CRASHPOINTS
void ep_crashpoint(const char *name);
void ep_crashpoint_peer(const char *name);
#define EP_CRASHPOINT(name) ep_crashpoint(name)
/* A step of the VM, at which the worker process ends. It has ended when this returns. */
#define EP_CRASHPOINT_PEER(name) ep_crashpoint_peer(name)
#else
#define EP_CRASHPOINT(name) ((void)0)
#define EP_CRASHPOINT_PEER(name) ((void)0)
#endif

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SANDBOX_DOMAIN_H
#define EP_SANDBOX_DOMAIN_H

/*
 * ep_sandbox_domain - a Landlock domain: who may be looked into, signalled, written to.
 *
 * Who is outside of the domain reaches into it as before: the launcher, the VM, py-spy.
 *
 * Errors     what is not returned is not in force.
 * Threads    binds the calling thread, and what it starts.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* From here on it has all that we ask for. */
#define EP_SANDBOX_DOMAIN_ABI 6

/* 0: the kernel has no Landlock, or it is switched off. */
int ep_sandbox_domain_abi(void);

/* As for a kernel of that ABI. temp: the one directory where files may be written, or NULL for
 * all. The process cannot get new privileges. Returns enum ep_sandbox_feature: what is in force. */
uint32_t ep_sandbox_domain_enter(int abi, const char *temp);

#ifdef __cplusplus
}
#endif

#endif

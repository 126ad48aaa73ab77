/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PEER_H
#define EP_PEER_H

/*
 * ep_peer - the worker process behind a lane, as the lane may act on it.
 *
 * A lane finds out that its worker lies, and must end it at once; the rest of the life of
 * the process is the reaper's, see ep_host.h.
 *
 * Ownership  the caller holds the host, by a reference or by a lock under which it stays.
 * Threads    any, whatever they have locked but host->reclaim.
 */

#include "ep_vm.h"

/* Kills the process, for the first reason given. Returns whether this is the first. */
bool ep_peer_kill(struct ep_host *host, enum ep_kill_reason reason);

/* Hands a block of the control lane back. */
void ep_peer_release_block(struct ep_host *host, uint64_t block);

/* The same for the payload of a message of the control lane, if it lies in a block. */
void ep_peer_release_payload(struct ep_host *host, const struct ep_msg *msg);

#endif

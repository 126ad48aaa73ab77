/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LEASE_H
#define EP_LEASE_H

/*
 * ep_lease - items of a channel that lie in a worker process, and that the VM can take back.
 *
 *   VM      limit    (A)   how far the items are the worker's; HELD: the VM is counting
 *   worker  claimed  (B)   how many it has begun to read
 *
 * Items have positions, which only grow. The VM grants some from the position on that the worker
 * names. Before the worker reads an item it claims it: it stores claimed, then loads limit. To take
 * back what was not read the VM stores HELD in limit, loads claimed, and stores that count in limit.
 * These are sequentially consistent (L1-L2), so one of them sees the other:
 *
 *   the claim came before HELD    the VM counts it, whatever the worker sees in limit
 *   the VM did not count it       the worker finds HELD, waits for the count, and finds it too small
 *
 * So each item is read by the worker or comes back, and never both; also if the worker dies at any
 * moment, for its word stays. tests/model/lease.pml has it.
 *
 * Threads    VM: one at a time for each lease. Worker: the same.
 * Trust      a worker that lies gets items that others get, too, or loses its own.
 */

#include "ep_layout.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The words of a lease in A and in B, by its number: 0 to EP_LEASES_MAX - 1. */
ep_atomic_u64 *ep_lease_limit(const void *mem_a, uint32_t number);
ep_atomic_u64 *ep_lease_claimed(const void *mem_b, uint32_t number);

/* VM: grants n items from there on. Before they are sent. */
void ep_lease_grant(ep_atomic_u64 *limit, uint64_t position, uint32_t n);

/* VM: how many of n granted items were read by now; more may be at any time. */
uint32_t ep_lease_count(const ep_atomic_u64 *claimed, uint64_t position, uint32_t n);

/* VM: takes back what was not read. Returns how many were. */
uint32_t ep_lease_revoke(ep_atomic_u64 *limit, const ep_atomic_u64 *claimed, uint64_t position,
                         uint32_t n);

/* Worker: whether the item at that position, which the VM has sent, is still its own. The next
 * position is one more in any case. */
bool ep_lease_claim(const ep_atomic_u64 *limit, ep_atomic_u64 *claimed, uint64_t position);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_lease.h"

#include <sched.h>
#include <stdatomic.h>

#define HELD UINT64_MAX
/* Looks at a word that the other side is about to change, before a turn is given away. */
#define LOOKS 200u

ep_atomic_u64 *ep_lease_limit(const void *mem_a, uint32_t number)
{
    /* The worker's mapping is read-only; every use of it is a load. The same below, of the VM's. */
    return (ep_atomic_u64 *)((uint8_t *)mem_a + EP_LEASES_OFFSET_A
                             + (uint64_t)number * EP_CACHE_LINE);
}

ep_atomic_u64 *ep_lease_claimed(const void *mem_b, uint32_t number)
{
    return (ep_atomic_u64 *)((uint8_t *)mem_b + EP_LEASES_OFFSET_B
                             + (uint64_t)number * EP_CACHE_LINE);
}

void ep_lease_grant(ep_atomic_u64 *limit, uint64_t position, uint32_t n)
{
    /* Release is enough: the worker claims nothing before it has the items (P1-P2). */
    atomic_store_explicit(limit, position + n, memory_order_release);
}

uint32_t ep_lease_count(const ep_atomic_u64 *claimed, uint64_t position, uint32_t n)
{
    /* L2 of ep_lease_revoke(). A worker that lies says what it likes. */
    uint64_t count = atomic_load_explicit(claimed, memory_order_seq_cst) - position;

    return count > n ? n : (uint32_t)count;
}

uint32_t ep_lease_revoke(ep_atomic_u64 *limit, const ep_atomic_u64 *claimed, uint64_t position,
                         uint32_t n)
{
    atomic_store_explicit(limit, HELD, memory_order_seq_cst); /* L1 */
    uint32_t count = ep_lease_count(claimed, position, n);
    atomic_store_explicit(limit, position + count, memory_order_release);
    return count;
}

bool ep_lease_claim(const ep_atomic_u64 *limit, ep_atomic_u64 *claimed, uint64_t position)
{
    uint64_t value;

    atomic_store_explicit(claimed, position + 1, memory_order_seq_cst); /* L1 */
    for (unsigned looks = 0;; looks++) {
        value = atomic_load_explicit(limit, memory_order_seq_cst); /* L2 */
        if (value != HELD)
            return position < value;
        if (looks > LOOKS)
            (void)sched_yield();
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LANE_H
#define EP_LANE_H

/*
 * ep_lane - the rings, bells and slabs of one context, seen from either side.
 *
 * Ownership  handles point into mapped segments; keep those mapped. Slab
 *            bookkeeping is private: finish what you attached.
 * Errors     0 or a negative errno.
 * Threads    a VM lane: call, urgent, slab, reclaim_rx and park under one lock;
 *            response, reclaim_tx, response_bell and space under another. A worker
 *            lane belongs to its thread.
 */

#include "ep_bell.h"
#include "ep_ring.h"
#include "ep_slab.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ep_lane_vm {
    struct ep_ring_tx call;
    struct ep_ring_tx urgent;
    struct ep_slab slab;             /* blocks of C, given out by us */
    struct ep_reclaim_rx reclaim_rx; /* ... and handed back by the worker */
    uint8_t *slab_mem;
    struct ep_bell_tx park; /* the lane thread sleeps */
    const ep_atomic_u64 *running;
    ep_atomic_u32 *futex;
    ep_atomic_u64 *kicked_ns;
    const ep_atomic_u32 *cpu, *wake_ns; /* of the lane thread */

    struct ep_ring_rx response;
    struct ep_reclaim_tx reclaim_tx; /* blocks of B that we hand back */
    const uint8_t *peer_slab_mem;
    ep_atomic_u64 *belt_bell;        /* see ep_belt.h */
    struct ep_bell_rx response_bell; /* we want the eventfd rung */
    struct ep_bell_tx space;         /* the lane thread waits for room */
};

struct ep_lane_worker {
    struct ep_ring_rx call;
    struct ep_ring_rx urgent;
    ep_atomic_u64 *running;
    struct ep_reclaim_tx reclaim_tx; /* blocks of C that we hand back */
    const uint8_t *peer_slab_mem;
    struct ep_bell_rx park;
    struct ep_bell_rx space;
    const ep_atomic_u32 *futex;
    const ep_atomic_u64 *kicked_ns;
    ep_atomic_u32 *cpu, *wake_ns;

    struct ep_ring_tx response;
    struct ep_slab slab;             /* blocks of B, given out by us */
    struct ep_reclaim_rx reclaim_rx; /* ... and handed back by the VM */
    uint8_t *slab_mem;
    struct ep_bell_tx response_bell;
    const ep_atomic_u64 *belt_bell;
};

/* Fills the geometry for a worker of that many lanes, the control lane included. */
void ep_layout_init(struct ep_layout_header *header, uint32_t lanes);

/* Bytes of the rings and words; in B the slabs come after them. */
uint64_t ep_layout_ring_bytes_a(uint32_t lanes);
uint64_t ep_layout_ring_bytes_b(uint32_t lanes);

uint64_t ep_layout_size_c(uint32_t lanes);

/* Checks the header at the start of A against what this program was built for.
 * -EPROTO: another layout.  -EMSGSIZE: the segments are smaller than it says. */
int ep_layout_check(const void *mem_a, uint64_t size_a, uint64_t size_b, uint64_t size_c);

/* Attaches one lane; the segments are zeroed but for the header. */
void ep_lane_vm_attach(struct ep_lane_vm *lane, void *mem_a, const void *mem_b, void *mem_c,
                       uint32_t lanes, uint32_t index);
void ep_lane_vm_finish(struct ep_lane_vm *lane);
void ep_lane_worker_attach(struct ep_lane_worker *lane, const void *mem_a, void *mem_b,
                           const void *mem_c, uint32_t lanes, uint32_t index);
void ep_lane_worker_finish(struct ep_lane_worker *lane);

/* Lends the payload of a message from the VM, a trusted one. */
const uint8_t *ep_lane_worker_payload(const struct ep_lane_worker *lane,
                                      const struct ep_cell *cell);

/* Lends the payload of a copied message from B: inline from the copy, else from
 * the worker's slab, where it may still change: copy before you judge it.
 * -EPROTO: the block is not inside the slab. */
int ep_lane_vm_payload(const struct ep_lane_vm *lane, const struct ep_msg *msg,
                       const uint8_t **ret_payload);

#ifdef __cplusplus
}
#endif

#endif

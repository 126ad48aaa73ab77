/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_lane.h"

#include <errno.h>
#include <string.h>

/*
 * A: header (one page), then per lane: words, call cells, urgent cells, reclaim
 *    entries for blocks of B.
 * B: one unused page, then per lane: words, response cells, reclaim entries for
 *    blocks of C; then one slab per lane.
 * C: one slab per lane.
 */
#define CELLS(n) ((uint64_t)(n) * sizeof(struct ep_cell))
#define RECLAIM_BYTES ((uint64_t)EP_RECLAIM_SLOTS * sizeof(uint64_t))
#define LANE_BYTES_A                                                                               \
    (sizeof(struct ep_lane_a) + CELLS(EP_CALL_CELLS) + CELLS(EP_URGENT_CELLS) + RECLAIM_BYTES)
#define LANE_BYTES_B (sizeof(struct ep_lane_b) + CELLS(EP_RESPONSE_CELLS) + RECLAIM_BYTES)

static uint64_t page_up(uint64_t n)
{
    return (n + EP_PAGE - 1) & ~(uint64_t)(EP_PAGE - 1);
}

uint64_t ep_layout_ring_bytes_a(uint32_t lanes)
{
    return page_up(EP_PAGE + lanes * LANE_BYTES_A);
}

uint64_t ep_layout_ring_bytes_b(uint32_t lanes)
{
    return page_up(EP_PAGE + lanes * LANE_BYTES_B);
}

void ep_layout_init(struct ep_layout_header *header, uint32_t lanes)
{
    *header = (struct ep_layout_header){
        .magic = EP_LAYOUT_MAGIC,
        .version = EP_LAYOUT_VERSION,
        .lanes = lanes,
        .call_cells = EP_CALL_CELLS,
        .urgent_cells = EP_URGENT_CELLS,
        .response_cells = EP_RESPONSE_CELLS,
        .reclaim_slots = EP_RECLAIM_SLOTS,
        .slab_size = EP_SLAB_SIZE,
        .size_a = ep_layout_ring_bytes_a(lanes),
        .size_b = ep_layout_ring_bytes_b(lanes) + (uint64_t)lanes * EP_SLAB_SIZE,
    };
}

uint64_t ep_layout_size_c(uint32_t lanes)
{
    return lanes * EP_SLAB_SIZE;
}

int ep_layout_check(const void *mem_a, uint64_t size_a, uint64_t size_b, uint64_t size_c)
{
    struct ep_layout_header got, want;

    if (size_a < sizeof(got))
        return -EMSGSIZE;
    memcpy(&got, mem_a, sizeof(got));
    if (got.lanes < 1 || got.lanes > EP_LANES_MAX)
        return -EPROTO;
    ep_layout_init(&want, got.lanes);
    want.spin_min_ns = got.spin_min_ns;
    want.spin_max_ns = got.spin_max_ns;
    if (memcmp(&got, &want, sizeof(got)) != 0)
        return -EPROTO;
    if (size_a < want.size_a || size_b < want.size_b || size_c < ep_layout_size_c(got.lanes))
        return -EMSGSIZE;
    return 0;
}

struct parts_a {
    struct ep_lane_a *words;
    struct ep_cell *call;
    struct ep_cell *urgent;
    uint64_t *reclaim;
};

struct parts_b {
    struct ep_lane_b *words;
    struct ep_cell *response;
    uint64_t *reclaim;
    uint8_t *slab;
};

static struct parts_a parts_of_a(void *mem, uint32_t index)
{
    uint8_t *at = (uint8_t *)mem + EP_PAGE + index * LANE_BYTES_A;
    uint8_t *call = at + sizeof(struct ep_lane_a);
    uint8_t *urgent = call + CELLS(EP_CALL_CELLS);
    uint8_t *reclaim = urgent + CELLS(EP_URGENT_CELLS);

    return (struct parts_a){(void *)at, (void *)call, (void *)urgent, (void *)reclaim};
}

static struct parts_b parts_of_b(void *mem, uint32_t lanes, uint32_t index)
{
    uint8_t *at = (uint8_t *)mem + EP_PAGE + index * LANE_BYTES_B;
    uint8_t *response = at + sizeof(struct ep_lane_b);
    uint8_t *reclaim = response + CELLS(EP_RESPONSE_CELLS);
    uint8_t *slab = (uint8_t *)mem + ep_layout_ring_bytes_b(lanes) + (uint64_t)index * EP_SLAB_SIZE;

    return (struct parts_b){(void *)at, (void *)response, (void *)reclaim, slab};
}

void ep_lane_vm_attach(struct ep_lane_vm *lane, void *mem_a, const void *mem_b, void *mem_c,
                       uint32_t lanes, uint32_t index)
{
    struct parts_a a = parts_of_a(mem_a, index);
    /* The mapping is read-only; every use below is a load. */
    struct parts_b b = parts_of_b((void *)mem_b, lanes, index);

    *lane = (struct ep_lane_vm){
        .reclaim_rx = {.entries = b.reclaim, .tail = &b.words->reclaim_c_tail},
        .slab_mem = (uint8_t *)mem_c + index * EP_SLAB_SIZE,
        .futex = &a.words->futex,
        .kicked_ns = &a.words->kicked_ns,
        .cpu = &b.words->cpu,
        .wake_ns = &b.words->wake_ns,
        .running = &b.words->running,
        .reclaim_tx = {.entries = a.reclaim, .tail = &a.words->reclaim_b_tail},
        .peer_slab_mem = b.slab,
        .belt_bell = &a.words->belt_bell,
    };
    ep_ring_tx_attach(&lane->call, a.call, &b.words->call_head, EP_CALL_CELLS);
    ep_ring_tx_attach(&lane->urgent, a.urgent, &b.words->urgent_head, EP_URGENT_CELLS);
    ep_ring_rx_attach(&lane->response, b.response, &a.words->response_head, EP_RESPONSE_CELLS);
    ep_bell_tx_attach(&lane->park, &b.words->park_bell);
    ep_bell_tx_attach(&lane->space, &b.words->space_bell);
    ep_bell_rx_attach(&lane->response_bell, &a.words->response_bell);
    ep_slab_init(&lane->slab, EP_SLAB_SIZE);
}

void ep_lane_vm_finish(struct ep_lane_vm *lane)
{
    ep_slab_finish(&lane->slab);
    *lane = (struct ep_lane_vm){.slab_mem = NULL};
}

void ep_lane_worker_attach(struct ep_lane_worker *lane, const void *mem_a, void *mem_b,
                           const void *mem_c, uint32_t lanes, uint32_t index)
{
    /* The mapping is read-only; every use below is a load. */
    struct parts_a a = parts_of_a((void *)mem_a, index);
    struct parts_b b = parts_of_b(mem_b, lanes, index);

    *lane = (struct ep_lane_worker){
        .reclaim_tx = {.entries = b.reclaim, .tail = &b.words->reclaim_c_tail},
        .peer_slab_mem = (const uint8_t *)mem_c + index * EP_SLAB_SIZE,
        .futex = &a.words->futex,
        .kicked_ns = &a.words->kicked_ns,
        .cpu = &b.words->cpu,
        .wake_ns = &b.words->wake_ns,
        .running = &b.words->running,
        .reclaim_rx = {.entries = a.reclaim, .tail = &a.words->reclaim_b_tail},
        .slab_mem = b.slab,
        .belt_bell = &a.words->belt_bell,
    };
    ep_ring_rx_attach(&lane->call, a.call, &b.words->call_head, EP_CALL_CELLS);
    ep_ring_rx_attach(&lane->urgent, a.urgent, &b.words->urgent_head, EP_URGENT_CELLS);
    ep_ring_tx_attach(&lane->response, b.response, &a.words->response_head, EP_RESPONSE_CELLS);
    ep_bell_rx_attach(&lane->park, &b.words->park_bell);
    ep_bell_rx_attach(&lane->space, &b.words->space_bell);
    ep_bell_tx_attach(&lane->response_bell, &a.words->response_bell);
    ep_slab_init(&lane->slab, EP_SLAB_SIZE);
}

void ep_lane_worker_finish(struct ep_lane_worker *lane)
{
    ep_slab_finish(&lane->slab);
    *lane = (struct ep_lane_worker){.slab_mem = NULL};
}

const uint8_t *ep_lane_worker_payload(const struct ep_lane_worker *lane, const struct ep_cell *cell)
{
    return (cell->flags & EP_FLAG_BLOCK) != 0 ? lane->peer_slab_mem + cell->block : cell->data;
}

int ep_lane_vm_payload(const struct ep_lane_vm *lane, const struct ep_msg *msg,
                       const uint8_t **ret_payload)
{
    if ((msg->flags & EP_FLAG_BLOCK) == 0) {
        *ret_payload = msg->data;
        return 0;
    }
    if (msg->block % EP_PAGE != 0 || msg->block >= EP_SLAB_SIZE || msg->length > EP_MESSAGE_MAX
        || msg->length > EP_SLAB_SIZE - msg->block)
        return -EPROTO;
    *ret_payload = lane->peer_slab_mem + msg->block;
    return 0;
}

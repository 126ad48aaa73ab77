/* SPDX-License-Identifier: Apache-2.0 */
#include "evil_wire.h"

#include "ep_cpu.h"
#include "ep_etf.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROOM_LIMIT_MS 2000

_Noreturn void evil_die(const char *sentence)
{
    (void)fprintf(stderr, "evil_worker: %s\n", sentence);
    _exit(EP_EXIT_CANNOT_START);
}

void evil_pause_us(unsigned us)
{
    struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

    (void)nanosleep(&pause, NULL);
}

uint64_t evil_now_ms(void)
{
    return ep_clock_ns() / 1000000;
}

void evil_open(struct evil_worker *worker)
{
    if (ep_seg_open(&worker->a, EP_WORKER_FD_A, false) < 0
        || ep_seg_open(&worker->b, EP_WORKER_FD_B, true) < 0
        || ep_seg_open(&worker->c, EP_WORKER_FD_C, false) < 0
        || ep_layout_check(worker->a.mem, worker->a.size, worker->b.size, worker->c.size) < 0)
        evil_die("the segments do not fit");
    const struct ep_layout_header *header = worker->a.mem;
    worker->n_lanes = header->lanes;
    worker->doorbell = EP_WORKER_FD_DOORBELL;
    worker->control = EP_WORKER_FD_CONTROL;
    for (uint32_t i = 0; i < worker->n_lanes; i++) {
        ep_lane_worker_attach(&worker->lanes[i].shm, worker->a.mem, worker->b.mem, worker->c.mem,
                              worker->n_lanes, i);
        worker->lanes[i].index = i;
    }
}

void evil_hello(struct evil_worker *worker)
{
    struct ep_buf buf;
    uint8_t lent[EP_INLINE_MAX];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_int(&buf, getpid());
    ep_etf_put_binary(&buf, "3.12.0 (evil)", 13);
    ep_etf_put_atom(&buf, "true", 4);
    ep_etf_put_atom(&buf, "false", 5);
    (void)evil_send(worker, &worker->lanes[0], EP_KIND_HELLO, 0, 0, 0, buf.data, buf.length);
}

bool evil_fill(struct evil_lane *lane, struct evil_message *ret_message, uint8_t inline_data[],
               enum ep_kind kind, uint64_t call_id, const void *payload, size_t length)
{
    uint64_t block;

    *ret_message = (struct evil_message){
        .kind = (uint8_t)kind, .call_id = call_id, .length = (uint32_t)length};
    if (length == 0)
        return true;
    if (length <= EP_INLINE_MAX) {
        memset(inline_data, 0, EP_INLINE_MAX);
        memcpy(inline_data, payload, length);
        ret_message->data = inline_data;
        return true;
    }
    (void)ep_reclaim_collect(&lane->shm.reclaim_rx, &lane->shm.slab);
    if (ep_slab_alloc(&lane->shm.slab, length, &block) < 0)
        return false;
    if (payload != NULL)
        memcpy(lane->shm.slab_mem + block, payload, length);
    ret_message->block = block;
    ret_message->flags |= EP_FLAG_BLOCK;
    return true;
}

void evil_ring(struct evil_worker *worker)
{
    uint64_t one = 1;

    (void)!write(worker->doorbell, &one, sizeof(one));
}

void evil_publish(struct evil_worker *worker, struct evil_lane *lane,
                  const struct evil_message *message)
{
    struct ep_ring_tx *ring = &lane->shm.response;
    struct ep_cell *cell = &ring->cells[ring->tail & ring->mask];

    cell->call_id = message->call_id;
    cell->subject = message->subject;
    cell->length = message->length;
    cell->kind = message->kind;
    cell->flags = message->flags;
    cell->aux = message->aux;
    atomic_store_explicit(&cell->cancelled, message->cancelled, memory_order_relaxed);
    cell->block = message->block;
    cell->stamp = message->stamp;
    if (message->data != NULL)
        memcpy(cell->data, message->data, EP_INLINE_MAX);
    (void)ep_ring_commit(ring);
    if (ep_bell_must_ring(&lane->shm.response_bell))
        evil_ring(worker);
}

bool evil_has_room(struct evil_lane *lane)
{
    struct ep_cell *cell;

    return ep_ring_reserve(&lane->shm.response, &cell) == 0;
}

bool evil_send(struct evil_worker *worker, struct evil_lane *lane, enum ep_kind kind, uint8_t aux,
               uint64_t call_id, uint64_t subject, const void *payload, size_t length)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    uint64_t start = evil_now_ms();

    while (!evil_has_room(lane)
           || !evil_fill(lane, &message, data, kind, call_id, payload, length)) {
        if (evil_now_ms() - start > ROOM_LIMIT_MS)
            return false;
        evil_pause_us(200);
    }
    message.aux = aux;
    message.subject = subject;
    evil_publish(worker, lane, &message);
    return true;
}

uint64_t evil_target_id(struct evil_lane *lane, enum evil_target target, struct evil_random *random)
{
    const struct ep_ring_rx *ring = &lane->shm.call;
    const struct ep_cell *cell = &ring->cells[(ring->head + evil_below(random, 2)) & ring->mask];

    switch (target) {
    case EVIL_IN_RING: return cell->call_id;
    /* Entries are given out in the order of their numbers, at first. */
    case EVIL_IN_QUEUE: return lane->highest + ring->mask + 2 + evil_below(random, 8);
    case EVIL_UNKNOWN: return evil_coin(random) ? evil_odd_number(random) : evil_below(random, 300);
    default: return lane->ids[target];
    }
}

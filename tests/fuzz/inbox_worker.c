/* SPDX-License-Identifier: Apache-2.0 */
#include "inbox_worker.h"

#include "ep_etf.h"
#include "ep_lane.h"
#include "ep_seal.h"

#include <string.h>

void worker_receive(struct run *run)
{
    uint32_t what = below(run, 8);
    struct ep_lane_worker *lane = &run->side.lanes[what / 2 % SIDE_LANES];
    struct ep_ring_rx *ring = (what & 1) != 0 ? &lane->urgent : &lane->call;
    const struct ep_cell *cell;

    if (ep_ring_peek(ring, &cell) != 0)
        return;
    if (cell->kind <= EP_KIND_EXEC && cell->kind != EP_KIND_START)
        run->ids[run->n_ids++ % 8] = cell->call_id;
    if (run->n_ids > 8)
        run->n_ids = 8;
    if ((cell->flags & EP_FLAG_BLOCK) != 0 && (what & 4) == 0)
        ep_reclaim_push(&lane->reclaim_tx, cell->block);
    ep_ring_advance(ring);
    ep_ring_publish_head(ring);
}

/* The start of a payload; bytes of the input follow, or stand alone. */
static size_t put_payload(struct run *run, uint8_t *to, size_t size)
{
    struct ep_buf buf;

    ep_buf_init(&buf, to, size, size);
    switch (below(run, 5)) {
    case 0: ep_etf_put_int(&buf, 7); break;
    case 1:
        ep_etf_put_int(&buf, 0);
        ep_etf_put_binary(&buf, "f", 1);
        ep_etf_put_list(&buf, 1);
        ep_etf_put_int(&buf, 1);
        ep_etf_put_nil(&buf);
        break;
    case 2:
        ep_etf_put_binary(&buf, "KeyError", 8);
        ep_etf_put_binary(&buf, "k", 1);
        ep_etf_put_nil(&buf);
        break;
    default: break;
    }
    size_t length = buf.length;
    size_t most = below(run, 64);
    return length + copy(run, to + length, most < size - length ? most : size - length);
}

static const uint8_t kinds[] = {EP_KIND_RESULT,   EP_KIND_ERROR,      EP_KIND_DROPPED,
                                EP_KIND_STARTED,  EP_KIND_STOPPED,    EP_KIND_HELLO,
                                EP_KIND_CALLBACK, EP_KIND_MAINTAINED, EP_KIND_RESULT,
                                EP_KIND_CALLBACK, EP_KIND_CALLBACK};

/* A message in the next cell of a ring. With lies, any of its fields may be anything. */
void worker_send(struct run *run)
{
    static const uint32_t lengths[] = {193,    300,      5000,     66000,
                                       200000, 1u << 20, 1u << 30, UINT32_MAX};
    uint32_t index = below(run, SIDE_LANES);
    struct ep_lane_worker *lane = &run->side.lanes[index];
    unsigned how = (unsigned)take(run, 1);
    struct ep_cell *cell;

    if (ep_ring_reserve(&lane->response, &cell) < 0)
        return;
    uint64_t id = some_id(run);
    ep_cell_begin(cell, kinds[below(run, sizeof(kinds))], 0, 0, id, id >> 1);
    if ((how & 1) != 0)
        cell->subject = take(run, 8);
    if ((how & 2) != 0)
        cell->aux = (uint8_t)take(run, 1);
    if (index == 0 || (how & 4) != 0)
        ep_cell_set_stamp(cell, (how & 8) != 0 ? take(run, 8) : below(run, SIDE_LANES + 1));
    if ((how & 16) != 0) {
        uint64_t block = take(run, 1) % (SIDE_SLAB_BYTES / EP_PAGE) * EP_PAGE;
        (void)put_payload(run, lane->slab_mem + block, 256);
        cell->length = lengths[below(run, 8)];
        ep_cell_set_block(cell, (how & 32) != 0 ? take(run, 8) : block);
    } else {
        cell->length = (uint32_t)put_payload(run, cell->data, sizeof(cell->data));
    }
    if ((how & 64) != 0)
        cell->kind = (uint8_t)take(run, 1);
    if ((how & 128) != 0)
        cell->flags = (uint8_t)take(run, 1);
    (void)ep_ring_commit(&lane->response);
}

/* The handle of the process that reads messages, as the VM has sealed it. */
static void put_reader(struct run *run, struct ep_buf *buf)
{
    ErlNifEnv *env = enif_alloc_env();
    ErlNifBinary bin;

    if (enif_term_to_binary(env, enif_make_pid(env, &run->reader), &bin)) {
        uint64_t seal = ep_seal(run->vm->seal_key, bin.data, bin.size);
        ep_etf_put_handle(buf, EP_HANDLE_PID, bin.data, bin.size, (const uint8_t *)&seal);
        enif_release_binary(&bin);
    }
    enif_free_env(env);
}

void worker_send_letter(struct run *run, unsigned how)
{
    struct ep_lane_worker *lane = &run->side.lanes[how % SIDE_LANES];
    uint8_t bytes[EP_INLINE_MAX];
    struct ep_cell *cell;
    struct ep_buf buf;

    if (ep_ring_reserve(&lane->response, &cell) < 0)
        return;
    ep_buf_init(&buf, bytes, sizeof(bytes), sizeof(bytes));
    put_reader(run, &buf);
    size_t most = below(run, 64);
    buf.length += copy(run, bytes + buf.length, most);
    ep_cell_begin(cell, EP_KIND_SEND, 0, 0, 0, 0);
    cell->length = (uint32_t)buf.length;
    if ((how & 16) != 0) {
        uint64_t block = take(run, 1) % (SIDE_SLAB_BYTES / EP_PAGE) * EP_PAGE;
        memcpy(lane->slab_mem + block, bytes, buf.length);
        ep_cell_set_block(cell, block);
        if ((how & 32) != 0)
            cell->length = (uint32_t)take(run, 2);
    } else {
        memcpy(cell->data, bytes, buf.length);
    }
    (void)ep_ring_commit(&lane->response);
}

void worker_write_anything(struct run *run)
{
    size_t offset = (size_t)take(run, 3) % run->side.rings_size;
    size_t n = 1 + below(run, 64);

    if (n > run->side.rings_size - offset)
        n = run->side.rings_size - offset;
    (void)copy(run, run->side.rings + offset, n);
}

void worker_write_word(struct run *run)
{
    uint32_t lane = below(run, SIDE_LANES);
    enum side_word word = below(run, SIDE_WORDS);
    uint64_t n = take(run, 1);

    side_add_to_word(&run->side, lane, word, n < 128 ? n : n < 192 ? n - 192 : take(run, 8));
}

void worker_hand_back(struct run *run)
{
    struct ep_lane_worker *lane = &run->side.lanes[below(run, SIDE_LANES)];
    uint64_t block = take(run, 1);

    ep_reclaim_push(&lane->reclaim_tx, block < 128 ? block * EP_PAGE : take(run, 8));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_etf.h"
#include "evil_message.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A thread that changes memory while the VM reads it, and one that only burns a CPU. */

#define BLOCK (512u << 10)

struct mutation {
    _Atomic uint8_t *bytes;
    size_t size;
    uint8_t mask;
    struct evil_random random;
    uint64_t end_ms;
    _Atomic bool is_over;
};

static void *mutate(void *user)
{
    struct mutation *m = user;

    while (!atomic_load_explicit(&m->is_over, memory_order_relaxed) && evil_now_ms() < m->end_ms) {
        for (unsigned i = 0; i < 256; i++) {
            uint64_t r = evil_next(&m->random);
            _Atomic uint8_t *byte = &m->bytes[(r >> 8) % m->size];
            atomic_fetch_xor_explicit(byte, (uint8_t)r & m->mask, memory_order_relaxed);
        }
    }
    return NULL;
}

/* Publishes results of one block for the call, and honest ones for those that come, while the
 * thread changes bytes. */
static void send_while(struct evil_order *order, struct mutation *m,
                       const struct evil_message *message)
{
    pthread_t thread;

    m->random = order->random;
    m->end_ms = evil_now_ms() + order->ms + 1;
    if (pthread_create(&thread, NULL, mutate, m) != 0)
        evil_die("no thread");
    while (evil_now_ms() < m->end_ms) {
        if (message != NULL && evil_has_room(order->via))
            evil_publish(order->worker, order->via, message);
        message = NULL;
        evil_pause_us(100);
    }
    atomic_store(&m->is_over, true);
    (void)pthread_join(thread, NULL);
}

/* A large result: a list of small terms, of which any byte may be another the next moment. */
static void put_large(struct ep_buf *buf, uint64_t shape)
{
    if (shape == 0) {
        uint8_t *at = ep_etf_put_binary_header(buf, BLOCK - EP_ETF_BINARY_HEADER);
        if (at != NULL)
            memset(at, 'x', BLOCK - EP_ETF_BINARY_HEADER);
        return;
    }
    uint32_t n = 10000;
    ep_etf_put_list(buf, n);
    for (uint32_t i = 0; i < n; i++) {
        if (shape == 1)
            ep_etf_put_int(buf, i);
        else
            ep_etf_put_binary(buf, "a binary of some length", i % 20);
    }
    ep_etf_put_nil(buf);
}

static void mutate_payload(struct evil_order *order, uint64_t shape, size_t most)
{
    static struct mutation m;
    struct evil_message message;
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, (size_t)2 * BLOCK);
    put_large(&buf, shape);
    bool is_filled =
        evil_fill(order->via, &message, NULL, EP_KIND_RESULT, order->id, buf.data, buf.length);
    ep_buf_finish(&buf);
    if (!is_filled)
        return;
    m.bytes = (_Atomic uint8_t *)(order->via->shm.slab_mem + message.block);
    m.size = most < message.length ? most : message.length;
    m.mask = 0xff;
    send_while(order, &m, &message);
}

/* The bytes of a result. */
static void mutate_block(struct evil_order *order)
{
    mutate_payload(order, 1 + order->seed % 2, SIZE_MAX);
}

/* The header that says how long it is. */
static void mutate_header(struct evil_order *order)
{
    mutate_payload(order, order->seed % 3, EP_ETF_BINARY_HEADER);
}

/* The cells of the response ring. */
static void mutate_slots(struct evil_order *order)
{
    static struct mutation m;
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_make(order, &message, data);
    m.bytes = (_Atomic uint8_t *)order->via->shm.response.cells;
    m.size = (size_t)EP_RESPONSE_CELLS * sizeof(struct ep_cell);
    m.mask = 0xff;
    send_while(order, &m, &message);
}

/* All words and entries of a lane in B. */
static void mutate_words(struct evil_order *order)
{
    static struct mutation m;
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_make(order, &message, data);
    m.bytes = (_Atomic uint8_t *)order->via->shm.call.shared_head;
    m.size = sizeof(struct ep_lane_b);
    m.mask = 0x0f;
    send_while(order, &m, &message);
}

static void *burn(void *user)
{
    uint64_t end = evil_now_ms() + *(unsigned *)user;

    while (evil_now_ms() < end)
        continue;
    return NULL;
}

/* No attack: what the neighbours pay for a busy CPU. */
static void burn_cpu(struct evil_order *order)
{
    static unsigned ms;
    pthread_t thread;

    ms = order->ms;
    if (pthread_create(&thread, NULL, burn, &ms) != 0)
        evil_die("no thread");
    (void)pthread_detach(thread);
}

const struct evil_attack evil_mutator_attacks[] = {
    {"mutate_block", mutate_block}, {"mutate_header", mutate_header},
    {"mutate_slots", mutate_slots}, {"mutate_words", mutate_words},
    {"burn_cpu", burn_cpu},         {NULL, NULL},
};

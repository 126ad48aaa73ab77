/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_etf.h"
#include "evil_message.h"

#include <stdlib.h>
#include <string.h>

/* More of it than the VM has time, memory or processes for. */

#define BIG (16u << 20)

/* Publishes the same message until the time is over, as fast as there is room, or faster. */
static void flood(struct evil_order *order, const struct evil_message *message, bool is_paced)
{
    uint64_t end = evil_now_ms() + order->ms;

    do {
        for (unsigned i = 0; i < 64; i++) {
            if (is_paced && !evil_has_room(order->via))
                break;
            evil_publish(order->worker, order->via, message);
        }
    } while (evil_now_ms() < end);
}

static void flood_kind(struct evil_order *order, bool is_paced)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_make(order, &message, data);
    flood(order, &message, is_paced);
}

/* Any kind of message. */
static void flood_messages(struct evil_order *order)
{
    flood_kind(order, true);
}

/* Faster than the VM reads: what it has not read is overwritten. */
static void flood_unpaced(struct evil_order *order)
{
    flood_kind(order, false);
}

/* Replies to a call that has ended, which cost a look at the table each. */
static void flood_stale(struct evil_order *order)
{
    order->seed = 0;
    order->id = order->lane->ids[EVIL_ENDED];
    flood_kind(order, true);
}

static void flood_hello(struct evil_order *order)
{
    order->seed = 5;
    flood_kind(order, true);
}

/* Questions with a new number each, for one call or in the name of threads. */
static void flood_questions(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    uint64_t end = evil_now_ms() + order->ms, number = order->number;

    do {
        for (unsigned i = 0; i < 64 && evil_has_room(order->via); i++) {
            evil_message_question(order, &message, data, "evil_now", ++number);
            evil_publish(order->worker, order->via, &message);
        }
    } while (evil_now_ms() < end);
}

/* Questions by threads that do not exist, at a rate and until there are so many: ms is the
 * time, the seed the number. */
static void flood_threads(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    uint64_t start = evil_now_ms(), sent = 0;

    order->via = &order->worker->lanes[0];
    while (sent < order->seed) {
        uint64_t due = order->seed * (evil_now_ms() - start) / order->ms;
        while (sent < due && sent < order->seed && evil_has_room(order->via)) {
            evil_message_question(order, &message, data, "evil_slow", ++sent);
            evil_publish(order->worker, order->via, &message);
        }
        evil_pause_us(500);
    }
}

/* Messages of 16 MiB on the control lane: questions and answers to inquiries. */
static void flood_big(struct evil_order *order)
{
    uint8_t *bytes = calloc(1, BIG);
    uint64_t end = evil_now_ms() + order->ms, id = 0;

    if (bytes == NULL)
        evil_die("no memory");
    order->via = &order->worker->lanes[0];
    struct ep_buf buf;
    ep_buf_init(&buf, bytes, BIG, BIG);
    ep_etf_put_int(&buf, 0);
    ep_etf_put_binary(&buf, "evil_now", 8);
    ep_etf_put_list(&buf, 1);
    (void)ep_etf_put_binary_header(&buf, BIG - buf.length - 6);
    ep_etf_put_nil(&buf);
    do {
        struct evil_message message;
        if (!evil_has_room(order->via)
            || !evil_fill(order->via, &message, NULL,
                          evil_coin(&order->random) ? EP_KIND_CALLBACK : EP_KIND_MAINTAINED, ++id,
                          bytes, buf.length)) {
            evil_pause_us(200);
            continue;
        }
        message.flags |= EP_FLAG_TIMED;
        message.stamp = 1;
        evil_publish(order->worker, order->via, &message);
    } while (evil_now_ms() < end);
    free(bytes);
}

static void flood_doorbell(struct evil_order *order)
{
    uint64_t end = evil_now_ms() + order->ms;

    do {
        for (unsigned i = 0; i < 1000; i++)
            evil_ring(order->worker);
    } while (evil_now_ms() < end);
}

/* Asks at once what was just answered, and never takes an answer. */
static void flood_untaken(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    uint64_t end = evil_now_ms() + order->ms, number = order->number;

    do {
        evil_message_question(order, &message, data, "evil_now", ++number);
        evil_publish(order->worker, order->via, &message);
        evil_pause_us(100);
    } while (evil_now_ms() < end);
}

const struct evil_attack evil_flood_attacks[] = {
    {"flood_messages", flood_messages},
    {"flood_unpaced", flood_unpaced},
    {"flood_stale", flood_stale},
    {"flood_hello", flood_hello},
    {"flood_questions", flood_questions},
    {"flood_threads", flood_threads},
    {"flood_big", flood_big},
    {"flood_doorbell", flood_doorbell},
    {"flood_untaken", flood_untaken},
    {NULL, NULL},
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "evil_message.h"

#include "ep_etf.h"

#include <stdatomic.h>
#include <string.h>

/* One field of one message is wrong, or nothing but the moment is. */

#define LATER (1u << 27)

/* The first that there were keep their numbers, so that what the corpus has stays what it was. */
static const uint8_t kinds[EVIL_KINDS] = {
    EP_KIND_RESULT,  EP_KIND_ERROR,    EP_KIND_DROPPED,  EP_KIND_STARTED,
    EP_KIND_STOPPED, EP_KIND_HELLO,    EP_KIND_CALLBACK, EP_KIND_MAINTAINED,
    EP_KIND_CALL,    EP_KIND_SHUTDOWN, EP_KIND_ANSWER,   EP_KIND_SEND,
};
static const uint8_t later_kinds[] = {EP_KIND_TASK, EP_KIND_TASK_CANCEL, EP_KIND_ITEMS};

static uint8_t kind_of(uint64_t seed)
{
    return (seed & LATER) != 0 ? later_kinds[seed % sizeof(later_kinds)] : kinds[seed % EVIL_KINDS];
}

static void put_payload(struct ep_buf *buf, uint8_t kind)
{
    static const uint8_t seal[EP_ETF_SEAL_SIZE];

    switch (kind) {
    case EP_KIND_RESULT:
    case EP_KIND_MAINTAINED: ep_etf_put_int(buf, 666); break;
    case EP_KIND_ERROR:
        ep_etf_put_binary(buf, "ValueError", 10);
        ep_etf_put_binary(buf, "evil", 4);
        ep_etf_put_nil(buf);
        break;
    case EP_KIND_CALLBACK:
        ep_etf_put_int(buf, 0);
        ep_etf_put_binary(buf, "evil_now", 8);
        ep_etf_put_nil(buf);
        break;
    case EP_KIND_HELLO:
        ep_etf_put_int(buf, 1);
        ep_etf_put_binary(buf, "6.6.6 (evil)", 12);
        ep_etf_put_atom(buf, "true", 4);
        ep_etf_put_atom(buf, "true", 4);
        break;
    case EP_KIND_SEND:
        ep_etf_put_handle(buf, EP_HANDLE_PID, "evil", 4, seal);
        ep_etf_put_int(buf, 666);
        break;
    default: break;
    }
}

void evil_message_make(struct evil_order *order, struct evil_message *ret_message,
                       uint8_t inline_data[])
{
    uint8_t kind = kind_of(order->seed);
    struct ep_buf buf;
    uint8_t lent[64];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    put_payload(&buf, kind);
    (void)evil_fill(order->via, ret_message, inline_data, (enum ep_kind)kind, order->id, buf.data,
                    buf.length);
    if (kind == EP_KIND_CALLBACK)
        ret_message->subject = order->via->index == 0 ? 0 : ++order->lane->number;
    if (order->via->index == 0) {
        ret_message->flags |= EP_FLAG_TIMED;
        ret_message->stamp = 1; /* the lane that it concerns */
    }
}

void evil_message_question(struct evil_order *order, struct evil_message *ret_message,
                           uint8_t inline_data[], const char *function, uint64_t number)
{
    struct ep_buf buf;
    uint8_t lent[64];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_int(&buf, 0);
    ep_etf_put_binary(&buf, function, strlen(function));
    ep_etf_put_nil(&buf);
    (void)evil_fill(order->via, ret_message, inline_data, EP_KIND_CALLBACK, order->id, buf.data,
                    buf.length);
    ret_message->subject = number;
    if (order->via->index == 0) {
        ret_message->call_id = number;
        ret_message->subject = 0;
        ret_message->flags |= EP_FLAG_TIMED;
        ret_message->stamp = 1;
    }
}

/* --- attacks ---------------------------------------------------------------------- */

typedef void spoil_fn(struct evil_order *order, struct evil_message *message);

static void send_spoilt(struct evil_order *order, spoil_fn *spoil)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_make(order, &message, data);
    if (spoil != NULL)
        spoil(order, &message);
    evil_publish(order->worker, order->via, &message);
}

static void spoil_kind(struct evil_order *order, struct evil_message *message)
{
    message->kind = (uint8_t)evil_next(&order->random);
}

static void spoil_flags(struct evil_order *order, struct evil_message *message)
{
    message->flags = (uint8_t)evil_next(&order->random);
}

static void spoil_aux(struct evil_order *order, struct evil_message *message)
{
    message->aux = (uint8_t)(1 + evil_below(&order->random, 255));
}

static void spoil_call_id(struct evil_order *order, struct evil_message *message)
{
    static const int64_t near[] = {1, -1, 256, (int64_t)1 << 32, -((int64_t)1 << 32)};

    message->call_id = evil_coin(&order->random)
                           ? message->call_id + (uint64_t)near[evil_below(&order->random, 5)]
                           : evil_odd_number(&order->random);
}

static void spoil_subject(struct evil_order *order, struct evil_message *message)
{
    message->subject = evil_odd_number(&order->random);
}

static void spoil_length(struct evil_order *order, struct evil_message *message)
{
    message->length = (uint32_t)evil_odd_number(&order->random);
    if (evil_coin(&order->random))
        message->flags |= EP_FLAG_BLOCK;
}

static void spoil_block(struct evil_order *order, struct evil_message *message)
{
    message->flags |= EP_FLAG_BLOCK;
    message->block = evil_odd_number(&order->random);
    if (evil_coin(&order->random))
        message->block &= ~(uint64_t)(EP_PAGE - 1);
    if (evil_coin(&order->random))
        message->length = (uint32_t)evil_below(&order->random, 1 << 20);
}

static void spoil_stamp(struct evil_order *order, struct evil_message *message)
{
    message->flags |= EP_FLAG_TIMED;
    message->stamp = evil_odd_number(&order->random);
}

static void spoil_cancelled(struct evil_order *order, struct evil_message *message)
{
    message->cancelled = (uint8_t)evil_next(&order->random);
}

static void spoil_all(struct evil_order *order, struct evil_message *message)
{
    spoil_kind(order, message);
    spoil_flags(order, message);
    spoil_aux(order, message);
    spoil_call_id(order, message);
    spoil_subject(order, message);
    spoil_length(order, message);
    message->block = evil_odd_number(&order->random);
    message->stamp = evil_odd_number(&order->random);
}

static void message_whole(struct evil_order *order)
{
    send_spoilt(order, NULL);
}

static void message_twice(struct evil_order *order)
{
    send_spoilt(order, NULL);
    send_spoilt(order, NULL);
}

static void message_kind(struct evil_order *order)
{
    send_spoilt(order, spoil_kind);
}

static void message_flags(struct evil_order *order)
{
    send_spoilt(order, spoil_flags);
}

static void message_aux(struct evil_order *order)
{
    send_spoilt(order, spoil_aux);
}

static void message_call_id(struct evil_order *order)
{
    send_spoilt(order, spoil_call_id);
}

static void message_subject(struct evil_order *order)
{
    send_spoilt(order, spoil_subject);
}

static void message_length(struct evil_order *order)
{
    send_spoilt(order, spoil_length);
}

static void message_block(struct evil_order *order)
{
    send_spoilt(order, spoil_block);
}

static void message_stamp(struct evil_order *order)
{
    send_spoilt(order, spoil_stamp);
}

static void message_cancelled(struct evil_order *order)
{
    send_spoilt(order, spoil_cancelled);
}

static void message_all(struct evil_order *order)
{
    send_spoilt(order, spoil_all);
}

static void message_seq(struct evil_order *order)
{
    struct ep_ring_tx *ring = &order->via->shm.response;
    struct ep_cell *cell = &ring->cells[ring->tail & ring->mask];

    atomic_store_explicit(&cell->seq, evil_odd_number(&order->random), memory_order_seq_cst);
    evil_ring(order->worker);
}

/* A message behind a gap. */
static void message_gap(struct evil_order *order)
{
    order->via->shm.response.tail += 1 + evil_below(&order->random, 300);
    send_spoilt(order, NULL);
    evil_ring(order->worker);
}

/* Replies to every call that this lane may have, with every generation that is near. */
static void message_spray(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    uint64_t generations = 1 + evil_below(&order->random, 3);

    for (uint64_t index = 1; index <= 300; index++) {
        for (uint64_t generation = 0; generation < generations; generation++) {
            if (!evil_has_room(order->via))
                evil_pause_us(200);
            if (!evil_has_room(order->via))
                return;
            evil_message_make(order, &message, data);
            message.call_id = generation << 32 | index;
            evil_publish(order->worker, order->via, &message);
        }
    }
}

/* The same question once more, and the next before the first is answered. */
static void question_again(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_question(order, &message, data, "evil_now", order->number);
    evil_publish(order->worker, order->via, &message);
    evil_message_question(order, &message, data, "evil_now", order->number + 1);
    evil_publish(order->worker, order->via, &message);
}

/* Numbers that name no question. */
static void question_number(struct evil_order *order)
{
    static const int64_t numbers[] = {-1, 13, 14, 255, 1 << 20, INT64_MAX, INT64_MIN};
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    struct ep_buf buf;
    uint8_t lent[64];

    evil_message_question(order, &message, data, "evil_now", ++order->lane->number);
    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_int(&buf, numbers[order->seed % 7]);
    ep_etf_put_nil(&buf);
    memcpy(data, buf.data, buf.length);
    message.length = (uint32_t)buf.length;
    evil_publish(order->worker, order->via, &message);
}

/* Questions whose arguments have another shape. */
static void question_shape(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];
    struct ep_buf buf;
    uint8_t lent[128];

    evil_message_question(order, &message, data, "evil_now", ++order->lane->number);
    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_int(&buf, (int64_t)(order->seed % 13));
    for (uint64_t n = evil_below(&order->random, 4); n > 0; n--) {
        switch (evil_below(&order->random, 5)) {
        case 0: ep_etf_put_int(&buf, -5); break;
        case 1: ep_etf_put_binary(&buf, "evil_now", 8); break;
        case 2: ep_etf_put_map(&buf, 0); break;
        case 3: ep_etf_put_atom(&buf, "none", 4); break;
        default:
            ep_etf_put_list(&buf, 1);
            ep_etf_put_float(&buf, 1e300);
            ep_etf_put_nil(&buf);
            break;
        }
    }
    memcpy(data, buf.data, buf.length);
    message.data = data;
    message.length = (uint32_t)buf.length;
    evil_publish(order->worker, order->via, &message);
}

const struct evil_attack evil_message_attacks[] = {
    {"message_whole", message_whole},
    {"message_twice", message_twice},
    {"message_kind", message_kind},
    {"message_flags", message_flags},
    {"message_aux", message_aux},
    {"message_call_id", message_call_id},
    {"message_subject", message_subject},
    {"message_length", message_length},
    {"message_block", message_block},
    {"message_stamp", message_stamp},
    {"message_cancelled", message_cancelled},
    {"message_all", message_all},
    {"message_seq", message_seq},
    {"message_gap", message_gap},
    {"message_spray", message_spray},
    {"question_again", question_again},
    {"question_number", question_number},
    {"question_shape", question_shape},
    {NULL, NULL},
};

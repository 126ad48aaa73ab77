/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_etf.h"
#include "evil_message.h"
#include "evil_serve.h"

#include <string.h>

/*
 * Messages to Erlang processes by a worker that has pids and credit. The scene gave handles: of a
 * process that reads nothing, one that reads all, one that has ended, and a reference.
 */

#define BYTES_MAX (EP_SEND_MAX + 1024u)
#define ANSWER_MS 200u

/* The numbers of evil_scene.erl. */
enum { HANDLE_LIVES, HANDLE_IDLE, HANDLE_DEAD, HANDLE_REF };

static void put_handle(struct evil_order *order, struct ep_buf *buf, unsigned which)
{
    ep_buf_put(buf, order->worker->handles[which].bytes, order->worker->handles[which].size);
}

/* A question in the name of a thread, and its answer. The limit of what SENDs may cost. */
static void ask(struct evil_order *order, unsigned number, unsigned which, uint32_t long_bytes)
{
    static uint8_t bytes[BYTES_MAX * 4];
    struct evil_lane *control = &order->worker->lanes[0];
    struct evil_message message;
    struct ep_buf buf;
    uint64_t answers = order->worker->answers, end = evil_now_ms() + ANSWER_MS;

    ep_buf_init(&buf, bytes, sizeof(bytes), sizeof(bytes));
    ep_etf_put_int(&buf, number);
    ep_etf_put_list(&buf, long_bytes > 0 ? 3 : 2);
    if (long_bytes > 0)
        ep_etf_put_int(&buf, 1);
    put_handle(order, &buf, which);
    if (long_bytes > 0)
        (void)ep_etf_put_binary_header(&buf, long_bytes);
    else
        ep_etf_put_atom(&buf, "true", 4);
    ep_etf_put_nil(&buf);
    uint8_t data[EP_INLINE_MAX];
    if (!evil_has_room(control)
        || !evil_fill(control, &message, data, EP_KIND_CALLBACK, ++order->worker->asked, buf.data,
                      buf.length))
        return;
    message.flags |= EP_FLAG_TIMED;
    message.stamp = 1;
    evil_publish(order->worker, control, &message);
    while (order->worker->answers == answers && evil_now_ms() < end)
        if (!evil_serve(order->worker))
            evil_pause_us(50);
}

static void put_letter(struct evil_order *order, struct ep_buf *buf, unsigned which, uint32_t size)
{
    put_handle(order, buf, which);
    (void)ep_etf_put_binary_header(buf, size);
}

static bool send(struct evil_order *order, struct ep_buf *buf)
{
    return evil_send(order->worker, order->via, EP_KIND_SEND, 0, 0, 0, buf->data, buf->length);
}

static bool send_letter(struct evil_order *order, unsigned which, uint32_t size)
{
    static uint8_t bytes[BYTES_MAX];
    struct ep_buf buf;

    ep_buf_init(&buf, bytes, sizeof(bytes), sizeof(bytes));
    put_letter(order, &buf, which, size);
    order->worker->paid += EP_SEND_COST + buf.length;
    return send(order, &buf);
}

/* Stays within its credit, asks about a process that is idle, and sends to that one last. */
static void flood(struct evil_order *order, uint32_t size)
{
    uint64_t end = evil_now_ms() + order->ms;
    struct evil_worker *worker = order->worker;

    while (evil_now_ms() < end) {
        bool is_long = evil_coin(&order->random);
        ask(order, is_long ? EP_QUESTION_DELIVER : EP_QUESTION_RECEIVER, HANDLE_IDLE, is_long);
        while (worker->paid < worker->limit && evil_now_ms() < end) {
            bool is_last = worker->limit - worker->paid < 40000;
            if (!send_letter(order, is_last ? HANDLE_IDLE : HANDLE_LIVES, is_last ? 1 : size))
                return;
        }
    }
}

static void letter_credit(struct evil_order *order)
{
    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    for (int i = 0; i < 100 && order->worker->paid < order->worker->limit; i++)
        (void)send_letter(order, HANDLE_LIVES, (uint32_t)evil_below(&order->random, 1000));
}

static void letter_flood(struct evil_order *order)
{
    flood(order, 1);
}

static void letter_flood_long(struct evil_order *order)
{
    flood(order, EP_SEND_MAX - 200);
}

/* What nobody gets costs, too. */
static void letter_dead(struct evil_order *order)
{
    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    for (int i = 0; i < 1000 && order->worker->paid < order->worker->limit; i++)
        (void)send_letter(order, HANDLE_DEAD, 10);
}

static void letter_overdraw(struct evil_order *order)
{
    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    while (order->worker->paid < order->worker->limit + (size_t)4 * EP_SEND_MAX)
        if (!send_letter(order, HANDLE_DEAD, EP_SEND_MAX - 200))
            return;
}

/* One bit of what the VM has sealed is another. */
static void letter_forged(struct evil_order *order)
{
    uint8_t bytes[256];
    struct ep_buf buf;

    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    ep_buf_init(&buf, bytes, sizeof(bytes), sizeof(bytes));
    put_letter(order, &buf, HANDLE_LIVES, 1);
    size_t size = order->worker->handles[HANDLE_LIVES].size;
    bytes[size - 1 - order->seed % 15] ^= (uint8_t)(1u << (order->seed / 15 % 8));
    (void)send(order, &buf);
}

static void letter_ref(struct evil_order *order)
{
    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    (void)send_letter(order, HANDLE_REF, 1);
}

static void letter_long(struct evil_order *order)
{
    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    (void)send_letter(order, HANDLE_LIVES, EP_SEND_MAX);
}

/* Too large for a thread that is no scheduler. */
static void letter_map(struct evil_order *order)
{
    static uint8_t bytes[BYTES_MAX];
    struct ep_buf buf;

    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    ep_buf_init(&buf, bytes, sizeof(bytes), sizeof(bytes));
    put_handle(order, &buf, HANDLE_LIVES);
    uint32_t n = EP_SEND_KEYS_MAX + 1 + (uint32_t)(order->seed % 1000);
    ep_etf_put_map(&buf, n);
    for (uint32_t i = 0; i < n; i++) {
        ep_etf_put_int(&buf, i);
        ep_etf_put_nil(&buf);
    }
    (void)send(order, &buf);
}

/* Of a call. */
static void letter_call(struct evil_order *order)
{
    uint8_t bytes[256];
    struct ep_buf buf;

    ask(order, EP_QUESTION_RECEIVER, HANDLE_LIVES, 0);
    ep_buf_init(&buf, bytes, sizeof(bytes), sizeof(bytes));
    put_letter(order, &buf, HANDLE_LIVES, 0);
    (void)evil_send(order->worker, order->via, EP_KIND_SEND, 0, order->id | 1, 0, buf.data,
                    buf.length);
}

/* Questions about what is no process, and long messages to it. */
static void letter_questions(struct evil_order *order)
{
    for (unsigned i = 0; i < 20; i++)
        ask(order, evil_coin(&order->random) ? EP_QUESTION_RECEIVER : EP_QUESTION_DELIVER,
            (unsigned)evil_below(&order->random, 4),
            (uint32_t)evil_below(&order->random, 2)
                * (1 + (uint32_t)evil_below(&order->random, 30000)));
}

const struct evil_attack evil_letter_attacks[] = {
    {"letter_credit", letter_credit},
    {"letter_flood", letter_flood},
    {"letter_flood_long", letter_flood_long},
    {"letter_dead", letter_dead},
    {"letter_overdraw", letter_overdraw},
    {"letter_forged", letter_forged},
    {"letter_ref", letter_ref},
    {"letter_long", letter_long},
    {"letter_map", letter_map},
    {"letter_call", letter_call},
    {"letter_questions", letter_questions},
    {NULL, NULL},
};

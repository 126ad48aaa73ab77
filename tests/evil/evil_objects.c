/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_etf.h"
#include "evil_message.h"

#include <string.h>

/* Channels and the like that the worker does not hold, and questions about them that make no
 * sense. */

static void ask(struct evil_order *order, const struct ep_buf *question)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_question(order, &message, data, "evil_now", ++order->lane->number);
    if (question->error != 0 || question->length > sizeof(data))
        return;
    memcpy(data, question->data, question->length);
    message.length = (uint32_t)question->length;
    evil_publish(order->worker, order->via, &message);
}

static int64_t some_question(struct evil_order *order)
{
    return EP_QUESTION_OBJECT
           + (int64_t)evil_below(&order->random, EP_QUESTION_MAX - EP_QUESTION_OBJECT + 1);
}

/* One that it was not given. */
static void object_unknown(struct evil_order *order)
{
    struct ep_buf buf;
    uint8_t lent[128];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_int(&buf, some_question(order));
    ep_etf_put_list(&buf, 2);
    ep_etf_put_uint(&buf, evil_coin(&order->random) ? 1 + evil_below(&order->random, 1000)
                                                    : evil_odd_number(&order->random));
    ep_etf_put_int(&buf, -1);
    ep_etf_put_nil(&buf);
    ask(order, &buf);
}

/* No list, another count than there is, other types, bytes behind the end. */
static void object_shape(struct evil_order *order)
{
    struct ep_buf buf;
    uint8_t lent[128];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_int(&buf, some_question(order));
    switch (order->seed % 5) {
    case 0: ep_etf_put_nil(&buf); break;
    case 1: ep_etf_put_list(&buf, UINT32_MAX); break;
    case 2: ep_etf_put_list(&buf, 1); break;
    case 3:
        ep_etf_put_list(&buf, 1);
        ep_etf_put_binary(&buf, "id", 2);
        ep_etf_put_nil(&buf);
        break;
    default:
        ep_etf_put_list(&buf, 1);
        ep_etf_put_int(&buf, -1);
        ep_etf_put_int(&buf, 0);
        break;
    }
    ask(order, &buf);
}

const struct evil_attack evil_object_attacks[] = {
    {"object_unknown", object_unknown},
    {"object_shape", object_shape},
    {NULL, NULL},
};

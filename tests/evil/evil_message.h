/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVIL_MESSAGE_H
#define EVIL_MESSAGE_H

/*
 * evil_message - messages of every kind, as they should be, to be spoilt.
 *
 * Threads    the main thread.
 */

#include "evil_attack.h"

/* Kinds that a worker sends, and some that it must not. */
#define EVIL_KINDS 12

/* A message of the kind that order->seed names, about order->id. */
void evil_message_make(struct evil_order *order, struct evil_message *ret_message,
                       uint8_t inline_data[]);

/* A question of that number for order->via: a call of a function that Erlang has registered. */
void evil_message_question(struct evil_order *order, struct evil_message *ret_message,
                           uint8_t inline_data[], const char *function, uint64_t number);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ITEM_H
#define EP_ITEM_H

/*
 * ep_item - a message in a channel: a payload as it will be sent to a worker process.
 *
 * A term is encoded when it is sent, so that whoever sends hears of what Python cannot have. A
 * large binary is not copied: the item holds it.
 *
 * Ownership  an item has what it refers to; ep_item_free() ends that.
 * Threads    one at a time per item.
 */

#include "ep_budget.h"
#include "ep_buf.h"
#include "ep_cargo.h"

/* What an item takes besides its bytes, about. */
#define EP_ITEM_OVERHEAD 128u
/* From here on a binary is held instead of copied. */
#define EP_ITEM_HELD_MIN (32u << 10)

struct ep_item {
    struct ep_item *next;
    struct ep_cargo *cargo; /* arrays and objects; the payload ends with their list */
    ErlNifEnv *env;         /* holds term; or NULL */
    ERL_NIF_TERM term;      /* the binary whose bytes come after those of head */
    const uint8_t *tail;
    size_t n_tail;
    uint64_t size;   /* that counts */
    uint32_t prefix; /* bytes of head that a byte channel's message has before its own */
    uint32_t n_head;
    uint8_t head[];
};

/* Of an encoded term, whose cargo it takes. NULL: no memory. */
struct ep_item *ep_item_of_term(const struct ep_buf *buf, struct ep_cargo **cargo);

/* Of a binary, for a channel or for a byte channel, whose messages are always bytes. NULL: no
 * memory. */
struct ep_item *ep_item_of_binary(ErlNifEnv *env, ERL_NIF_TERM term, bool is_bytes);

/* A byte channel's, of bytes that the worker may still change. NULL: no memory. */
struct ep_item *ep_item_of_bytes(const uint8_t *bytes, size_t n);

static inline size_t ep_item_length(const struct ep_item *item)
{
    return item->n_head + item->n_tail;
}

/* Appends the payload. */
void ep_item_put(const struct ep_item *item, struct ep_buf *buf);

/* The message of a byte channel as a term. */
ERL_NIF_TERM ep_item_make_binary(ErlNifEnv *env, const struct ep_item *item);

/* Frees what it refers to within the budget, and then the item. True: it is gone. Nothing else may
 * be done with it from the first call on. */
bool ep_item_free_some(struct ep_item *item, struct ep_budget *budget);

void ep_item_free(struct ep_item *item);

#endif

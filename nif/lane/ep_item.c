/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_item.h"

#include "ep_etf.h"

#include <string.h>

static struct ep_item *alloc(size_t n_head)
{
    struct ep_item *item = enif_alloc(sizeof(*item) + n_head);

    if (item != NULL) {
        memset(item, 0, sizeof(*item));
        item->n_head = (uint32_t)n_head;
    }
    return item;
}

struct ep_item *ep_item_of_term(const struct ep_buf *buf, struct ep_cargo **cargo)
{
    struct ep_item *item = alloc(buf->length);

    if (item == NULL)
        return NULL;
    ep_copy(item->head, buf->data, buf->length);
    item->size = buf->length;
    item->cargo = *cargo;
    *cargo = NULL;
    return item;
}

/* What comes before the bytes: of {bytes, Binary}, if they are bytes for Python in any case. */
static void put_prefix(struct ep_buf *buf, bool is_bytes, size_t n)
{
    if (is_bytes) {
        ep_etf_put_tuple(buf, 2);
        ep_etf_put_atom(buf, "bytes", 5);
    }
    (void)ep_etf_put_binary_header(buf, n);
    buf->length -= n;
}

/* An item with its prefix, and with room for n_own bytes of its own. */
static struct ep_item *begin(bool is_bytes, size_t n, size_t n_own)
{
    /* The header of a binary claims the room for all of its bytes. */
    struct ep_buf prefix = {.capacity = SIZE_MAX, .limit = SIZE_MAX};
    uint8_t bytes[32];

    prefix.data = prefix.lent = bytes;
    put_prefix(&prefix, is_bytes, n);
    struct ep_item *item = alloc(prefix.length + n_own);
    if (item == NULL)
        return NULL;
    item->prefix = (uint32_t)prefix.length;
    item->size = n;
    memcpy(item->head, bytes, prefix.length);
    return item;
}

struct ep_item *ep_item_of_binary(ErlNifEnv *env, ERL_NIF_TERM term, bool is_bytes)
{
    ErlNifBinary bin;

    if (!enif_inspect_binary(env, term, &bin))
        return NULL;
    bool is_held = bin.size >= EP_ITEM_HELD_MIN;
    struct ep_item *item = begin(is_bytes, bin.size, is_held ? 0 : bin.size);
    if (item == NULL)
        return NULL;
    if (!is_held) {
        ep_copy(item->head + item->prefix, bin.data, bin.size);
        return item;
    }
    item->env = enif_alloc_env();
    item->term = enif_make_copy(item->env, term);
    (void)enif_inspect_binary(item->env, item->term, &bin);
    item->tail = bin.data;
    item->n_tail = bin.size;
    return item;
}

struct ep_item *ep_item_of_bytes(const uint8_t *bytes, size_t n)
{
    bool is_held = n >= EP_ITEM_HELD_MIN;
    struct ep_item *item = begin(true, n, is_held ? 0 : n);

    if (item == NULL)
        return NULL;
    if (!is_held) {
        memcpy(item->head + item->prefix, bytes, n);
        return item;
    }
    item->env = enif_alloc_env();
    uint8_t *copy = enif_make_new_binary(item->env, n, &item->term);
    if (copy == NULL) {
        ep_item_free(item);
        return NULL;
    }
    memcpy(copy, bytes, n);
    item->tail = copy;
    item->n_tail = n;
    return item;
}

void ep_item_put(const struct ep_item *item, struct ep_buf *buf)
{
    ep_buf_put(buf, item->head, item->n_head);
    if (item->n_tail > 0)
        ep_buf_put(buf, item->tail, item->n_tail);
}

ERL_NIF_TERM ep_item_make_binary(ErlNifEnv *env, const struct ep_item *item)
{
    ERL_NIF_TERM term;

    if (item->env != NULL)
        return enif_make_copy(env, item->term);
    size_t n = item->n_head - item->prefix;
    uint8_t *bytes = enif_make_new_binary(env, n, &term);
    ep_copy(bytes, item->head + item->prefix, n);
    return term;
}

bool ep_item_free_some(struct ep_item *item, struct ep_budget *budget)
{
    if (item->cargo != NULL) {
        if (!ep_cargo_free_some(item->cargo, &budget->left))
            return false;
        item->cargo = NULL;
    }
    if (!ep_budget_pay(budget, ep_item_length(item)))
        return false;
    ep_item_free(item);
    return true;
}

void ep_item_free(struct ep_item *item)
{
    if (item == NULL)
        return;
    ep_cargo_free(item->cargo);
    if (item->env != NULL)
        enif_free_env(item->env);
    enif_free(item);
}

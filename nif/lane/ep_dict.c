/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_dict.h"

#include "ep_seal.h"

#include <errno.h>
#include <string.h>

#define PLACES_FIRST 16u
/* Of a table that grows within microseconds. */
#define PLACES_SMALL 4096u

struct ep_dict {
    uint8_t hash_key[16];
    size_t n, places; /* a power of two; 0 */
    uint64_t size;
    struct ep_dict_value **table;
};

struct ep_dict *ep_dict_create(const uint8_t hash_key[16])
{
    struct ep_dict *dict = enif_alloc(sizeof(*dict));

    if (dict == NULL)
        return NULL;
    memset(dict, 0, sizeof(*dict));
    memcpy(dict->hash_key, hash_key, sizeof(dict->hash_key));
    return dict;
}

void ep_dict_value_free(struct ep_dict_value *value)
{
    enif_free(value);
}

bool ep_dict_free_some(struct ep_dict *dict, struct ep_budget *budget)
{
    while (dict->places > 0) {
        struct ep_dict_value **place = &dict->table[dict->places - 1];
        while (*place != NULL) {
            struct ep_dict_value *value = *place;
            if (!ep_budget_pay(budget, ep_dict_value_size(value)))
                return false;
            *place = value->next;
            ep_dict_value_free(value);
        }
        if (!ep_budget_pay(budget, 0))
            return false;
        dict->places--;
    }
    enif_free(dict->table);
    enif_free(dict);
    return true;
}

void ep_dict_destroy(struct ep_dict *dict)
{
    struct ep_budget budget = {.left = SIZE_MAX};

    if (dict != NULL)
        (void)ep_dict_free_some(dict, &budget);
}

static struct ep_dict_value **find(const struct ep_dict *dict, uint64_t hash, const uint8_t *key,
                                   size_t n_key)
{
    struct ep_dict_value **at = &dict->table[hash & (dict->places - 1)];

    while (
        *at != NULL
        && ((*at)->hash != hash || (*at)->n_key != n_key || memcmp((*at)->data, key, n_key) != 0))
        at = &(*at)->next;
    return at;
}

struct ep_dict_value *ep_dict_get(const struct ep_dict *dict, const uint8_t *key, size_t n_key)
{
    return dict->places == 0 ? NULL : *find(dict, ep_seal(dict->hash_key, key, n_key), key, n_key);
}

struct ep_dict_value *ep_dict_value_create(const uint8_t *key, size_t n_key, const uint8_t *python,
                                           size_t n_python, const uint8_t *erlang, size_t n_erlang)
{
    bool is_good = n_python <= UINT32_MAX && n_erlang <= UINT32_MAX;
    struct ep_dict_value *value =
        is_good ? enif_alloc(sizeof(*value) + n_key + n_python + n_erlang) : NULL;

    if (value == NULL)
        return NULL;
    memset(value, 0, sizeof(*value));
    value->n_key = (uint32_t)n_key;
    value->n_python = (uint32_t)n_python;
    value->n_erlang = (uint32_t)n_erlang;
    ep_copy(value->data, key, n_key);
    ep_copy(value->data + n_key, python, n_python);
    ep_copy(value->data + n_key + n_python, erlang, n_erlang);
    return value;
}

/* Its place in the table, and what an allocation takes. */
#define VALUE_OVERHEAD (sizeof(struct ep_dict_value) + 32)

uint64_t ep_dict_value_size(const struct ep_dict_value *value)
{
    return VALUE_OVERHEAD + value->n_key + value->n_python + value->n_erlang;
}

static int grow(struct ep_dict *dict)
{
    size_t places = dict->places == 0 ? PLACES_FIRST : 2 * dict->places;
    struct ep_dict_value **table = enif_alloc(places * sizeof(*table));

    if (table == NULL)
        return -ENOMEM;
    memset(table, 0, places * sizeof(*table));
    for (size_t i = 0; i < dict->places; i++) {
        while (dict->table[i] != NULL) {
            struct ep_dict_value *value = dict->table[i];
            dict->table[i] = value->next;
            value->next = table[value->hash & (places - 1)];
            table[value->hash & (places - 1)] = value;
        }
    }
    enif_free(dict->table);
    dict->table = table;
    dict->places = places;
    return 0;
}

bool ep_dict_grows(const struct ep_dict *dict)
{
    return dict->n >= dict->places && dict->places >= PLACES_SMALL;
}

int ep_dict_set(struct ep_dict *dict, struct ep_dict_value *value, struct ep_dict_value **ret_old)
{
    *ret_old = NULL;
    /* A table that cannot grow serves on, slower. */
    if (dict->n >= dict->places && grow(dict) < 0 && dict->places == 0)
        return -ENOMEM;
    value->hash = ep_seal(dict->hash_key, value->data, value->n_key);
    struct ep_dict_value **at = find(dict, value->hash, value->data, value->n_key);
    *ret_old = *at;
    value->next = *at == NULL ? NULL : (*at)->next;
    dict->n += *at == NULL;
    dict->size += ep_dict_value_size(value) - (*at == NULL ? 0 : ep_dict_value_size(*at));
    *at = value;
    return 0;
}

struct ep_dict_value *ep_dict_remove(struct ep_dict *dict, const uint8_t *key, size_t n_key)
{
    if (dict->places == 0)
        return NULL;
    struct ep_dict_value **at = find(dict, ep_seal(dict->hash_key, key, n_key), key, n_key);
    struct ep_dict_value *value = *at;
    if (value != NULL) {
        *at = value->next;
        dict->n--;
        dict->size -= ep_dict_value_size(value);
    }
    return value;
}

size_t ep_dict_count(const struct ep_dict *dict)
{
    return dict->n;
}

size_t ep_dict_pieces(const struct ep_dict *dict)
{
    return dict->n + dict->places;
}

uint64_t ep_dict_size(const struct ep_dict *dict)
{
    return dict->size;
}

const struct ep_dict_value *ep_dict_next(const struct ep_dict *dict,
                                         const struct ep_dict_value *value)
{
    if (value != NULL && value->next != NULL)
        return value->next;
    size_t i = value == NULL ? 0 : (value->hash & (dict->places - 1)) + 1;
    while (i < dict->places && dict->table[i] == NULL)
        i++;
    return i < dict->places ? dict->table[i] : NULL;
}

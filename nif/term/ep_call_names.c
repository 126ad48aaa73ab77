/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_call_names.h"

#define PAIRS 64u /* a power of two */
#define PAIR_SIZE 47u

struct pair {
    ERL_NIF_TERM module; /* 0: none */
    ERL_NIF_TERM function;
    uint8_t size;
    uint8_t bytes[PAIR_SIZE];
};

static _Thread_local struct pair pairs[PAIRS];

static struct pair *pair_of(ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    /* The low bits of an atom are the tag. */
    return &pairs[(function >> 6 ^ module >> 8) % PAIRS];
}

bool ep_call_names_put(struct ep_buf *buf, ERL_NIF_TERM module, ERL_NIF_TERM function)
{
    const struct pair *pair = pair_of(module, function);

    if (pair->module != module || pair->function != function
        || buf->capacity - buf->length < PAIR_SIZE)
        return false;
    /* All of it, for the time is in asking how much; size says what counts. */
    memcpy(buf->data + buf->length, pair->bytes, PAIR_SIZE);
    buf->length += pair->size;
    return true;
}

void ep_call_names_keep(const struct ep_buf *buf, size_t start, ErlNifEnv *env, ERL_NIF_TERM module,
                        ERL_NIF_TERM function)
{
    size_t size = buf->length - start;

    /* Other terms are no names for ever: their words are places in memory. */
    if (buf->error != 0 || size > PAIR_SIZE || !enif_is_atom(env, module)
        || !enif_is_atom(env, function))
        return;
    struct pair *pair = pair_of(module, function);
    pair->module = module;
    pair->function = function;
    pair->size = (uint8_t)size;
    memcpy(pair->bytes, buf->data + start, size);
}

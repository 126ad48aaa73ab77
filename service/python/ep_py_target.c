/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_target.h"

#include "ep_etf.h"
#include "ep_hash.h"
#include "ep_py_context_fields.h"
#include "ep_py_decode.h"
#include "ep_py_request.h"
#include "ep_python.h"

#include <errno.h>

/*
 * What a call names: a module and a function. Programs call few of them, so a context
 * keeps the strings of those that it met last, by the bytes in which both names arrive:
 * one comparison instead of reading and looking up two names.
 */

static uint64_t load(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* Bytes of a name with its header; 0: not a name, or a long one. */
static size_t name_size(const uint8_t *at, size_t left)
{
    if (left < EP_ETF_BINARY_HEADER || at[0] != EP_ETF_TAG_BINARY || (at[1] | at[2] | at[3]) != 0)
        return 0;
    size_t size = EP_ETF_BINARY_HEADER + (size_t)at[4];
    return size <= left ? size : 0;
}

/* At least 8 bytes, which two headers are. */
static bool is_equal(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint64_t differences = load(a + size - 8) ^ load(b + size - 8);

    for (size_t i = 0; i + 8 <= size; i += 8)
        differences |= load(a + i) ^ load(b + i);
    return differences == 0;
}

/* The place of a pair of names, of which the first has module_size bytes. */
static struct ep_py_target *place_of(struct ep_py_context *context, const uint8_t *names,
                                     size_t module_size, size_t size)
{
    /* Names differ at their ends more often than at their beginnings. */
    uint64_t module = load(names + (module_size < 8 ? 0 : module_size - 8));
    uint64_t hash = ep_hash_number(module * 3 + load(names + size - 8));

    return &context->targets[hash >> (64 - EP_PY_TARGETS_LOG2)];
}

static void keep(struct ep_py_target *target, const uint8_t *names, size_t size,
                 const struct ep_py_request *request)
{
    struct ep_py_target former = *target;

    target->module_name = Py_NewRef(request->first);
    target->function_name = Py_NewRef(request->second);
    target->module = NULL;
    target->size = (uint8_t)size;
    memcpy(target->bytes, names, size);
    /* Last: the end of a module can run anything. */
    Py_XDECREF(former.module_name);
    Py_XDECREF(former.function_name);
    Py_XDECREF(former.module);
}

int ep_py_target_decode(struct ep_py_context *context, struct ep_py_request *request,
                        struct ep_etf_cursor *cursor)
{
    const uint8_t *names = cursor->at;
    size_t left = (size_t)(cursor->end - names);
    size_t module_size = name_size(names, left), size = 0;
    struct ep_py_target *target = NULL;
    struct ep_etf_token module, function;

    if (module_size > 0)
        size = name_size(names + module_size, left - module_size);
    if (size > 0 && module_size + size <= EP_PY_TARGET_MAX) {
        size += module_size;
        target = place_of(context, names, module_size, size);
    }
    if (target != NULL && target->size == size && is_equal(target->bytes, names, size)) {
        cursor->at += size;
        request->first = Py_NewRef(target->module_name);
        request->second = Py_NewRef(target->function_name);
        request->target = target;
        return 0;
    }

    if (ep_py_decode_binary_token(cursor, &module) < 0
        || ep_py_decode_binary_token(cursor, &function) < 0)
        return -EPROTO;
    request->first = ep_py_decode_name(&module);
    request->second = request->first == NULL ? NULL : ep_py_decode_name(&function);
    if (request->second != NULL && target != NULL) {
        keep(target, names, size, request);
        request->target = target;
    }
    return 0;
}

bool ep_py_target_is_of(const struct ep_py_target *target, const struct ep_py_request *request)
{
    return target != NULL && target->module_name == request->first
           && target->function_name == request->second;
}

void ep_py_target_clear(struct ep_py_target *target)
{
    target->size = 0;
    Py_CLEAR(target->module_name);
    Py_CLEAR(target->function_name);
    Py_CLEAR(target->module);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_term_decode.h"

#include "ep_atoms.h"
#include "ep_cargo.h"
#include "ep_seal.h"

#include <errno.h>
#include <math.h>

/* A container that waits for its elements, which collect on the value stack. */
struct open_container {
    enum ep_etf_type type;
    uint32_t left; /* elements still to come */
    size_t first;  /* of its elements on the value stack */
};

#define VALUES_INSIDE 32
#define OPEN_INSIDE 8

struct reader {
    struct ep_vm *vm;
    ErlNifEnv *env;
    struct ep_etf_cursor *cursor;
    const struct ep_source *source;
    size_t words_left; /* of VM heap */
    ERL_NIF_TERM *values;
    size_t n_values, max_values;
    struct open_container *open;
    size_t depth, max_open;
    ERL_NIF_TERM values_inside[VALUES_INSIDE];
    struct open_container open_inside[OPEN_INSIDE];
};

/* Returns the larger array, or NULL; frees nothing on failure. */
static void *grow(void *array, const void *inside, size_t item, size_t *max)
{
    void *larger = enif_realloc(array == inside ? NULL : array, 4 * *max * item);

    if (larger == NULL)
        return NULL;
    if (array == inside)
        memcpy(larger, inside, *max * item);
    *max *= 4;
    return larger;
}

static int make_big(struct reader *reader, const struct ep_etf_token *token, ERL_NIF_TERM *ret_term)
{
    /* A tag, a length we have checked and digits: the one thing that
     * enif_binary_to_term() is given here, and always built by us. */
    struct ep_buf buf;
    uint8_t lent[64];
    uint8_t version = 131;
    int rc = -EOVERFLOW;

    ep_buf_init(&buf, lent, sizeof(lent), (size_t)token->count + 16);
    ep_buf_put(&buf, &version, 1);
    ep_etf_put_big(&buf, token->negative, token->data, token->count);
    if (buf.error == 0 && enif_binary_to_term(reader->env, buf.data, buf.length, ret_term, 0) != 0
        && enif_term_type(reader->env, *ret_term) == ERL_NIF_TERM_TYPE_INTEGER)
        rc = 0;
    ep_buf_finish(&buf);
    return rc;
}

static int make_array(struct reader *reader, const struct ep_etf_token *token,
                      ERL_NIF_TERM *ret_term)
{
    const struct ep_cargo *cargo = reader->source->cargo;
    uint32_t index;

    if (token->count != sizeof(index))
        return -EPROTO;
    memcpy(&index, token->data, sizeof(index));
    if (cargo == NULL || index >= cargo->n)
        return -EPROTO;
    *ret_term = enif_make_resource(reader->env, cargo->arrays[index]);
    return 0;
}

static int make_handle(struct reader *reader, const struct ep_etf_token *token,
                       ERL_NIF_TERM *ret_term)
{
    if (token->kind == EP_HANDLE_ARRAY)
        return make_array(reader, token, ret_term);
    uint64_t seal = ep_seal(reader->vm->seal_key, token->data, token->count);
    ErlNifPid pid;

    /* Only what this VM has sealed itself is ever decoded. */
    if (memcmp(&seal, token->seal, EP_ETF_SEAL_SIZE) != 0)
        return -EPROTO;
    if (token->count == sizeof(pid.pid)) { /* see put_handle(); an external form is longer */
        memcpy(&pid.pid, token->data, sizeof(pid.pid));
        *ret_term = enif_make_pid(reader->env, &pid);
        return 0;
    }
    if (enif_binary_to_term(reader->env, token->data, token->count, ret_term, 0) == 0)
        return -EPROTO;
    return 0;
}

static ERL_NIF_TERM make_binary(struct reader *reader, const struct ep_etf_token *token)
{
    const struct ep_source *source = reader->source;
    ERL_NIF_TERM term;

    /* A binary that is most of the message refers to it; a small one would keep
     * the whole message alive, so it is copied. */
    if (source->source_term != 0 && token->count > source->size / 2)
        return enif_make_sub_binary(reader->env, source->source_term,
                                    (size_t)(token->data - source->start), token->count);
    unsigned char *bytes = enif_make_new_binary(reader->env, token->count, &term);
    if (token->count > 0)
        memcpy(bytes, token->data, token->count);
    return term;
}

static int make_string(struct reader *reader, const struct ep_etf_token *token,
                       ERL_NIF_TERM *ret_term)
{
    ERL_NIF_TERM list = enif_make_list(reader->env, 0);

    for (uint32_t i = token->count; i > 0; i--)
        list =
            enif_make_list_cell(reader->env, enif_make_uint(reader->env, token->data[i - 1]), list);
    *ret_term = list;
    return 0;
}

/* Words of heap of what a token becomes, its elements apart. Small integers and atoms need
 * none; a binary is on the heap up to 64 bytes, and beyond that a reference to it. */
static uint64_t words_of(const struct ep_etf_token *token)
{
    switch (token->type) {
    case EP_ETF_INT: return 2;
    case EP_ETF_BIG: return 2 + token->count / 8;
    case EP_ETF_FLOAT: return 2;
    case EP_ETF_BINARY: return token->count <= 64 ? 2 + (token->count + 7) / 8 : 8;
    case EP_ETF_HANDLE: return 2 + token->count / 8;
    case EP_ETF_STRING:
    case EP_ETF_LIST: return 2 * (uint64_t)token->count;
    case EP_ETF_TUPLE: return 1 + (uint64_t)token->count;
    /* Up to 32 keys: a tuple of keys, and the values. More: a tree with a pair in each leaf. */
    case EP_ETF_MAP: return 5 + (token->count <= 32 ? 2 : 5) * (uint64_t)token->count;
    default: return 0;
    }
}

/* Takes words from the budget before anything is built of them. */
static int charge(struct reader *reader, uint64_t words)
{
    if (words > reader->words_left)
        return -EFBIG;
    reader->words_left -= words;
    return 0;
}

static int make_scalar(struct reader *reader, const struct ep_etf_token *token,
                       ERL_NIF_TERM *ret_term)
{
    switch (token->type) {
    case EP_ETF_INT: *ret_term = enif_make_int64(reader->env, token->integer); return 0;
    case EP_ETF_BIG: return make_big(reader, token, ret_term);
    case EP_ETF_FLOAT:
        if (!isfinite(token->real))
            return -EPROTO;
        *ret_term = enif_make_double(reader->env, token->real);
        return 0;
    case EP_ETF_ATOM:
        return ep_atom_from_worker(reader->vm, reader->env, token->data, token->count, ret_term)
                   ? 0
                   : -EPROTO;
    case EP_ETF_BINARY: *ret_term = make_binary(reader, token); return 0;
    case EP_ETF_STRING: return make_string(reader, token, ret_term);
    case EP_ETF_HANDLE: return make_handle(reader, token, ret_term);
    default: *ret_term = enif_make_list(reader->env, 0); return 0; /* EP_ETF_NIL */
    }
}

static int make_map(struct reader *reader, const ERL_NIF_TERM *pairs, size_t n,
                    ERL_NIF_TERM *ret_term)
{
    ERL_NIF_TERM inside[VALUES_INSIDE];
    ERL_NIF_TERM *split = inside;

    if (2 * n > VALUES_INSIDE) {
        split = enif_alloc(2 * n * sizeof(*split));
        if (split == NULL)
            return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        split[i] = pairs[2 * i];
        split[n + i] = pairs[2 * i + 1];
    }
    int ok = enif_make_map_from_arrays(reader->env, split, split + n, n, ret_term);
    if (split != inside)
        enif_free(split);
    return ok ? 0 : -EEXIST;
}

/* Turns the elements of the innermost container into one value. */
static int close_container(struct reader *reader, ERL_NIF_TERM *ret_term)
{
    struct open_container *top = &reader->open[--reader->depth];
    const ERL_NIF_TERM *first = reader->values + top->first;
    size_t n = reader->n_values - top->first;
    int rc = 0;

    if (top->type == EP_ETF_TUPLE) {
        *ret_term = enif_make_tuple_from_array(reader->env, first, (unsigned)n);
    } else if (top->type == EP_ETF_LIST) {
        *ret_term = enif_make_list_from_array(reader->env, first, (unsigned)n);
        rc = ep_etf_list_end(reader->cursor);
    } else {
        rc = make_map(reader, first, n / 2, ret_term);
    }
    reader->n_values = top->first;
    return rc;
}

static int open_container(struct reader *reader, const struct ep_etf_token *token)
{
    if (reader->depth == EP_ETF_DEPTH_MAX)
        return -EPROTO;
    if (token->type == EP_ETF_TUPLE && token->count > 16777215) /* the VM's limit */
        return -EPROTO;
    if (token->type == EP_ETF_MAP && token->count > EP_SEND_KEYS_MAX
        && !reader->source->is_scheduler)
        return -EPROTO;
    if (reader->depth == reader->max_open) {
        void *larger =
            grow(reader->open, reader->open_inside, sizeof(*reader->open), &reader->max_open);
        if (larger == NULL)
            return -ENOMEM;
        reader->open = larger;
    }
    reader->open[reader->depth++] = (struct open_container){
        .type = token->type,
        .left = token->type == EP_ETF_MAP ? 2 * token->count : token->count,
        .first = reader->n_values,
    };
    return 0;
}

static int push_value(struct reader *reader, ERL_NIF_TERM value)
{
    if (reader->n_values == reader->max_values) {
        void *larger = grow(reader->values, reader->values_inside, sizeof(*reader->values),
                            &reader->max_values);
        if (larger == NULL)
            return -ENOMEM;
        reader->values = larger;
    }
    reader->values[reader->n_values++] = value;
    return 0;
}

/* Whether an integer needs no heap. */
static bool is_small(int64_t integer)
{
    return integer >= -(INT64_C(1) << 59) && integer < INT64_C(1) << 59;
}

/* Reads the numbers that come next in the innermost container, but for its last element:
 * that one closes it. */
static int read_numbers(struct reader *reader)
{
    struct open_container *top = &reader->open[reader->depth - 1];
    int64_t integer = 0;
    double real = 0.0;

    while (top->left > 1) {
        if (reader->n_values == reader->max_values) {
            void *larger = grow(reader->values, reader->values_inside, sizeof(*reader->values),
                                &reader->max_values);
            if (larger == NULL)
                return -ENOMEM;
            reader->values = larger;
        }
        ERL_NIF_TERM *value = &reader->values[reader->n_values];
        int what = ep_etf_next_number(reader->cursor, &integer, &real);
        if (what == 1)
            *value = enif_make_int64(reader->env, integer);
        else if (what == 2 && isfinite(real))
            *value = enif_make_double(reader->env, real);
        else
            return what == 2 ? -EPROTO : 0;
        if ((what == 2 || !is_small(integer)) && charge(reader, 2) < 0)
            return -EFBIG;
        reader->n_values++;
        top->left--;
    }
    return 0;
}

/* Reads tokens until the outermost term is complete. */
static int read_term(struct reader *reader, ERL_NIF_TERM *ret_term)
{
    for (;;) {
        struct ep_etf_token token;
        ERL_NIF_TERM value = 0;

        int rc = reader->depth > 0 ? read_numbers(reader) : 0;
        if (rc == 0)
            rc = ep_etf_next(reader->cursor, &token);
        if (rc == 0)
            rc = charge(reader, words_of(&token));
        if (rc == 0
            && (token.type == EP_ETF_TUPLE || token.type == EP_ETF_LIST
                || token.type == EP_ETF_MAP)) {
            rc = open_container(reader, &token);
            if (rc == 0 && token.count > 0)
                continue;
            if (rc == 0)
                rc = close_container(reader, &value);
        } else if (rc == 0) {
            rc = make_scalar(reader, &token, &value);
        }
        if (rc < 0)
            return rc;

        while (reader->depth > 0) {
            rc = push_value(reader, value);
            if (rc < 0)
                return rc;
            if (--reader->open[reader->depth - 1].left > 0)
                break;
            rc = close_container(reader, &value);
            if (rc < 0)
                return rc;
            if (reader->depth == 0)
                goto complete;
        }
        if (reader->depth > 0)
            continue;
    complete:
        *ret_term = value;
        return 0;
    }
}

/* Not inline: a number needs none of the room that this takes. */
__attribute__((noinline)) static int decode_term(struct ep_vm *vm, ErlNifEnv *env,
                                                 struct ep_etf_cursor *cursor,
                                                 const struct ep_source *source,
                                                 ERL_NIF_TERM *ret_term)
{
    struct reader reader;

    reader.vm = vm;
    reader.env = env;
    reader.cursor = cursor;
    reader.source = source;
    reader.words_left = source->max_words;
    reader.values = reader.values_inside;
    reader.n_values = 0;
    reader.max_values = VALUES_INSIDE;
    reader.open = reader.open_inside;
    reader.depth = 0;
    reader.max_open = OPEN_INSIDE;

    int rc = read_term(&reader, ret_term);

    if (reader.values != reader.values_inside)
        enif_free(reader.values);
    if (reader.open != reader.open_inside)
        enif_free(reader.open);
    return rc;
}

int ep_term_decode(struct ep_vm *vm, ErlNifEnv *env, struct ep_etf_cursor *cursor,
                   const struct ep_source *source, ERL_NIF_TERM *ret_term)
{
    int64_t integer = 0;
    double real = 0.0;

    switch (ep_etf_next_number(cursor, &integer, &real)) {
    case 1: *ret_term = enif_make_int64(env, integer); return 0;
    case 2:
        if (!isfinite(real))
            return -EPROTO;
        *ret_term = enif_make_double(env, real);
        return 0;
    default: return decode_term(vm, env, cursor, source, ret_term);
    }
}

static ERL_NIF_TERM code_points(ErlNifEnv *env, const uint8_t *utf8, size_t size)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);

    /* Backwards, so that the list is built in one pass; a byte that is no start
     * of a character is skipped, for the text is a worker's. */
    for (size_t end = size; end > 0;) {
        size_t start = end - 1;
        while (start > 0 && (utf8[start] & 0xC0) == 0x80 && end - start < 4)
            start--;
        uint32_t lead = utf8[start];
        size_t length = end - start;
        uint32_t point = length == 1   ? lead
                         : length == 2 ? lead & 0x1F
                         : length == 3 ? lead & 0x0F
                                       : lead & 0x07;
        for (size_t i = start + 1; i < end; i++)
            point = point << 6 | (utf8[i] & 0x3F);
        list = enif_make_list_cell(env, enif_make_uint(env, point), list);
        end = start;
    }
    return list;
}

ERL_NIF_TERM ep_term_python_error(ErlNifEnv *env, ERL_NIF_TERM type, const uint8_t *utf8,
                                  size_t size, bool as_binary)
{
    ERL_NIF_TERM text;

    /* As a list each character takes 16 bytes. An honest worker cuts the text itself. */
    if (size > EP_TERM_TEXT_MAX)
        for (size = EP_TERM_TEXT_MAX; size > 0 && (utf8[size] & 0xC0) == 0x80;)
            size--;
    if (as_binary)
        memcpy(enif_make_new_binary(env, size, &text), utf8, size);
    else
        text = code_points(env, utf8, size);
    return enif_make_tuple2(env, am_error, enif_make_tuple2(env, type, text));
}

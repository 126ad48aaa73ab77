/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_term_encode.h"

#include "ep_atoms.h"
#include "ep_cargo.h"
#include "ep_etf.h"
#include "ep_seal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum frame_kind { FRAME_LIST, FRAME_TUPLE, FRAME_MAP };

/* A container whose elements are being written. */
struct frame {
    enum frame_kind kind;
    bool text_keys;
    bool at_value; /* FRAME_MAP: the key is written */
    uint32_t index;
    uint32_t count;
    ERL_NIF_TERM rest;            /* FRAME_LIST */
    const ERL_NIF_TERM *elements; /* FRAME_TUPLE */
    ErlNifMapIterator pairs;      /* FRAME_MAP; destroyed with the frame */
};

#define FRAMES_INSIDE 4
/* Of a path, from outside, that an error names; then "...". As in service/python/ep_py_place.h. */
#define PLACE_STEPS 8

struct walk {
    struct ep_encoder *encoder;
    const char *place;
    struct ep_fault *fault;
    struct frame *frames; /* inside, or the heap */
    struct frame inside[FRAMES_INSIDE];
    size_t depth, capacity;
};

static void append(char *text, size_t size, size_t *used, const char *format, ...)
{
    va_list args;

    if (*used >= size)
        return;
    va_start(args, format);
    int n = vsnprintf(text + *used, size - *used, format, args);
    va_end(args);
    *used += n < 0 ? 0 : (size_t)n;
}

static void append_key(ErlNifEnv *env, ERL_NIF_TERM key, char *text, size_t size, size_t *used)
{
    uint8_t scratch[1024];
    ErlNifBinary bin;
    size_t length;
    ErlNifSInt64 n;

    const uint8_t *name = ep_atom_name(env, key, scratch, &length);
    if (name != NULL)
        append(text, size, used, "['%.*s']", length > 64 ? 64 : (int)length, (const char *)name);
    else if (enif_inspect_binary(env, key, &bin))
        append(text, size, used, "['%.*s']", bin.size > 64 ? 64 : (int)bin.size, (char *)bin.data);
    else if (enif_get_int64(env, key, &n))
        append(text, size, used, "[%lld]", (long long)n);
    else
        append(text, size, used, "[...]");
}

/* Writes "args[0]['k'][3]: why" and returns error. */
static int fault(struct walk *walk, ERL_NIF_TERM type, int error, const char *why)
{
    ErlNifEnv *env = walk->encoder->env;
    char *text = walk->fault->message;
    size_t size = sizeof(walk->fault->message), used = 0;

    append(text, size, &used, "%s", walk->place);
    for (size_t i = 0; i < walk->depth && i < PLACE_STEPS && used < 384; i++) {
        struct frame *frame = &walk->frames[i];
        if (frame->kind != FRAME_MAP) {
            append(text, size, &used, "[%u]", frame->index - 1);
            continue;
        }
        ERL_NIF_TERM key, value;
        if (frame->at_value && enif_map_iterator_get_pair(env, &frame->pairs, &key, &value))
            append_key(env, key, text, size, &used);
    }
    append(text, size, &used, "%s: %s", walk->depth > PLACE_STEPS ? "..." : "", why);
    walk->fault->type = type;
    return error;
}

static int unconvertible(struct walk *walk, const char *what)
{
    char why[96];
    (void)snprintf(why, sizeof(why), "%s cannot be converted to Python", what);
    return fault(walk, am_TypeError, -EINVAL, why);
}

static int buffer_fault(struct walk *walk, int error)
{
    char why[96] = "no memory";

    if (error == -EMSGSIZE)
        (void)snprintf(why, sizeof(why),
                       "does not fit in one message, which holds %" PRIu64 " bytes",
                       EP_MESSAGE_MAX);
    return fault(walk, am_MemoryError, error, why);
}

/* Lends the next frame, zeroed; NULL with *ret_rc if there is none. */
static struct frame *push(struct walk *walk, int *ret_rc)
{
    /* The outermost container is args, kwargs or locals, no level of the user's. */
    if (walk->depth > EP_ETF_DEPTH_MAX) {
        *ret_rc = fault(walk, am_RecursionError, -EINVAL, "more than 1000 levels of containers");
        return NULL;
    }
    if (walk->depth == walk->capacity) {
        size_t capacity = walk->capacity * 4;
        bool is_inside = walk->frames == walk->inside;
        struct frame *frames =
            enif_realloc(is_inside ? NULL : walk->frames, capacity * sizeof(*frames));
        if (frames == NULL) {
            *ret_rc = buffer_fault(walk, -ENOMEM);
            return NULL;
        }
        if (is_inside)
            memcpy(frames, walk->inside, sizeof(walk->inside));
        walk->frames = frames;
        walk->capacity = capacity;
    }
    struct frame *frame = &walk->frames[walk->depth];
    *frame = (struct frame){.index = 0};
    return frame;
}

static void pop(struct walk *walk)
{
    struct frame *frame = &walk->frames[--walk->depth];
    if (frame->kind == FRAME_MAP)
        enif_map_iterator_destroy(walk->encoder->env, &frame->pairs);
}

/* Digits, in bytes, that a normal scheduler writes of one integer: 1.4 us for each KiB. */
#define DIGITS_MAX (32u << 10)

/* 256 to the power of DIGITS_MAX, or the negative of it. */
static ERL_NIF_TERM make_long(ErlNifEnv *env, bool is_negative)
{
    static const uint8_t head[] = {131, 111, 0, 0, DIGITS_MAX >> 8, 1};
    size_t size = sizeof(head) + 1 + DIGITS_MAX + 1;
    uint8_t *bytes = enif_alloc(size);
    ERL_NIF_TERM term = 0;

    if (bytes == NULL)
        return 0;
    memset(bytes, 0, size);
    memcpy(bytes, head, sizeof(head));
    bytes[sizeof(head)] = is_negative;
    bytes[size - 1] = 1;
    if (enif_binary_to_term(env, bytes, size, &term, 0) == 0)
        term = 0;
    enif_free(bytes);
    return term;
}

void ep_term_encode_open(struct ep_vm *vm)
{
    vm->encode_env = enif_alloc_env();
    vm->long_positive = make_long(vm->encode_env, false);
    vm->long_negative = make_long(vm->encode_env, true);
}

void ep_term_encode_close(struct ep_vm *vm)
{
    enif_free_env(vm->encode_env);
    vm->long_positive = vm->long_negative = 0;
}

/* How long an integer is, nothing of the VM tells; but it compares the lengths first. */
static bool is_long(const struct ep_encoder *encoder, ERL_NIF_TERM term)
{
    const struct ep_vm *vm = encoder->vm;

    if (encoder->bytes_max == SIZE_MAX || vm->long_positive == 0 || vm->long_negative == 0)
        return false;
    return enif_compare(term, vm->long_positive) > 0 || enif_compare(term, vm->long_negative) < 0;
}

static int put_integer(struct walk *walk, ERL_NIF_TERM term)
{
    struct ep_encoder *encoder = walk->encoder;
    ErlNifSInt64 small;
    ErlNifUInt64 large;
    ErlNifBinary bin;

    if (enif_get_int64(encoder->env, term, &small)) {
        ep_etf_put_int(encoder->buf, small);
        return 0;
    }
    if (enif_get_uint64(encoder->env, term, &large)) {
        ep_etf_put_uint(encoder->buf, large);
        return 0;
    }
    if (is_long(encoder, term))
        return -E2BIG;
    /* There is no other way to read a bignum; behind the version byte stands
     * what the wire format has. */
    if (!enif_term_to_binary(encoder->env, term, &bin))
        return buffer_fault(walk, -ENOMEM);
    ep_buf_put(encoder->buf, bin.data + 1, bin.size - 1);
    enif_release_binary(&bin);
    return 0;
}

static int put_atom(struct walk *walk, ERL_NIF_TERM term)
{
    uint8_t scratch[1024];
    size_t size;

    const uint8_t *name = ep_atom_name(walk->encoder->env, term, scratch, &size);
    if (name == NULL)
        return buffer_fault(walk, -ENOMEM);
    ep_etf_put_atom(walk->encoder->buf, (const char *)name, size);
    return 0;
}

static void put_sealed(struct ep_encoder *encoder, enum ep_handle_kind kind, const uint8_t *data,
                       size_t size)
{
    uint64_t seal = ep_seal(encoder->vm->seal_key, data, size);

    ep_etf_put_handle(encoder->buf, kind, data, size, (const uint8_t *)&seal);
}

static int put_array(struct walk *walk, struct ep_array *array)
{
    static const uint8_t seal[EP_ETF_SEAL_SIZE];

    switch (atomic_load_explicit(&array->state, memory_order_acquire)) {
    case EP_ARRAY_SEALED: break;
    case EP_ARRAY_OPEN:
        return fault(walk, am_ValueError, -EINVAL, "the array is not sealed: py_array:seal/1");
    default: return fault(walk, am_ValueError, -EINVAL, "the array is lost with its owner");
    }
    int64_t index = ep_cargo_put(&walk->encoder->cargo, array);
    if (index < 0)
        return fault(walk, am_MemoryError, -EINVAL, "no memory, or more than 65536 arrays");
    uint32_t number = (uint32_t)index;
    ep_etf_put_handle(walk->encoder->buf, (enum ep_handle_kind)EP_HANDLE_ARRAY, &number,
                      sizeof(number), seal);
    return 0;
}

/* A process of this node by its number in this VM, which stays the same when the node gets a name;
 * anything else by its external form. */
static int put_handle(struct walk *walk, ERL_NIF_TERM term, enum ep_handle_kind kind)
{
    struct ep_encoder *encoder = walk->encoder;
    struct ep_array *array = kind == EP_HANDLE_REF ? ep_cargo_of(encoder->env, term) : NULL;
    ErlNifBinary bin;
    ErlNifPid pid;

    if (array != NULL)
        return put_array(walk, array);
    if (kind == EP_HANDLE_PID && enif_get_local_pid(encoder->env, term, &pid)) {
        put_sealed(encoder, kind, (const uint8_t *)&pid.pid, sizeof(pid.pid));
        return 0;
    }
    if (!enif_term_to_binary(encoder->env, term, &bin))
        return buffer_fault(walk, -ENOMEM);
    put_sealed(encoder, kind, bin.data, bin.size);
    enif_release_binary(&bin);
    return 0;
}

/* How long the buffer may become where it lies. */
static size_t most(const struct ep_encoder *encoder)
{
    return encoder->warm != NULL && encoder->warm == encoder->buf->data ? encoder->bytes_warm
                                                                        : encoder->bytes_max;
}

/* Whether a binary may be copied here. Too large for the buffer, it goes to new memory with all
 * that came before it. */
static bool has_room(struct ep_encoder *encoder, size_t size)
{
    struct ep_buf *buf = encoder->buf;
    size_t length = buf->length + size, n = size + EP_ETF_BINARY_HEADER;

    if (size >= EP_TERM_LARGE && encoder->make_room != NULL && length <= encoder->bytes_warm)
        encoder->warm = encoder->make_room(encoder->stage, buf, n) ? buf->data : NULL;
    bool fits = n <= buf->capacity - buf->length;
    return length <= (fits ? most(encoder) : encoder->bytes_max);
}

static int put_binary(struct walk *walk, ERL_NIF_TERM term)
{
    struct ep_encoder *encoder = walk->encoder;
    ErlNifBinary bin;

    if (!enif_inspect_binary(encoder->env, term, &bin))
        return unconvertible(walk, "a bitstring");
    if (bin.size > EP_MESSAGE_MAX)
        return buffer_fault(walk, -EMSGSIZE);
    if (!has_room(encoder, bin.size))
        return -E2BIG;
    ep_etf_put_binary(encoder->buf, bin.data, bin.size);
    return 0;
}

static int open_list(struct walk *walk, ERL_NIF_TERM term)
{
    unsigned length;

    if (enif_is_empty_list(walk->encoder->env, term)) {
        ep_etf_put_nil(walk->encoder->buf);
        return 0;
    }
    if (!enif_get_list_length(walk->encoder->env, term, &length))
        return unconvertible(walk, "an improper list");
    if (length > walk->encoder->terms_left)
        return -E2BIG;
    int rc;
    struct frame *frame = push(walk, &rc);
    if (frame == NULL)
        return rc;
    frame->kind = FRAME_LIST;
    frame->rest = term;
    frame->count = length;
    walk->depth++;
    ep_etf_put_list(walk->encoder->buf, length);
    return 0;
}

static int open_tuple(struct walk *walk, ERL_NIF_TERM term)
{
    int arity = 0;

    int rc;
    struct frame *frame = push(walk, &rc);
    if (frame == NULL)
        return rc;
    (void)enif_get_tuple(walk->encoder->env, term, &arity, &frame->elements);
    frame->kind = FRAME_TUPLE;
    frame->count = (uint32_t)arity;
    walk->depth++;
    ep_etf_put_tuple(walk->encoder->buf, (uint32_t)arity);
    return 0;
}

static int open_map(struct walk *walk, ERL_NIF_TERM term, bool text_keys)
{
    size_t size = 0;

    int rc;
    struct frame *frame = push(walk, &rc);
    if (frame == NULL)
        return rc;
    (void)enif_get_map_size(walk->encoder->env, term, &size);
    if (!enif_map_iterator_create(walk->encoder->env, term, &frame->pairs,
                                  ERL_NIF_MAP_ITERATOR_FIRST))
        return buffer_fault(walk, -ENOMEM);
    frame->kind = FRAME_MAP;
    frame->text_keys = text_keys;
    frame->count = (uint32_t)size;
    walk->depth++;
    ep_etf_put_map(walk->encoder->buf, (uint32_t)size);
    return 0;
}

static int put_term(struct walk *walk, ERL_NIF_TERM term, bool text_keys)
{
    struct ep_encoder *encoder = walk->encoder;
    double real;

    if (encoder->terms_left == 0)
        return -E2BIG;
    encoder->terms_left--;

    switch (enif_term_type(encoder->env, term)) {
    case ERL_NIF_TERM_TYPE_INTEGER: return put_integer(walk, term);
    case ERL_NIF_TERM_TYPE_FLOAT:
        (void)enif_get_double(encoder->env, term, &real);
        ep_etf_put_float(encoder->buf, real);
        return 0;
    case ERL_NIF_TERM_TYPE_ATOM: return put_atom(walk, term);
    case ERL_NIF_TERM_TYPE_BITSTRING: return put_binary(walk, term);
    case ERL_NIF_TERM_TYPE_LIST: return open_list(walk, term);
    case ERL_NIF_TERM_TYPE_TUPLE: return open_tuple(walk, term);
    case ERL_NIF_TERM_TYPE_MAP: return open_map(walk, term, text_keys);
    case ERL_NIF_TERM_TYPE_PID: return put_handle(walk, term, EP_HANDLE_PID);
    case ERL_NIF_TERM_TYPE_REFERENCE: return put_handle(walk, term, EP_HANDLE_REF);
    case ERL_NIF_TERM_TYPE_FUN: return unconvertible(walk, "a fun");
    case ERL_NIF_TERM_TYPE_PORT: return unconvertible(walk, "a port");
    default: return unconvertible(walk, "this term");
    }
}

static int put_text_key(struct walk *walk, ERL_NIF_TERM key)
{
    int rc = ep_term_encode_text(walk->encoder, key);

    if (rc == 0 || rc == -E2BIG)
        return rc;
    return fault(walk, am_TypeError, -EINVAL, "a key is neither an atom nor a binary");
}

/* Elements that are written between two looks at how much was written. */
#define NUMBERS_MAX 128u

/* Writes the numbers that come next in a list. They need neither a frame nor a look at
 * their type: what is no number says so itself. */
static int put_numbers(struct walk *walk, struct frame *frame)
{
    struct ep_encoder *encoder = walk->encoder;
    ErlNifEnv *env = encoder->env;
    uint32_t most = frame->count - frame->index;
    ERL_NIF_TERM element = 0;
    double real;
    ErlNifSInt64 small;

    if (most > NUMBERS_MAX)
        most = NUMBERS_MAX;
    /* As many as surely fit where the buffer lies; if none do, put_term() makes room. */
    size_t room = (encoder->buf->capacity - encoder->buf->length) / EP_ETF_NUMBER_MAX;
    if (room < most)
        most = (uint32_t)room;
    if (most > encoder->terms_left)
        most = (uint32_t)encoder->terms_left;

    uint8_t *start = encoder->buf->data + encoder->buf->length;
    uint8_t *at = start;
    uint32_t n = 0;
    bool is_number = most > 0;
    while (is_number && n < most) {
        (void)enif_get_list_cell(env, frame->rest, &element, &frame->rest);
        if (enif_get_int64(env, element, &small))
            at = ep_etf_write_int(at, small);
        else if (enif_get_double(env, element, &real))
            at = ep_etf_write_float(at, real);
        else
            is_number = false;
        n += is_number;
    }
    encoder->buf->length += (size_t)(at - start);
    encoder->terms_left -= n;
    frame->index += n;
    if (is_number)
        return 0;
    if (most == 0)
        (void)enif_get_list_cell(env, frame->rest, &element, &frame->rest);
    frame->index++;
    return put_term(walk, element, false);
}

/* Writes what comes next in the innermost container, or closes it. */
static int step(struct walk *walk)
{
    struct frame *frame = &walk->frames[walk->depth - 1];
    ErlNifEnv *env = walk->encoder->env;
    ERL_NIF_TERM key = 0, value = 0;

    if (frame->kind == FRAME_MAP) {
        if (!enif_map_iterator_get_pair(env, &frame->pairs, &key, &value)) {
            pop(walk);
            return 0;
        }
        if (!frame->at_value) {
            frame->at_value = true;
            return frame->text_keys ? put_text_key(walk, key) : put_term(walk, key, false);
        }
        /* at_value stays set while the value is written, for the place of a
         * fault; the iterator moves when the walk comes back here. */
        if (frame->index++ % 2 == 0)
            return put_term(walk, value, false);
        (void)enif_map_iterator_next(env, &frame->pairs);
        frame->at_value = false;
        return 0;
    }
    if (frame->index == frame->count) {
        if (frame->kind == FRAME_LIST)
            ep_etf_put_nil(walk->encoder->buf);
        pop(walk);
        return 0;
    }
    if (frame->kind == FRAME_LIST)
        return put_numbers(walk, frame);
    return put_term(walk, frame->elements[frame->index++], false);
}

int ep_term_encode(struct ep_encoder *encoder, ERL_NIF_TERM term, const char *place, bool text_keys,
                   struct ep_fault *ret_fault)
{
    struct walk walk;

    walk.encoder = encoder;
    walk.place = place;
    walk.fault = ret_fault;
    walk.frames = walk.inside;
    walk.depth = 0;
    walk.capacity = FRAMES_INSIDE;

    int rc = put_term(&walk, term, text_keys);
    while (rc == 0 && walk.depth > 0) {
        if (encoder->buf->error != 0)
            rc = buffer_fault(&walk, encoder->buf->error);
        else if (encoder->buf->length > most(encoder))
            rc = -E2BIG;
        else
            rc = step(&walk);
    }
    if (rc == 0 && encoder->buf->error != 0)
        rc = buffer_fault(&walk, encoder->buf->error);

    while (walk.depth > 0)
        pop(&walk);
    if (walk.frames != walk.inside)
        enif_free(walk.frames);
    return rc;
}

int ep_term_encode_text(struct ep_encoder *encoder, ERL_NIF_TERM term)
{
    uint8_t scratch[1024];
    ErlNifBinary bin;
    size_t size;

    /* Atoms first: one that was met before needs no look at its type. */
    const uint8_t *name = ep_atom_name(encoder->env, term, scratch, &size);
    if (name != NULL)
        ep_etf_put_binary(encoder->buf, name, size);
    else if (!enif_inspect_binary(encoder->env, term, &bin))
        return -EINVAL;
    else if (bin.size <= EP_MESSAGE_MAX && !has_room(encoder, bin.size))
        return -E2BIG;
    else
        ep_etf_put_binary(encoder->buf, bin.data, bin.size);
    return 0;
}

/* The longest list and the longest binary that the following writes. */
#define PLAIN_LENGTH 8u
#define PLAIN_BYTES 64u

/* Writes a term that is no container and no large binary. Returns whether it is one. */
static bool put_plain(struct ep_encoder *encoder, ERL_NIF_TERM term)
{
    ErlNifEnv *env = encoder->env;
    uint8_t scratch[1024];
    const uint8_t *name;
    ErlNifBinary bin;
    ErlNifSInt64 small;
    double real;
    size_t size;

    if (enif_get_int64(env, term, &small))
        ep_etf_put_int(encoder->buf, small);
    else if (enif_get_double(env, term, &real))
        ep_etf_put_float(encoder->buf, real);
    else if ((name = ep_atom_name(env, term, scratch, &size)) != NULL)
        ep_etf_put_atom(encoder->buf, (const char *)name, size);
    else if (enif_inspect_binary(env, term, &bin) && bin.size <= PLAIN_BYTES)
        ep_etf_put_binary(encoder->buf, bin.data, bin.size);
    else
        return false;
    return true;
}

bool ep_term_encode_plain(struct ep_encoder *encoder, ERL_NIF_TERM list)
{
    struct ep_buf *buf = encoder->buf;
    size_t start = buf->length;
    ERL_NIF_TERM head;
    uint32_t n = 0;
    bool is_plain = true;

    if (encoder->terms_left <= PLAIN_LENGTH)
        return false;
    ep_etf_put_list(buf, 0);
    while (is_plain && n < PLAIN_LENGTH && enif_get_list_cell(encoder->env, list, &head, &list)) {
        is_plain = put_plain(encoder, head);
        n++;
    }
    if (!is_plain || n == 0 || !enif_is_empty_list(encoder->env, list) || buf->error != 0) {
        buf->length = start;
        return false;
    }
    ep_etf_put_nil(buf);
    ep_etf_set_count(buf->data + start, n);
    encoder->terms_left -= n + 1;
    return true;
}

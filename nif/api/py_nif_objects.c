/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_objects.h"

#include "ep_atoms.h"
#include "ep_buffer.h"
#include "ep_dict.h"
#include "ep_encoding.h"
#include "ep_object.h"
#include "ep_remains.h"

#include <errno.h>
#include <string.h>

/* What a process pays of its turn for a message, in percent. */
#define MESSAGE_PERCENT 1

static ERL_NIF_TERM error_tuple(ErlNifEnv *env, ERL_NIF_TERM reason)
{
    return enif_make_tuple2(env, am_error, reason);
}

static bool get_kind(ErlNifEnv *env, ERL_NIF_TERM term, enum ep_object_kind *ret_kind)
{
    unsigned kind;

    if (!enif_get_uint(env, term, &kind) || kind >= EP_OBJECTS)
        return false;
    *ret_kind = (enum ep_object_kind)kind;
    return true;
}

/* Of any kind. Borrowed. */
static struct ep_object *get_object(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *object;

    return enif_get_resource(env, term, ep_object_type, &object) ? object : NULL;
}

/* object_new(Kind, MaxSize) -> Object. MaxSize 0: no limit. */
PY_NIF(object_new_nif)
{
    enum ep_object_kind kind;
    ErlNifUInt64 max_size;

    (void)argc;
    if (!get_kind(env, argv[0], &kind) || !enif_get_uint64(env, argv[1], &max_size))
        return enif_make_badarg(env);
    struct ep_object *object = ep_object_create(py_nif_vm(env), kind);
    if (object == NULL)
        return py_nif_posix_error(env, -ENOMEM);
    object->max_size = max_size;
    bool is_whole = true;
    if (kind == EP_OBJECT_BUFFER)
        is_whole = (object->buffer = ep_buffer_create()) != NULL;
    else if (kind == EP_OBJECT_DICT)
        is_whole = (object->dict = ep_dict_create(object->vm->seal_key)) != NULL;
    if (is_whole)
        return py_nif_take_resource(env, object);
    enif_release_resource(object);
    return py_nif_posix_error(env, -ENOMEM);
}

/* object_close(Object) -> ok. Of a channel or buffer. */
PY_NIF(object_close_nif)
{
    struct ep_object *object = get_object(env, argv[0]);

    (void)argc;
    if (object == NULL || object->kind == EP_OBJECT_DICT)
        return enif_make_badarg(env);
    ep_object_close(object, env);
    return am_ok;
}

/* objects() -> {{Count, Bytes}, ..}, by kind. */
PY_NIF(objects_nif)
{
    const struct ep_objects *all = py_nif_vm(env)->objects;
    ERL_NIF_TERM kinds[EP_OBJECTS];

    (void)argc;
    (void)argv;
    for (unsigned i = 0; i < EP_OBJECTS; i++)
        kinds[i] = enif_make_tuple2(env, enif_make_uint64(env, atomic_load(&all->count[i])),
                                    enif_make_uint64(env, atomic_load(&all->bytes[i])));
    return enif_make_tuple_from_array(env, kinds, EP_OBJECTS);
}

/* object_info(Object) -> {Kind, Bytes, MaxSize, IsClosed, IsShown} | false. IsShown: Python was
 * given it. */
PY_NIF(object_info_nif)
{
    struct ep_object *object = get_object(env, argv[0]);

    (void)argc;
    if (object == NULL)
        return am_false;
    uint64_t size = ep_object_size(object);
    pthread_mutex_lock(&object->lock);
    bool is_closed = object->is_closed;
    pthread_mutex_unlock(&object->lock);
    bool is_shown = atomic_load_explicit(&object->base.is_shown, memory_order_relaxed);
    return enif_make_tuple5(env, enif_make_uint(env, object->kind), enif_make_uint64(env, size),
                            enif_make_uint64(env, object->max_size), is_closed ? am_true : am_false,
                            is_shown ? am_true : am_false);
}

/* --- channels ------------------------------------------------------------------------------- */

/* Takes the item. */
static ERL_NIF_TERM put(ErlNifEnv *env, struct ep_object *object, struct ep_item *item)
{
    uint64_t length = ep_item_length(item);
    enum ep_status status = ep_object_put(object, EP_SIDE_PYTHON, item, 0, env);

    ep_remains_pay(object->vm, length);
    (void)enif_consume_timeslice(env, MESSAGE_PERCENT);
    if (status == EP_STATUS_OK)
        return am_ok;
    ep_item_free(item);
    return status == EP_STATUS_BUSY ? am_busy : error_tuple(env, am_closed);
}

/* What a message does that Python cannot have, or for which there is no memory. */
static ERL_NIF_TERM no_memory(ErlNifEnv *env)
{
    return ep_result_exception(env, EP_OP_CALL, am_MemoryError, "message: no memory");
}

static PY_NIF(channel_send_dirty_nif);

static ERL_NIF_TERM send(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[], bool is_dirty)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_CHANNEL);
    struct ep_encoding encoding;
    struct ep_item *item;
    ErlNifBinary bin;

    if (object == NULL)
        return enif_make_badarg(env);
    if (enif_inspect_binary(env, argv[1], &bin) && bin.size >= EP_ITEM_HELD_MIN
        && bin.size <= EP_MESSAGE_MAX - EP_PAGE) {
        item = ep_item_of_binary(env, argv[1], false);
        return item == NULL ? no_memory(env) : put(env, object, item);
    }
    ep_encoding_init(&encoding, env, object->vm, is_dirty);
    int rc = ep_term_encode(&encoding.encoder, argv[1], "message", false, &encoding.fault);
    if (rc == -E2BIG) {
        ep_encoding_finish(&encoding);
        return enif_schedule_nif(env, "channel_send", ERL_NIF_DIRTY_JOB_CPU_BOUND,
                                 channel_send_dirty_nif, argc, argv);
    }
    if (rc < 0)
        return ep_encoding_failed(env, &encoding, EP_OP_CALL, rc);
    (void)ep_encoding_put_cargo(&encoding, false);
    item = encoding.buf.error != 0 ? NULL : ep_item_of_term(&encoding.buf, &encoding.encoder.cargo);
    ep_encoding_finish(&encoding);
    return item == NULL ? no_memory(env) : put(env, object, item);
}

/* channel_send(Channel, Term) -> ok | busy | {error, closed | {Type, Message}} */
PY_NIF(channel_send_nif)
{
    return send(env, argc, argv, false);
}

static PY_NIF(channel_send_dirty_nif)
{
    return send(env, argc, argv, true);
}

/* channel_put(ByteChannel, Binary) -> ok | busy | {error, closed | {Type, Message}} */
PY_NIF(channel_put_nif)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_BYTE_CHANNEL);
    ErlNifBinary bin;

    (void)argc;
    if (object == NULL || !enif_inspect_binary(env, argv[1], &bin))
        return enif_make_badarg(env);
    struct ep_item *item =
        bin.size > EP_MESSAGE_MAX - EP_PAGE ? NULL : ep_item_of_binary(env, argv[1], true);
    return item == NULL ? no_memory(env) : put(env, object, item);
}

static ERL_NIF_TERM take(ErlNifEnv *env, struct ep_object *object, enum ep_side side)
{
    struct ep_item *item;

    enum ep_status status = ep_object_take(object, side, SIZE_MAX, &item);
    if (status != EP_STATUS_OK)
        return error_tuple(env, status == EP_STATUS_CLOSED ? am_closed : am_empty);
    (void)enif_consume_timeslice(env, MESSAGE_PERCENT);
    ERL_NIF_TERM answer = enif_make_tuple2(env, am_ok, ep_item_make_binary(env, item));
    ep_item_free(item);
    return answer;
}

/* channel_take(ByteChannel) -> {ok, Binary} | {error, empty | closed}. What Python has sent. */
PY_NIF(channel_take_nif)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_BYTE_CHANNEL);

    (void)argc;
    return object == NULL ? enif_make_badarg(env) : take(env, object, EP_SIDE_ERLANG);
}

/* channel_take_back(ByteChannel) -> as channel_take/1. What Erlang has sent, while Python was not
 * given the channel. */
PY_NIF(channel_take_back_nif)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_BYTE_CHANNEL);

    (void)argc;
    if (object == NULL)
        return enif_make_badarg(env);
    if (atomic_load_explicit(&object->base.is_shown, memory_order_relaxed))
        return error_tuple(env, am_empty);
    return take(env, object, EP_SIDE_PYTHON);
}

/* channel_wait(ByteChannel, Tag) -> {waiting, IsShown} | again | waiter_exists. After waiting the message
 * {py_object, Tag} comes once, unless channel_unwait/2 returns true. IsShown: as object_info/1. */
PY_NIF(channel_wait_nif)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_BYTE_CHANNEL);
    struct ep_waiter waiter = {.kind = EP_WAITER_PROCESS};

    (void)argc;
    if (object == NULL || !enif_is_ref(env, argv[1]) || enif_self(env, &waiter.pid) == NULL)
        return enif_make_badarg(env);
    waiter.env = enif_alloc_env();
    waiter.tag = enif_make_copy(waiter.env, argv[1]);
    enum ep_status status = ep_object_wait(object, EP_SIDE_ERLANG, &waiter, env);
    bool is_shown = atomic_load_explicit(&object->base.is_shown, memory_order_relaxed);
    if (status == EP_STATUS_OK)
        return enif_make_tuple2(env, am_waiting, is_shown ? am_true : am_false);
    ep_waiter_drop(&waiter);
    return status == EP_STATUS_AGAIN ? am_again : am_waiter_exists;
}

/* channel_unwait(ByteChannel, Tag) -> boolean() */
PY_NIF(channel_unwait_nif)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_BYTE_CHANNEL);
    struct ep_waiter like = {.kind = EP_WAITER_PROCESS, .tag = argv[1]}, waiter;

    (void)argc;
    if (object == NULL)
        return enif_make_badarg(env);
    if (!ep_object_unwait(object, EP_SIDE_ERLANG, &like, &waiter))
        return am_false;
    ep_waiter_drop(&waiter);
    return am_true;
}

/* --- buffers -------------------------------------------------------------------------------- */

/* What a normal scheduler copies: into memory that nobody has used before, see ep_encoding.c. */
#define WRITE_MAX (1u << 17)
/* Bytes of it for which a process pays one percent of its turn. */
#define WRITE_PERCENT (8u << 10)

static enum ep_status write_part(struct ep_object *object, const uint8_t *bytes, size_t n)
{
    pthread_mutex_lock(&object->lock);
    enum ep_status status = object->is_closed                               ? EP_STATUS_CLOSED
                            : ep_buffer_write(object->buffer, bytes, n) < 0 ? EP_STATUS_BUSY
                                                                            : EP_STATUS_OK;
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    return status;
}

/* buffer_write(Buffer, Binary) -> ok | {error, closed | write_failed | invalid_buffer} */
PY_NIF(buffer_write_nif)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_BUFFER);
    ErlNifBinary bin;

    if (!enif_inspect_binary(env, argv[1], &bin))
        return enif_make_badarg(env);
    if (object == NULL)
        return error_tuple(env, am_invalid_buffer);
    if (bin.size > WRITE_MAX && !ep_encoding_is_dirty())
        return enif_schedule_nif(env, "buffer_write", ERL_NIF_DIRTY_JOB_CPU_BOUND, buffer_write_nif,
                                 argc, argv);
    enum ep_status status = write_part(object, bin.data, bin.size);
    ep_remains_pay(object->vm, bin.size);
    size_t copied = bin.size < WRITE_MAX ? bin.size : WRITE_MAX;
    (void)enif_consume_timeslice(env, 1 + (int)(copied / WRITE_PERCENT));
    if (status == EP_STATUS_OK) {
        if (bin.size > 0)
            ep_object_wake(object, EP_SIDE_PYTHON, env);
        return am_ok;
    }
    return error_tuple(env, status == EP_STATUS_CLOSED ? am_closed : am_write_failed);
}

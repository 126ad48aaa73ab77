/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_dicts.h"

#include "ep_atoms.h"
#include "ep_dict.h"
#include "ep_encoding.h"
#include "ep_object.h"
#include "ep_remains.h"
#include "ep_term_decode.h"

#include <errno.h>
#include <string.h>

/* Heap that a value may need which Python has set, in words: that of max_result_bytes as it is
 * by default. */
#define VALUE_WORDS ((size_t)1 << 27)

/* A dict, and the key in argv[1], which may be absent. */
static struct ep_object *get_dict(ErlNifEnv *env, const ERL_NIF_TERM argv[], ErlNifBinary *ret_key)
{
    struct ep_object *object = ep_object_of(env, argv[0], EP_OBJECT_DICT);

    if (object == NULL
        || (ret_key != NULL
            && (!enif_inspect_binary(env, argv[1], ret_key) || ret_key->size > EP_DICT_KEY_MAX)))
        return NULL;
    return object;
}

/* Takes the value. */
static ERL_NIF_TERM set(ErlNifEnv *env, struct ep_object *object, struct ep_dict_value *value)
{
    struct ep_dict_value *old = NULL;
    uint64_t size = ep_dict_value_size(value);

    pthread_mutex_lock(&object->lock);
    bool is_closed = object->is_closed;
    int rc = is_closed ? 0 : ep_dict_set(object->dict, value, &old);
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_dict_value_free(is_closed || rc < 0 ? value : old);
    ep_remains_pay(object->vm, size);
    if (is_closed)
        return enif_make_badarg(env);
    return rc < 0 ? enif_make_tuple2(env, am_error, am_pickle_failed) : am_ok;
}

static bool grows(struct ep_object *object)
{
    pthread_mutex_lock(&object->lock);
    bool is = !object->is_closed && ep_dict_grows(object->dict);
    pthread_mutex_unlock(&object->lock);
    return is;
}

/* dict_set(Dict, Key, Value, Returned) -> ok | {error, pickle_failed}. Returned: the value as
 * Python would return it. */
PY_NIF(dict_set_nif)
{
    struct ep_encoding python, erlang;
    ErlNifBinary key;
    struct ep_object *object = get_dict(env, argv, &key);
    bool is_dirty = ep_encoding_is_dirty();

    if (object == NULL)
        return enif_make_badarg(env);
    if (!is_dirty && grows(object))
        return enif_schedule_nif(env, "dict_set", ERL_NIF_DIRTY_JOB_CPU_BOUND, dict_set_nif, argc,
                                 argv);
    ep_encoding_init(&python, env, object->vm, is_dirty);
    ep_encoding_init(&erlang, env, object->vm, is_dirty);
    int rc = ep_term_encode(&python.encoder, argv[2], "value", false, &python.fault);
    if (rc == 0)
        rc = ep_term_encode(&erlang.encoder, argv[3], "value", false, &erlang.fault);
    bool is_good =
        rc == 0 && python.buf.error == 0 && erlang.buf.error == 0 && python.encoder.cargo == NULL;
    struct ep_dict_value *value =
        is_good ? ep_dict_value_create(key.data, key.size, python.buf.data, python.buf.length,
                                       erlang.buf.data, erlang.buf.length)
                : NULL;
    ep_encoding_finish(&python);
    ep_encoding_finish(&erlang);
    if (rc == -E2BIG)
        return enif_schedule_nif(env, "dict_set", ERL_NIF_DIRTY_JOB_CPU_BOUND, dict_set_nif, argc,
                                 argv);
    return value == NULL ? enif_make_tuple2(env, am_error, am_pickle_failed)
                         : set(env, object, value);
}

/* Decodes the form for Erlang from a copy. */
static ERL_NIF_TERM decode(ErlNifEnv *env, struct ep_vm *vm, const uint8_t *bytes, size_t n)
{
    struct ep_source source = {
        .is_scheduler = true, .start = bytes, .size = n, .max_words = VALUE_WORDS};
    struct ep_etf_cursor cursor;
    ERL_NIF_TERM value;

    ep_etf_cursor_init(&cursor, bytes, n);
    /* What a worker has put there that is no term gets it nowhere. */
    if (ep_term_decode(vm, env, &cursor, &source, &value) < 0 || cursor.at != cursor.end)
        return enif_make_badarg(env);
    return enif_make_tuple2(env, am_ok, value);
}

/* A value above this is decoded on a dirty scheduler. */
#define DECODE_SHORT (64u << 10)

/* dict_get(Dict, Key) -> {ok, Value} | error */
PY_NIF(dict_get_nif)
{
    ErlNifBinary key;
    struct ep_object *object = get_dict(env, argv, &key);
    uint8_t *bytes = NULL;
    size_t n = 0;

    if (object == NULL)
        return enif_make_badarg(env);
    pthread_mutex_lock(&object->lock);
    bool is_closed = object->is_closed;
    const struct ep_dict_value *value =
        is_closed ? NULL : ep_dict_get(object->dict, key.data, key.size);
    bool is_long = false;
    if (value != NULL) {
        n = value->n_erlang > 0 ? value->n_erlang : value->n_python;
        is_long = n > DECODE_SHORT && !ep_encoding_is_dirty();
        bytes = is_long ? NULL : enif_alloc(n);
        if (bytes != NULL)
            memcpy(bytes, value->data + value->n_key + (value->n_erlang > 0 ? value->n_python : 0),
                   n);
    }
    pthread_mutex_unlock(&object->lock);
    if (is_long)
        return enif_schedule_nif(env, "dict_get", ERL_NIF_DIRTY_JOB_CPU_BOUND, dict_get_nif, argc,
                                 argv);
    if (is_closed || (value != NULL && bytes == NULL))
        return enif_make_badarg(env);
    if (value == NULL)
        return am_error;
    ERL_NIF_TERM answer = decode(env, object->vm, bytes, n);
    enif_free(bytes);
    return answer;
}

/* dict_remove(Dict, Key) -> ok */
PY_NIF(dict_remove_nif)
{
    ErlNifBinary key;
    struct ep_object *object = get_dict(env, argv, &key);
    struct ep_dict_value *old = NULL;

    (void)argc;
    if (object == NULL)
        return enif_make_badarg(env);
    pthread_mutex_lock(&object->lock);
    bool is_closed = object->is_closed;
    if (!is_closed)
        old = ep_dict_remove(object->dict, key.data, key.size);
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_dict_value_free(old);
    return is_closed ? enif_make_badarg(env) : am_ok;
}

/* dict_keys(Dict) -> [Key] */
PY_NIF(dict_keys_nif)
{
    struct ep_object *object = get_dict(env, argv, NULL);
    ERL_NIF_TERM keys = enif_make_list(env, 0), key;

    (void)argc;
    if (object == NULL)
        return enif_make_badarg(env);
    pthread_mutex_lock(&object->lock);
    bool is_closed = object->is_closed;
    const struct ep_dict_value *value = is_closed ? NULL : ep_dict_next(object->dict, NULL);
    for (; value != NULL; value = ep_dict_next(object->dict, value)) {
        memcpy(enif_make_new_binary(env, value->n_key, &key), value->data, value->n_key);
        keys = enif_make_list_cell(env, key, keys);
    }
    pthread_mutex_unlock(&object->lock);
    return is_closed ? enif_make_badarg(env) : keys;
}

/* dict_destroy(Dict) -> ok */
PY_NIF(dict_destroy_nif)
{
    struct ep_object *object = get_dict(env, argv, NULL);

    (void)argc;
    if (object == NULL)
        return enif_make_badarg(env);
    pthread_mutex_lock(&object->lock);
    object->is_closed = true;
    struct ep_dict *dict = object->dict;
    object->dict = NULL;
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_dict_destroy(dict);
    return am_ok;
}

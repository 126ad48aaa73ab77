/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_result.h"

#include "ep_atoms.h"
#include "ep_term_decode.h"

#include <errno.h>
#include <string.h>

static ERL_NIF_TERM error_tuple(ErlNifEnv *env, ERL_NIF_TERM reason)
{
    return enif_make_tuple2(env, am_error, reason);
}

ERL_NIF_TERM ep_result_exception(ErlNifEnv *env, enum ep_op op, ERL_NIF_TERM type,
                                 const char *message)
{
    return ep_term_python_error(env, type, (const uint8_t *)message, strlen(message),
                                (op & EP_OP_TEXT) != 0);
}

static ERL_NIF_TERM cancelled(ErlNifEnv *env)
{
    static const char text[] = "cancelled";
    ERL_NIF_TERM term;

    memcpy(enif_make_new_binary(env, sizeof(text) - 1, &term), text, sizeof(text) - 1);
    return term;
}

static int next_binary(struct ep_etf_cursor *cursor, struct ep_etf_token *token)
{
    int rc = ep_etf_next(cursor, token);
    return rc == 0 && token->type == EP_ETF_BINARY ? 0 : -EPROTO;
}

/* An error record: binary type name, binary message, binary traceback or nil. */
static int exception(ErlNifEnv *env, struct ep_vm *vm, enum ep_op op, const struct ep_msg *msg,
                     struct ep_etf_cursor *cursor, ERL_NIF_TERM *ret_term)
{
    struct ep_etf_token name, message, traceback;
    ERL_NIF_TERM type;

    if (next_binary(cursor, &name) < 0 || next_binary(cursor, &message) < 0
        || ep_etf_next(cursor, &traceback) < 0)
        return -EPROTO;

    switch (msg->aux) {
    case EP_ERROR_STOP_ITERATION:
        *ret_term = error_tuple(env, enif_make_tuple2(env, am_stop_iteration, am_none));
        return 0;
    case EP_ERROR_INTERRUPTED: *ret_term = error_tuple(env, am_interrupted); return 0;
    case EP_ERROR_CANCELLED: *ret_term = error_tuple(env, cancelled(env)); return 0;
    case EP_ERROR_NOT_FOUND: *ret_term = error_tuple(env, am_function_not_found); return 0;
    default: break;
    }
    if (!ep_atom_from_worker(vm, env, name.data, name.count, &type))
        memcpy(enif_make_new_binary(env, name.count, &type), name.data, name.count);
    *ret_term =
        ep_term_python_error(env, type, message.data, message.count, (op & EP_OP_TEXT) != 0);
    if (traceback.type == EP_ETF_BINARY) {
        const ERL_NIF_TERM *tuple, *pair;
        ERL_NIF_TERM text;
        int arity;
        memcpy(enif_make_new_binary(env, traceback.count, &text), traceback.data, traceback.count);
        (void)enif_get_tuple(env, *ret_term, &arity, &tuple);
        (void)enif_get_tuple(env, tuple[1], &arity, &pair);
        *ret_term = error_tuple(env, enif_make_tuple3(env, pair[0], pair[1], text));
    }
    return 0;
}

static int value(ErlNifEnv *env, struct ep_vm *vm, enum ep_op op, struct ep_etf_cursor *cursor,
                 const struct ep_source *source, ERL_NIF_TERM *ret_term)
{
    ERL_NIF_TERM term;

    if ((op & EP_OP_MASK) == EP_OP_EXEC) {
        *ret_term = am_ok;
        return 0;
    }
    int rc = ep_term_decode(vm, env, cursor, source, &term);
    if (rc == 0)
        *ret_term = enif_make_tuple2(env, am_ok, term);
    return rc;
}

static int decode_list(struct ep_vm *vm, ErlNifEnv *env, struct ep_etf_cursor *cursor,
                       const struct ep_source *source, ERL_NIF_TERM *ret_term)
{
    int rc = ep_term_decode(vm, env, cursor, source, ret_term);

    return rc == 0 && !enif_is_list(env, *ret_term) ? -EPROTO : rc;
}

/* An integer, for a call a name, and a list. */
static int question(ErlNifEnv *env, struct ep_vm *vm, struct ep_etf_cursor *cursor,
                    const struct ep_source *source, ERL_NIF_TERM ret_terms[2])
{
    struct ep_etf_token number;
    ERL_NIF_TERM name;
    int rc = ep_etf_next(cursor, &number);

    if (rc < 0 || number.type != EP_ETF_INT || number.integer < 0
        || number.integer > EP_QUESTION_MAX)
        return -EPROTO;
    ret_terms[0] = enif_make_int64(env, number.integer);
    if (number.integer == EP_QUESTION_DELIVER) {
        rc = decode_list(vm, env, cursor, source, &ret_terms[1]);
        /* Our own measure of what is to be delivered. */
        if (rc == 0)
            ret_terms[1] = enif_make_tuple2(env, enif_make_uint64(env, source->size), ret_terms[1]);
        return rc;
    }
    if (number.integer != EP_QUESTION_CALL)
        return decode_list(vm, env, cursor, source, &ret_terms[1]);
    /* 0 is a call; see py_callback.erl. */
    rc = ep_term_decode(vm, env, cursor, source, &name);
    if (rc == 0 && !enif_is_binary(env, name))
        rc = -EPROTO;
    if (rc == 0)
        rc = decode_list(vm, env, cursor, source, &ret_terms[1]);
    if (rc == 0)
        ret_terms[1] = enif_make_tuple2(env, name, ret_terms[1]);
    return rc;
}

/* What was wrong with the contents of a question goes back to Python, which the caller
 * has to do: what to raise instead of a question. */
static void unconverted(ErlNifEnv *env, int rc, ERL_NIF_TERM ret_terms[2])
{
    static const struct {
        int error;
        const ERL_NIF_TERM *type;
        const char *why;
    } faults[] = {
        {-EEXIST, &am_ValueError, "args: two keys of a dict become the same key"},
        {-EOVERFLOW, &am_OverflowError, "args: int too large for the Erlang VM"},
        {-ENOMEM, &am_MemoryError, "args: no memory"},
        {-EFBIG, &am_MemoryError, "args: " EP_TERM_TOO_BIG},
        {0, &am_RuntimeError, "args: not in the wire format"},
    };
    ERL_NIF_TERM text;
    size_t i = 0;

    while (faults[i].error != 0 && faults[i].error != rc)
        i++;
    memcpy(enif_make_new_binary(env, strlen(faults[i].why), &text), faults[i].why,
           strlen(faults[i].why));
    ret_terms[0] = am_raise;
    ret_terms[1] = enif_make_tuple2(env, *faults[i].type, text);
}

static bool is_content(int rc)
{
    return rc == -EEXIST || rc == -EOVERFLOW || rc == -ENOMEM || rc == -EFBIG;
}

static int callback(ErlNifEnv *env, struct ep_vm *vm, const struct ep_msg *msg,
                    struct ep_etf_cursor *cursor, const struct ep_source *source,
                    ERL_NIF_TERM call_ref, ERL_NIF_TERM *ret_term)
{
    ERL_NIF_TERM terms[2] = {0, 0};

    int rc = question(env, vm, cursor, source, terms);
    if (is_content(rc)) {
        unconverted(env, rc, terms);
        cursor->at = cursor->end;
    } else if (rc < 0) {
        return rc;
    }
    *ret_term = enif_make_tuple5(env, am_callback, call_ref, enif_make_uint64(env, msg->subject),
                                 terms[0], terms[1]);
    return 0;
}

static int decode_reply(ErlNifEnv *env, struct ep_vm *vm, enum ep_op op, const struct ep_msg *msg,
                        struct ep_etf_cursor *cursor, const struct ep_source *source,
                        ERL_NIF_TERM call_ref, ERL_NIF_TERM *ret_term)
{
    switch (msg->kind) {
    case EP_KIND_RESULT: return value(env, vm, op, cursor, source, ret_term);
    case EP_KIND_CALLBACK: return callback(env, vm, msg, cursor, source, call_ref, ret_term);
    default: return exception(env, vm, op, msg, cursor, ret_term);
    }
}

ERL_NIF_TERM ep_result_make(ErlNifEnv *env, struct ep_vm *vm, enum ep_op op,
                            const struct ep_msg *msg, const struct ep_source *source,
                            ERL_NIF_TERM call_ref)
{
    struct ep_etf_cursor cursor;
    ERL_NIF_TERM term;

    ep_etf_cursor_init(&cursor, source->start, source->size);
    int rc = decode_reply(env, vm, op, msg, &cursor, source, call_ref, &term);
    if (rc == 0 && cursor.at != cursor.end)
        rc = -EPROTO;
    switch (rc) {
    case 0: return term;
    case -EEXIST:
        return ep_result_exception(env, op, am_ValueError,
                                   "result: two keys of a dict become the same key");
    case -EOVERFLOW:
        return ep_result_exception(env, op, am_OverflowError,
                                   "result: int too large for the Erlang VM");
    case -ENOMEM: return ep_result_exception(env, op, am_MemoryError, "result: no memory");
    case -EFBIG: return ep_result_exception(env, op, am_MemoryError, "result: " EP_TERM_TOO_BIG);
    default: return 0;
    }
}

ERL_NIF_TERM ep_result_no_memory(ErlNifEnv *env, enum ep_op op, const struct ep_msg *msg,
                                 ERL_NIF_TERM call_ref)
{
    ERL_NIF_TERM terms[2] = {0, 0};

    if (msg->kind != EP_KIND_CALLBACK)
        return ep_result_exception(env, op, am_MemoryError, "result: no memory");
    unconverted(env, -ENOMEM, terms);
    return enif_make_tuple5(env, am_callback, call_ref, enif_make_uint64(env, msg->subject),
                            terms[0], terms[1]);
}

bool ep_result_question(ErlNifEnv *env, struct ep_vm *vm, const struct ep_source *source,
                        ERL_NIF_TERM ret_terms[2])
{
    struct ep_etf_cursor cursor;
    int rc = -ENOMEM;

    if (source->start != NULL) {
        ep_etf_cursor_init(&cursor, source->start, source->size);
        rc = question(env, vm, &cursor, source, ret_terms);
        if (rc == 0 && cursor.at != cursor.end)
            rc = -EPROTO;
    }
    if (rc < 0)
        unconverted(env, rc, ret_terms);
    return rc == 0 || is_content(rc);
}

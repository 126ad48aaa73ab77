/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_answer.h"

#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_host.h"
#include "ep_lanes.h"
#include "ep_term.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static ERL_NIF_TERM error_tuple(ErlNifEnv *env, ERL_NIF_TERM reason)
{
    return enif_make_tuple2(env, am_error, reason);
}

static ERL_NIF_TERM python_error(ErlNifEnv *env, ERL_NIF_TERM type, const char *message)
{
    return ep_term_python_error(env, type, (const uint8_t *)message, strlen(message));
}

ERL_NIF_TERM ep_answer_exit_reason(ErlNifEnv *env, int64_t exit_value)
{
    char name[16];

    if (exit_value == EP_EXIT_VALUE_KILL_AFTER)
        return am_kill_after;
    if (exit_value == EP_EXIT_VALUE_VIOLATION)
        return am_protocol_violation;
    if (exit_value < 0)
        return am_unknown;
    if (exit_value < 256)
        return enif_make_int64(env, exit_value);

    static const struct {
        int number;
        const char *name;
    } signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGKILL, "SIGKILL"},
                   {SIGTERM, "SIGTERM"}, {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},
                   {SIGILL, "SIGILL"},   {SIGINT, "SIGINT"},   {SIGHUP, "SIGHUP"},
                   {SIGQUIT, "SIGQUIT"}, {SIGTRAP, "SIGTRAP"}, {SIGSYS, "SIGSYS"},
                   {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"}, {SIGALRM, "SIGALRM"},
                   {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGPIPE, "SIGPIPE"}};
    int number = (int)(exit_value - 256);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (signals[i].number == number)
            return enif_make_atom(env, signals[i].name);
    /* At most 64 of them exist, so this cannot fill the atom table. */
    (void)snprintf(name, sizeof(name), "SIG%d", number & 127);
    return enif_make_atom(env, name);
}

static ERL_NIF_TERM died(ErlNifEnv *env, struct ep_lane *lane, const struct ep_msg *msg)
{
    ERL_NIF_TERM keys[4] = {am_context, am_os_pid, am_reason, am_started};
    ERL_NIF_TERM values[4] = {
        enif_make_pid(env, &lane->owner),
        enif_make_int64(env, (int64_t)msg->subject),
        ep_answer_exit_reason(env, (int64_t)msg->block),
        msg->aux != 0 ? am_true : am_false,
    };
    ERL_NIF_TERM info;

    (void)enif_make_map_from_arrays(env, keys, values, 4, &info);
    return error_tuple(env, enif_make_tuple2(env, am_worker_died, info));
}

static ERL_NIF_TERM unavailable(ErlNifEnv *env, struct ep_lane *lane)
{
    ERL_NIF_TERM reason = am_unknown;

    pthread_mutex_lock(&lane->producer);
    if (lane->reason_env != NULL)
        reason = enif_make_copy(env, lane->reason);
    pthread_mutex_unlock(&lane->producer);
    return error_tuple(env, enif_make_tuple2(env, am_worker_unavailable, reason));
}

static ERL_NIF_TERM context_died(ErlNifEnv *env, struct ep_lane *lane)
{
    return error_tuple(env, enif_make_tuple2(env, am_context_died, lane->close_reason));
}

ERL_NIF_TERM ep_answer_refused(ErlNifEnv *env, struct ep_lane *lane, int error)
{
    switch (error) {
    case -ESTALE: return context_died(env, lane);
    case -EHOSTDOWN: return unavailable(env, lane);
    case -ENOBUFS: {
        ERL_NIF_TERM most = enif_make_uint(env, EP_CALL_CHUNK * EP_CALL_CHUNKS);
        return error_tuple(env, enif_make_tuple3(env, am_overloaded, most, most));
    }
    default: return python_error(env, am_MemoryError, "no memory for the request");
    }
}

static int next_binary(struct ep_etf_cursor *cursor, struct ep_etf_token *token)
{
    int rc = ep_etf_next(cursor, token);
    return rc == 0 && token->type == EP_ETF_BINARY ? 0 : -EPROTO;
}

/* An error record: binary type name, binary message, binary traceback or nil. */
static int exception(ErlNifEnv *env, struct ep_lane *lane, const struct ep_msg *msg,
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
    default: break;
    }
    if (!ep_atom_from_worker(lane->vm, env, name.data, name.count, &type))
        memcpy(enif_make_new_binary(env, name.count, &type), name.data, name.count);
    *ret_term = ep_term_python_error(env, type, message.data, message.count);
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

static int value(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op, struct ep_etf_cursor *cursor,
                 const struct ep_source *source, ERL_NIF_TERM *ret_term)
{
    ERL_NIF_TERM term;

    if (op == EP_OP_EXEC) {
        *ret_term = am_ok;
        return 0;
    }
    int rc = ep_term_decode(lane->vm, env, cursor, source, &term);
    if (rc == 0)
        *ret_term = enif_make_tuple2(env, am_ok, term);
    return rc;
}

/* An integer, for a call a name, and a list. */
static int question(ErlNifEnv *env, struct ep_vm *vm, struct ep_etf_cursor *cursor,
                    const struct ep_source *source, ERL_NIF_TERM ret_terms[2])
{
    struct ep_etf_token number;
    ERL_NIF_TERM name;
    int rc = ep_etf_next(cursor, &number);

    if (rc < 0 || number.type != EP_ETF_INT)
        return -EPROTO;
    ret_terms[0] = enif_make_int64(env, number.integer);
    if (number.integer != 0)
        return ep_term_decode(vm, env, cursor, source, &ret_terms[1]);
    /* 0 is a call; see py_callback.erl. */
    rc = ep_term_decode(vm, env, cursor, source, &name);
    if (rc == 0)
        rc = ep_term_decode(vm, env, cursor, source, &ret_terms[1]);
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
    return rc == -EEXIST || rc == -EOVERFLOW || rc == -ENOMEM;
}

static int callback(ErlNifEnv *env, struct ep_lane *lane, const struct ep_msg *msg,
                    struct ep_etf_cursor *cursor, const struct ep_source *source,
                    ERL_NIF_TERM call_ref, ERL_NIF_TERM *ret_term)
{
    ERL_NIF_TERM terms[2] = {0, 0};

    int rc = question(env, lane->vm, cursor, source, terms);
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

ERL_NIF_TERM ep_answer_question(ErlNifEnv *env, struct ep_vm *vm, struct ep_host *host,
                                const uint8_t *payload, size_t length)
{
    struct ep_source source = {.start = payload, .size = length};
    struct ep_etf_cursor cursor;
    ERL_NIF_TERM terms[2] = {0, 0};

    ep_etf_cursor_init(&cursor, payload, length);
    int rc = question(env, vm, &cursor, &source, terms);
    if (rc == 0 && cursor.at != cursor.end)
        rc = -EPROTO;
    if (rc < 0)
        unconverted(env, rc, terms);
    if (rc < 0 && !is_content(rc))
        ep_host_kill(host, EP_KILL_VIOLATION);
    return enif_make_tuple2(env, terms[0], terms[1]);
}

static int decode_reply(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op,
                        const struct ep_msg *msg, struct ep_etf_cursor *cursor,
                        const struct ep_source *source, ERL_NIF_TERM call_ref,
                        ERL_NIF_TERM *ret_term)
{
    switch (msg->kind) {
    case EP_KIND_RESULT: return value(env, lane, op, cursor, source, ret_term);
    case EP_KIND_CALLBACK: return callback(env, lane, msg, cursor, source, call_ref, ret_term);
    default: return exception(env, lane, msg, cursor, ret_term);
    }
}

/* bytes are private memory: nobody else writes them any more. */
static ERL_NIF_TERM decode(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op,
                           const struct ep_msg *msg, const struct ep_source *source,
                           struct ep_host *host, ERL_NIF_TERM call_ref)
{
    struct ep_etf_cursor cursor;
    ERL_NIF_TERM term;

    ep_etf_cursor_init(&cursor, source->start, source->size);
    int rc = decode_reply(env, lane, op, msg, &cursor, source, call_ref, &term);
    if (rc == 0 && cursor.at != cursor.end)
        rc = -EPROTO;
    switch (rc) {
    case 0: return term;
    case -EEXIST:
        return python_error(env, am_ValueError, "result: two keys of a dict become the same key");
    case -EOVERFLOW:
        return python_error(env, am_OverflowError, "result: int too large for the Erlang VM");
    case -ENOMEM: return python_error(env, am_MemoryError, "result: no memory");
    default: break;
    }
    /* The worker broke the protocol: it dies, and this call with it. */
    struct ep_msg failed = {.kind = EP_FAILED_DIED, .aux = 1};
    failed.block = (uint64_t)EP_EXIT_VALUE_VIOLATION;
    if (host != NULL) {
        failed.subject = (uint64_t)atomic_load(&host->os_pid);
        ep_host_kill(host, EP_KILL_VIOLATION);
    } else {
        ep_lane_kill(lane, EP_KILL_VIOLATION);
    }
    return died(env, lane, &failed);
}

bool ep_answer_is_long(const struct ep_reply *reply)
{
    const struct ep_msg *msg = &reply->msg;
    uint8_t head[EP_ETF_BINARY_HEADER];

    if (msg->length <= EP_ANSWER_DIRTY || msg->kind >= EP_FAILED_DIED)
        return false;
    if (msg->length > EP_ANSWER_COPY || msg->kind != EP_KIND_RESULT || reply->payload == NULL)
        return true;
    /* The worker may still change it. What is decoded is a copy, so that a lie here
     * costs time only. */
    memcpy(head, reply->payload, sizeof(head));
    __asm__ volatile("" ::: "memory");
    return !ep_etf_is_binary(head, msg->length);
}

static ERL_NIF_TERM answer_block(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op,
                                 struct ep_reply *reply, ERL_NIF_TERM call_ref)
{
    const struct ep_msg *msg = &reply->msg;
    struct ep_source source = {.size = msg->length};
    struct ep_host *host = reply->host;
    ERL_NIF_TERM term;

    /* One copy, straight into a binary that the result may refer to. */
    unsigned char *bytes = enif_make_new_binary(env, msg->length, &source.source_term);
    if (bytes != NULL)
        memcpy(bytes, reply->payload, msg->length);
    ep_call_release_block(lane, host, msg);
    if (bytes != NULL) {
        source.start = bytes;
        term = decode(env, lane, op, msg, &source, host, call_ref);
    } else if (msg->kind == EP_KIND_CALLBACK) {
        ERL_NIF_TERM terms[2] = {0, 0};
        unconverted(env, -ENOMEM, terms);
        term = enif_make_tuple5(env, am_callback, call_ref, enif_make_uint64(env, msg->subject),
                                terms[0], terms[1]);
    } else {
        term = python_error(env, am_MemoryError, "result: no memory");
    }
    reply->host = NULL;
    enif_release_resource(host);
    return term;
}

ERL_NIF_TERM ep_answer(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op, struct ep_reply *reply,
                       ERL_NIF_TERM call_ref)
{
    const struct ep_msg *msg = &reply->msg;

    switch (msg->kind) {
    case EP_FAILED_DIED: return died(env, lane, msg);
    case EP_FAILED_UNAVAILABLE: return unavailable(env, lane);
    case EP_FAILED_CONTEXT: return context_died(env, lane);
    case EP_KIND_DROPPED: return error_tuple(env, am_cancelled);
    default: break;
    }
    if (reply->host != NULL)
        return answer_block(env, lane, op, reply, call_ref);
    struct ep_source source = {.start = reply->heap != NULL ? reply->heap : msg->data,
                               .size = msg->length};
    ERL_NIF_TERM term = decode(env, lane, op, msg, &source, NULL, call_ref);
    if (reply->heap != NULL)
        enif_free(reply->heap);
    reply->heap = NULL;
    return term;
}

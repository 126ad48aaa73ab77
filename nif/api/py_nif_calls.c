/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_calls.h"

#include "ep_answer.h"
#include "ep_asker.h"
#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_encoding.h"
#include "ep_inbox.h"
#include "ep_interrupt.h"
#include "ep_lanes.h"
#include "ep_outbox.h"
#include "ep_progress.h"
#include "ep_reply_wait.h"
#include "ep_result.h"
#include "ep_slots.h"
#include "ep_stage.h"
#include "ep_stats.h"
#include "ep_stream.h"
#include "ep_task.h"
#include "ep_turn.h"
#include "py_nif_envs.h"
#include "py_nif_numbers.h"
#include "py_nif_questions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

ErlNifResourceType *ep_call_type;

#define FLAGS_STYLE (PY_NIF_STYLE_MASK | PY_NIF_STYLE_MASK << PY_NIF_FLAG_SAID_SHIFT)
#define FLAGS_ALL                                                                                  \
    (EP_FLAG_TRACEBACK | PY_NIF_FLAG_NESTED | PY_NIF_FLAG_HAS_SLOT | PY_NIF_FLAG_SHARED            \
     | PY_NIF_FLAG_TASK | PY_NIF_FLAG_STREAM | FLAGS_STYLE)

/* Questions that a caller serves before other processes have their turns, and for how long: each
 * may copy a hundred kilobytes. */
#define SERVE_MAX 64
#define SERVE_NS 200000

/* What the call held besides its reply. */
static void end_call(struct ep_call_ref *ref, ErlNifEnv *env)
{
    py_nif_drop_question(ref);
    if (ref->reader != NULL)
        enif_free(ref->reader);
    ref->reader = NULL;
    if (ref->has_slot)
        ep_slots_release(&ref->lane->vm->slots, env);
    ref->has_slot = false;
}

void py_nif_abandon(struct ep_call_ref *ref, ErlNifEnv *env)
{
    if (ref->call == NULL)
        return;
    if (!ep_interrupt_cancel(ref->lane, env, ref->call, true)) {
        /* Answered, and nobody collects. */
        ep_call_settle(ref->lane, ref->call);
        ep_reply_drop(ref->lane, &ref->call->reply);
        if (ref->call->is_stream && ep_reply_is_final(&ref->call->reply.msg))
            ep_call_drop_belt(ref->lane, ref->call, true);
        ep_call_free(ref->lane, ref->call);
    }
    ref->call = NULL;
    end_call(ref, env);
}

void py_nif_call_ref_destroy(ErlNifEnv *env, void *object)
{
    struct ep_call_ref *ref = object;

    if (ref->lane == NULL)
        return;
    py_nif_abandon(ref, env);
    enif_release_resource(ref->lane);
}

static ERL_NIF_TERM make_call_ref(ErlNifEnv *env, struct ep_lane *lane, struct ep_call *call,
                                  bool has_slot)
{
    struct ep_call_ref *ref = enif_alloc_resource(ep_call_type, sizeof(*ref));

    enif_keep_resource(lane);
    *ref = (struct ep_call_ref){.lane = lane, .call = call, .has_slot = has_slot};
    ERL_NIF_TERM term = enif_make_resource(env, ref);
    enif_release_resource(ref);
    return term;
}

static void count(struct ep_lane *lane, const struct ep_call *call, const struct ep_reply *reply)
{
    ep_stats_ended(&lane->stats, call, &reply->msg);
}

/* The caller of a TAKEN call leaves the reply to a dirty scheduler. */
static ERL_NIF_TERM collect_dirty(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call *call,
                                  const struct ep_reply *reply)
{
    memcpy(&call->reply, reply, offsetof(struct ep_reply, msg.data));
    /* Release: for a walk over the table, or a worker that lies, finds the reply, too. */
    atomic_store_explicit(&call->state, EP_CALL_DONE, memory_order_release);
    return enif_schedule_nif(env, "collect", ERL_NIF_DIRTY_JOB_CPU_BOUND, collect_nif, 1, &term);
}

static ERL_NIF_TERM serve(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_reply *reply);

/* The answer to a call whose caller found the reply at once. */
static ERL_NIF_TERM answer_own(ErlNifEnv *env, struct ep_lane *lane, struct ep_call *call,
                               struct ep_reply *reply, bool has_slot)
{
    if (reply->msg.kind == EP_KIND_CALLBACK) {
        ERL_NIF_TERM term = make_call_ref(env, lane, call, has_slot);
        return py_nif_is_question(reply) ? serve(env, term, reply)
                                         : ep_answer(env, lane, call->op, reply, term);
    }
    if (ep_answer_is_long(reply) && !ep_encoding_is_dirty())
        return collect_dirty(env, make_call_ref(env, lane, call, has_slot), call, reply);
    count(lane, call, reply);
    if (ep_turn_is_charged(ep_call_position(call)))
        ep_turn_charge(env);
    ERL_NIF_TERM answer = ep_answer(env, lane, call->op, reply, 0);
    ep_call_free(lane, call);
    if (has_slot)
        ep_slots_release(&lane->vm->slots, env);
    return answer;
}

static PY_NIF(poll_nif);

/* Everybody else on this scheduler goes first. */
static ERL_NIF_TERM poll_again(ErlNifEnv *env, ERL_NIF_TERM call)
{
    ep_turn_end(env);
    return enif_schedule_nif(env, "poll", 0, poll_nif, 1, &call);
}

/* The caller goes on with stream_next/2. */
static ERL_NIF_TERM begin_stream(ErlNifEnv *env, ERL_NIF_TERM term)
{
    struct ep_call_ref *ref;

    (void)enif_get_resource(env, term, ep_call_type, (void **)&ref);
    ref->reader = enif_alloc(sizeof(*ref->reader));
    *ref->reader = (struct ep_reader){.is_waiting = false};
    ep_belt_rx_attach(&ref->reader->rx, NULL);
    return enif_make_tuple2(env, am_pending, term);
}

/* Sends a request and waits a moment. {pending, Call} if the moment is over. */
static ERL_NIF_TERM run(ErlNifEnv *env, struct ep_lane *lane, struct ep_asker *asker,
                        const struct ep_request *request, bool has_slot)
{
    struct ep_slots *slots = &lane->vm->slots;
    struct ep_call *call;
    struct ep_reply reply;

    int rc = asker == NULL ? ep_outbox_submit(lane, env, request, &call)
                           : ep_asker_submit(asker, env, request, &call);
    if (rc < 0) {
        if (has_slot)
            ep_slots_release(slots, env);
        if (asker != NULL && (rc == -ESTALE || rc == -EAGAIN))
            return am_gone;
        return ep_answer_refused(env, lane, request->op, rc);
    }

    if (request->form == EP_FORM_STREAM)
        return begin_stream(env, make_call_ref(env, lane, call, has_slot));
    switch (ep_spin_for_reply(lane, env, call, &reply)) {
    case EP_WAIT_TAKEN: return answer_own(env, lane, call, &reply, has_slot);
    case EP_WAIT_AGAIN: return poll_again(env, make_call_ref(env, lane, call, has_slot));
    default: return enif_make_tuple2(env, am_pending, make_call_ref(env, lane, call, has_slot));
    }
}

static ERL_NIF_TERM run_task(ErlNifEnv *env, struct ep_lane *lane, const struct ep_request *request)
{
    struct ep_call *call;

    int rc = ep_task_submit(lane, env, request, &call);
    switch (rc) {
    case 0: break;
    case -EAGAIN: return am_again;
    case -EDQUOT: {
        ERL_NIF_TERM most = enif_make_uint(env, EP_TASKS_MAX);
        return enif_make_tuple2(env, am_error, enif_make_tuple3(env, am_overloaded, most, most));
    }
    default: return ep_answer_refused(env, lane, request->op, rc);
    }
    ep_park_for_reply(lane, call);
    return enif_make_tuple2(env, am_pending, make_call_ref(env, lane, call, false));
}

/* A lane, or a Python thread that asked. */
static bool get_target(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_lane **ret_lane,
                       struct ep_asker **ret_asker)
{
    if (enif_get_resource(env, term, ep_lane_type, (void **)ret_lane))
        return true;
    if (!enif_get_resource(env, term, ep_asker_type, (void **)ret_asker))
        return false;
    *ret_lane = (*ret_asker)->lane;
    return true;
}

/* Flags of a request. Most have none, which needs no function of the VM. */
static bool get_flags(ErlNifEnv *env, ERL_NIF_TERM term, unsigned *ret_flags)
{
    *ret_flags = 0;
    return term == ep_term_zero
           || (enif_get_uint(env, term, ret_flags) && (*ret_flags & ~FLAGS_ALL) == 0);
}

static void finish_encoding(struct ep_encoding *encoding, struct ep_stage *stage)
{
    ep_outbox_unstage(stage);
    ep_encoding_finish(encoding);
}

static PY_NIF(call_dirty_nif);
static PY_NIF(eval_dirty_nif);
static PY_NIF(exec_dirty_nif);

/* How the answer is to look: as the request says, else as the lane. */
static unsigned style_of(const struct ep_lane *lane, unsigned flags)
{
    unsigned said = flags >> PY_NIF_FLAG_SAID_SHIFT;

    return (flags & said) | (lane->style & ~said);
}

static ERL_NIF_TERM request(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[], enum ep_op op,
                            bool is_dirty)
{
    static const struct {
        enum ep_kind kind;
        const char *name;
        ERL_NIF_TERM (*dirty_nif)(ErlNifEnv *, int, const ERL_NIF_TERM[]);
    } ops[] = {[EP_OP_CALL] = {EP_KIND_CALL, "call", call_dirty_nif},
               [EP_OP_EVAL] = {EP_KIND_EVAL, "eval", eval_dirty_nif},
               [EP_OP_EXEC] = {EP_KIND_EXEC, "exec", exec_dirty_nif}};
    struct ep_encoding encoding;
    struct ep_stage stage;
    struct ep_asker *asker = NULL;
    struct ep_lane *lane;
    unsigned flags;
    uint64_t env_id;

    if (!get_target(env, argv[0], &lane, &asker) || !get_flags(env, argv[argc - 1], &flags)
        || (asker != NULL && (flags & PY_NIF_FLAG_STREAM) != 0))
        return enif_make_badarg(env);
    int rc = py_nif_get_env_id(env, argv[1], lane, &env_id);
    if (rc == -EXDEV)
        return enif_make_tuple2(env, am_error, am_env_wrong_interpreter);
    if (rc < 0)
        return enif_make_badarg(env);

    unsigned style = style_of(lane, flags);
    struct ep_request req = {
        .op = (style & EP_STYLE_TEXT) != 0 ? op | EP_OP_TEXT : op,
        .kind = (uint16_t)ops[op].kind,
        .flags = (uint16_t)((flags & EP_FLAG_TRACEBACK) | (style & EP_FLAG_NONE_MASK)),
        .form = (flags & PY_NIF_FLAG_STREAM) != 0 ? EP_FORM_STREAM : EP_FORM_VALUE,
        .urgent = (flags & PY_NIF_FLAG_NESTED) != 0,
        .env_id = env_id,
    };
    bool is_task = (flags & PY_NIF_FLAG_TASK) != 0;
    ep_encoding_init(&encoding, env, lane->vm, is_dirty);
    ep_stage_init(&stage, lane);
    if (asker == NULL && !is_task) {
        encoding.encoder.make_room = ep_outbox_stage;
        encoding.encoder.stage = req.stage = &stage;
        stage.new_max = encoding.encoder.bytes_max;
    }
    switch (op) {
    case EP_OP_CALL: rc = ep_encoding_put_arguments(&encoding, argv, &req.flags); break;
    case EP_OP_EVAL: rc = ep_encoding_put_code(&encoding, argv); break;
    default: rc = ep_encoding_put_text(&encoding, argv[2], "code"); break;
    }
    if (rc == -E2BIG) {
        finish_encoding(&encoding, &stage);
        return enif_schedule_nif(env, ops[op].name, ERL_NIF_DIRTY_JOB_CPU_BOUND, ops[op].dirty_nif,
                                 argc, argv);
    }
    if (rc < 0) {
        ep_outbox_unstage(&stage);
        return ep_encoding_failed(env, &encoding, req.op, rc);
    }

    /* Last, so that nothing above has to give it back. */
    bool wants_slot = (flags & (PY_NIF_FLAG_NESTED | PY_NIF_FLAG_HAS_SLOT | PY_NIF_FLAG_TASK)) == 0;
    if (wants_slot && !ep_slots_try(&lane->vm->slots, env)) {
        finish_encoding(&encoding, &stage);
        return am_overloaded;
    }
    if ((encoding.encoder.cargo != NULL || (flags & PY_NIF_FLAG_SHARED) != 0)
        && ep_encoding_put_cargo(&encoding, (flags & PY_NIF_FLAG_SHARED) != 0)) {
        req.flags |= EP_FLAG_ARRAYS;
        req.cargo = &encoding.encoder.cargo;
    }
    req.payload = &encoding.buf;
    ERL_NIF_TERM result =
        is_task ? run_task(env, lane, &req) : run(env, lane, asker, &req, wants_slot);
    finish_encoding(&encoding, &stage);
    return result;
}

/* call(Lane, Env, Module, Function, Args, Kwargs, Flags) ->
 *     {pending, Call} | {callback, Call, Number, Question, Arguments} | overloaded | again | Answer
 * again: of a task, for which there is no worker process or no room at the moment. */
PY_NIF(call_nif)
{
    return request(env, argc, argv, EP_OP_CALL, false);
}

static PY_NIF(call_dirty_nif)
{
    return request(env, argc, argv, EP_OP_CALL, true);
}

/* eval(Lane, Env, Code, Locals, Flags) -> {pending, Call} | Answer */
PY_NIF(eval_nif)
{
    return request(env, argc, argv, EP_OP_EVAL, false);
}

static PY_NIF(eval_dirty_nif)
{
    return request(env, argc, argv, EP_OP_EVAL, true);
}

/* exec(Lane, Env, Code, Flags) -> {pending, Call} | Answer */
PY_NIF(exec_nif)
{
    return request(env, argc, argv, EP_OP_EXEC, false);
}

static PY_NIF(exec_dirty_nif)
{
    return request(env, argc, argv, EP_OP_EXEC, true);
}

bool py_nif_get_call_ref(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref **ret_ref)
{
    return enif_get_resource(env, term, ep_call_type, (void **)ret_ref) && (*ret_ref)->call != NULL;
}

static ERL_NIF_TERM finish(ErlNifEnv *env, struct ep_call_ref *ref, struct ep_reply *reply)
{
    struct ep_call *call = ref->call;

    count(ref->lane, call, reply);
    ref->call = NULL;
    ERL_NIF_TERM answer = ep_answer(env, ref->lane, call->op, reply, 0);
    /* Whatever Python has made of the interrupt. */
    if (atomic_load_explicit(&call->is_overdue, memory_order_relaxed))
        answer = enif_make_tuple2(env, am_error, am_timeout);
    ep_call_free(ref->lane, call);
    end_call(ref, env);
    return answer;
}

/* The call is DONE, or OVERTAKEN. */
ERL_NIF_TERM py_nif_collect(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref *ref)
{
    struct ep_call *call = ref->call;
    struct ep_reply reply;

    ep_call_settle(ref->lane, call);
    if (py_nif_is_question(&call->reply)) {
        reply = call->reply;
        return ep_call_move(call, EP_CALL_DONE, EP_CALL_BUSY) ? serve(env, term, &reply)
                                                              : py_nif_collect(env, term, ref);
    }
    if (ep_answer_is_long(&call->reply) && !ep_encoding_is_dirty())
        return enif_schedule_nif(env, "collect", ERL_NIF_DIRTY_JOB_CPU_BOUND, collect_nif, 1,
                                 &term);
    /* A callback leaves the call open, so its entry may be written again. */
    reply = call->reply;
    if (reply.msg.kind != EP_KIND_CALLBACK)
        return finish(env, ref, &reply);
    if (!ep_call_move(call, EP_CALL_DONE, EP_CALL_BUSY))
        return py_nif_collect(env, term, ref); /* it has been overtaken */
    return ep_answer(env, ref->lane, call->op, &reply, term);
}

/* The reply to a call that is TAKEN or BUSY. */
static ERL_NIF_TERM taken(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref *ref,
                          struct ep_reply *reply)
{
    if (py_nif_is_question(reply))
        return serve(env, term, reply);
    if (reply->msg.kind == EP_KIND_CALLBACK)
        return ep_answer(env, ref->lane, ref->call->op, reply, term);
    if (ep_answer_is_long(reply) && !ep_encoding_is_dirty())
        return collect_dirty(env, term, ref->call, reply);
    return finish(env, ref, reply);
}

ERL_NIF_TERM py_nif_waited(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref *ref,
                           struct ep_reply *reply, enum ep_wait_result result)
{
    switch (result) {
    case EP_WAIT_TAKEN: return taken(env, term, ref, reply);
    case EP_WAIT_AGAIN: return poll_again(env, term);
    default: break;
    }
    if (ep_call_is_done(ref->call))
        return py_nif_collect(env, term, ref);
    return enif_make_tuple2(env, am_pending, term);
}

static PY_NIF(serve_on_nif);

/* What follows a question that was served. */
static ERL_NIF_TERM served(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref *ref,
                           enum py_nif_served how)
{
    switch (how) {
    case PY_NIF_SERVED_DONE: return py_nif_collect(env, term, ref);
    case PY_NIF_SERVED_LONG:
        return enif_schedule_nif(env, "serve_on", ERL_NIF_DIRTY_JOB_CPU_BOUND, serve_on_nif, 1,
                                 &term);
    default: break;
    }
    /* A stream looks at its belt before it waits. */
    if (ref->reader != NULL)
        return enif_make_tuple2(env, am_items, enif_make_list(env, 0));
    ep_begin_polls(ref->lane, ref->call);
    return poll_again(env, term);
}

/* Serves questions about objects that come one after the other. Whoever waits for what the first
 * one puts is woken at once. For the next ones he is woken when no more come: a wake-up costs
 * more than a few puts, and then he finds several items. */
static ERL_NIF_TERM serve(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_reply *reply)
{
    struct ep_waiter late = {.kind = EP_WAITER_NONE};
    struct ep_call_ref *ref;
    uint64_t end = ep_clock_ns() + SERVE_NS;

    (void)enif_get_resource(env, term, ep_call_type, (void **)&ref);
    for (unsigned n = 1;; n++) {
        enum py_nif_served how = py_nif_serve(env, ref, reply, n == 1 ? NULL : &late);
        if (how != PY_NIF_SERVED || ref->reader != NULL || n == SERVE_MAX || ep_clock_ns() > end) {
            ep_waiter_wake(&late, env, EP_STATUS_AGAIN);
            return served(env, term, ref, how);
        }
        if (n % EP_TURN_CALLS == 1)
            ep_turn_charge(env);
        enum ep_wait_result result = ep_spin_for_reply(ref->lane, env, ref->call, reply);
        if (result != EP_WAIT_TAKEN || !py_nif_is_question(reply)) {
            ep_waiter_wake(&late, env, EP_STATUS_AGAIN);
            return py_nif_waited(env, term, ref, reply, result);
        }
    }
}

/* serve_on(Call) -> as call/7. Only ever scheduled from here. */
static PY_NIF(serve_on_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!py_nif_get_call_ref(env, argv[0], &ref) || ref->question == NULL)
        return enif_make_badarg(env);
    return served(env, argv[0], ref, py_nif_serve_on(env, ref));
}

/* poll(Call) -> as call/7. Only ever scheduled from here. */
static PY_NIF(poll_nif)
{
    struct ep_call_ref *ref;
    struct ep_reply reply;

    (void)argc;
    if (!py_nif_get_call_ref(env, argv[0], &ref))
        return enif_make_badarg(env);
    return py_nif_waited(env, argv[0], ref, &reply,
                         ep_poll_for_reply(ref->lane, env, ref->call, &reply));
}

/* await(Call, Tag) -> waiting | Answer. After waiting the message {py_done, Tag}
 * comes once, unless cancel(Call) returns cancelled. */
PY_NIF(await_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!py_nif_get_call_ref(env, argv[0], &ref))
        return enif_make_badarg(env);
    struct ep_call *call = ref->call;
    ErlNifPid self;
    (void)enif_self(env, &self);
    bool is_callers = enif_compare_pids(&self, &call->caller) == 0;
    if (!is_callers && !call->is_task)
        return enif_make_badarg(env);

    if (atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_PARKED) {
        /* A task may be handed over before it is awaited. */
        call->caller = self;
        call->env = enif_alloc_env();
        call->message = enif_make_tuple2(call->env, am_py_done, enif_make_copy(call->env, argv[1]));
        if (ep_call_move(call, EP_CALL_PARKED, EP_CALL_WAITING))
            return am_waiting;
        enif_free_env(call->env);
        call->env = NULL;
    }
    return py_nif_collect(env, argv[0], ref);
}

/* collect(Call) -> Answer. After {py_done, Tag}. */
PY_NIF(collect_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!py_nif_get_call_ref(env, argv[0], &ref) || !ep_call_is_done(ref->call))
        return enif_make_badarg(env);
    return py_nif_collect(env, argv[0], ref);
}

/* call_id(Call) -> integer(). For lane_interrupt/2 and lane_progress/2. */
PY_NIF(call_id_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!py_nif_get_call_ref(env, argv[0], &ref))
        return enif_make_badarg(env);
    return enif_make_uint64(env, ep_call_id(ref->call));
}

/* cancel(Call) -> cancelled | done. done: {py_done, Tag} is or will be there. */
PY_NIF(cancel_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!py_nif_get_call_ref(env, argv[0], &ref))
        return enif_make_badarg(env);
    if (!ep_interrupt_cancel(ref->lane, env, ref->call, false))
        return am_done;
    ref->call = NULL;
    end_call(ref, env);
    ep_stats_timed_out(&ref->lane->stats);
    return am_cancelled;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_streams.h"

#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_lanes.h"
#include "ep_outbox.h"
#include "ep_stats.h"
#include "ep_stream_wait.h"
#include "ep_term_decode.h"
#include "py_nif_answers.h"
#include "py_nif_calls.h"

#include <errno.h>
#include <string.h>

/* What a process pays of its turn for a batch of items, in percent. */
#define ITEMS_PERCENT 5

/* A stream of the calling process. */
static bool get_stream(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref **ret_ref)
{
    ErlNifPid self;

    return py_nif_get_call_ref(env, term, ret_ref) && (*ret_ref)->reader != NULL
           && enif_self(env, &self) != NULL
           && enif_compare_pids(&self, &(*ret_ref)->call->caller) == 0;
}

/* Whether the caller waits neither for a message nor, with a question, for itself. */
static bool is_at_rest(const struct ep_call *call)
{
    return atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_SPINNING
           || ep_call_is_done(call);
}

/* What is wrong with an item, as Python would say it. */
static ERL_NIF_TERM fault(ErlNifEnv *env, const struct ep_call *call, int rc, ERL_NIF_TERM items)
{
    static const struct {
        int error;
        const ERL_NIF_TERM *type;
        const char *why;
    } faults[] = {
        {-EEXIST, &am_ValueError, "item: two keys of a dict become the same key"},
        {-EOVERFLOW, &am_OverflowError, "item: int too large for the Erlang VM"},
        {-EFBIG, &am_MemoryError, "item: " EP_TERM_TOO_BIG},
        {0, &am_MemoryError, "item: no memory"},
    };
    size_t i = 0;

    while (faults[i].error != 0 && faults[i].error != rc)
        i++;
    ERL_NIF_TERM error = ep_term_python_error(env, *faults[i].type, (const uint8_t *)faults[i].why,
                                              strlen(faults[i].why), (call->op & EP_OP_TEXT) != 0);
    return enif_make_tuple3(env, am_fault, error, items);
}

/* The items that are there, else the end or the question. False: none of them. */
static bool take(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref *ref, ERL_NIF_TERM *ret)
{
    struct ep_call *call = ref->call;
    ERL_NIF_TERM items;

    /* Before the belt: what was put there before the end is found there then. */
    bool is_done = ep_call_is_done(call);
    int rc = ep_stream_take(env, ref->lane, ref->reader, call, &items);
    if (rc < 0) {
        *ret = fault(env, call, rc, items);
    } else if (rc > 0) {
        (void)enif_consume_timeslice(env, ITEMS_PERCENT);
        *ret = enif_make_tuple2(env, am_items, items);
    } else if (is_done) {
        ep_call_settle(ref->lane, call);
        if (ep_reply_is_final(&call->reply.msg))
            ep_call_drop_belt(ref->lane, call, true);
        *ret = py_nif_collect(env, term, ref);
    }
    return rc != 0 || is_done;
}

/* Names the message that a PARKED call waits for. False: it is SPINNING or DONE. */
static bool wait_for_message(ErlNifEnv *env, struct ep_call_ref *ref, ERL_NIF_TERM tag)
{
    struct ep_call *call = ref->call;

    (void)env;
    if (atomic_load_explicit(&call->state, memory_order_acquire) != EP_CALL_PARKED)
        return false;
    call->env = enif_alloc_env();
    call->message = enif_make_tuple2(call->env, am_py_done, enif_make_copy(call->env, tag));
    ref->reader->is_waiting = true;
    if (ep_call_move(call, EP_CALL_PARKED, EP_CALL_WAITING))
        return true;
    ref->reader->is_waiting = false;
    enif_free_env(call->env);
    call->env = NULL;
    return false;
}

static PY_NIF(stream_poll_nif);

static ERL_NIF_TERM next(ErlNifEnv *env, const ERL_NIF_TERM argv[], struct ep_call_ref *ref,
                         enum ep_stream_wait (*wait)(struct ep_lane *, ErlNifEnv *,
                                                     struct ep_call *, struct ep_reader *))
{
    for (;;) {
        ERL_NIF_TERM answer;
        if (take(env, argv[0], ref, &answer))
            return answer;
        switch (wait(ref->lane, env, ref->call, ref->reader)) {
        case EP_STREAM_READY: break;
        case EP_STREAM_AGAIN:
            (void)enif_consume_timeslice(env, 100);
            return enif_schedule_nif(env, "stream_next", 0, stream_poll_nif, 2, argv);
        case EP_STREAM_PARKED:
            if (wait_for_message(env, ref, argv[1]))
                return am_waiting;
            break;
        }
    }
}

/* stream_next(Call, Tag) -> {items, [Item, ..]} | {fault, Error, Items} | waiting | Outcome.
 * After waiting the message {py_done, Tag} comes once, unless stream_cancel(Call) returns
 * cancelled; stream_next/2 is called again then. */
PY_NIF(stream_next_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!get_stream(env, argv[0], &ref) || !is_at_rest(ref->call))
        return enif_make_badarg(env);
    ref->reader->is_waiting = false;
    return next(env, argv, ref, ep_stream_spin);
}

static PY_NIF(stream_poll_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!get_stream(env, argv[0], &ref))
        return enif_make_badarg(env);
    return next(env, argv, ref, ep_stream_poll);
}

/* stream_go_on(Call, Number) -> as answer/4. Answers EP_QUESTION_GO_ON: all items were sent on. */
PY_NIF(stream_go_on_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!get_stream(env, argv[0], &ref))
        return enif_make_badarg(env);
    /* Before the worker hears of it and goes on. */
    ep_belt_rx_turn(&ref->reader->rx);
    ERL_NIF_TERM args[4] = {argv[0], argv[1], am_value, am_true};
    return answer_nif(env, 4, args);
}

/* stream_finish(Call) -> true | false. Has Python end the stream at its next item; the end comes
 * as always. false: no worker has the request. */
PY_NIF(stream_finish_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!get_stream(env, argv[0], &ref))
        return enif_make_badarg(env);
    if (!ref->reader->is_finishing)
        ref->reader->is_finishing = ep_outbox_finish(ref->lane, ref->call);
    return ref->reader->is_finishing ? am_true : am_false;
}

/* stream_cancel(Call) -> cancelled | done. Gives the stream up at once and interrupts Python.
 * done: the message is or will be there; take it, then call this again. */
PY_NIF(stream_cancel_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!get_stream(env, argv[0], &ref))
        return enif_make_badarg(env);
    if (ref->reader->is_waiting) {
        ref->reader->is_waiting = false;
        /* Its message stays with the entry, for a deliverer may have it in hand. */
        if (!ep_call_move(ref->call, EP_CALL_WAITING, EP_CALL_PARKED))
            return am_done;
    }
    struct ep_lane *lane = ref->lane;
    py_nif_abandon(ref, env);
    ep_stats_timed_out(&lane->stats);
    return am_cancelled;
}

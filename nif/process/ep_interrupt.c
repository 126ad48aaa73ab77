/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_interrupt.h"

#include "ep_atoms.h"
#include "ep_attach.h"
#include "ep_calls.h"
#include "ep_inbox.h"
#include "ep_lanes.h"
#include "ep_note.h"
#include "ep_outbox.h"
#include "ep_peer.h"
#include "ep_task.h"

bool ep_interrupt_kill(struct ep_lane *lane, enum ep_kill_reason reason)
{
    struct ep_host *host = ep_attach_keep_host(lane, NULL);

    if (host == NULL)
        return false;
    bool is_first = ep_peer_kill(host, reason);
    enif_release_resource(host);
    return is_first;
}

/* Tells the control thread to interrupt a call, if it runs. One that waits needs none, but
 * an idle control thread hears of it all the same: whether it takes the message tells
 * whether the process stands still, see ep_note_is_stopped(). */
static void interrupt_running(struct ep_lane *lane, uint64_t call_id, uint64_t number, bool may_run)
{
    uint32_t index;
    struct ep_host *host = ep_attach_keep_host(lane, &index);

    if (host == NULL)
        return;
    pthread_mutex_lock(&host->lock);
    if (may_run || !ep_note_is_unread(host))
        ep_note_control(host, EP_KIND_INTERRUPT, index, call_id, number);
    pthread_mutex_unlock(&host->lock);
    enif_release_resource(host);
}

static void tell_owner(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM event,
                       uint64_t call_id)
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM what = enif_make_tuple2(env, event, enif_make_uint64(env, call_id));

    (void)enif_send(caller_env, &lane->owner, env, enif_make_tuple2(env, am_py_lane, what));
    enif_free_env(env);
}

/* Whether the caller gave the call up now. Under the producer lock. */
static bool give_up(struct ep_lane *lane, struct ep_call *call, bool refuses_callback)
{
    if (ep_call_move(call, EP_CALL_WAITING, EP_CALL_ABANDONED)
        || ep_call_move(call, EP_CALL_PARKED, EP_CALL_ABANDONED))
        return true;
    /* In a callback, or before one: from here on its end is awaited like that of
     * other parked calls. Counted before the move, as the deliverer uncounts it. */
    atomic_fetch_add_explicit(&lane->common.parked, 1, memory_order_seq_cst);
    if (ep_call_move(call, EP_CALL_BUSY, EP_CALL_ABANDONED)
        || ep_call_move(call, EP_CALL_SPINNING, EP_CALL_ABANDONED))
        return true;
    if (refuses_callback && atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_DONE
        && call->reply.msg.kind == EP_KIND_CALLBACK) {
        struct ep_reply reply = call->reply;
        if (ep_call_move(call, EP_CALL_DONE, EP_CALL_ABANDONED)) {
            ep_reply_drop(lane, &reply);
            return true;
        }
    }
    atomic_fetch_sub_explicit(&lane->common.parked, 1, memory_order_relaxed);
    return false;
}

bool ep_interrupt_cancel(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                         bool refuses_callback)
{
    uint64_t id = ep_call_id(call);
    uint64_t number = 0;

    pthread_mutex_lock(&lane->outbox.lock);
    if (!give_up(lane, call, refuses_callback)) {
        pthread_mutex_unlock(&lane->outbox.lock);
        return false;
    }
    /* A doomed one, and one that never left, no worker knows. */
    if (call->end.kind != 0
        || (ep_call_place(call) == EP_PLACE_QUEUE && ep_outbox_remove(lane, call))) {
        if (ep_call_free_abandoned(lane, call))
            atomic_fetch_sub(&lane->common.parked, 1);
        pthread_mutex_unlock(&lane->outbox.lock);
        return true;
    }
    if (call->is_task) {
        ep_task_cancel(lane, call);
        pthread_mutex_unlock(&lane->outbox.lock);
        return true;
    }
    if (lane->host != NULL) {
        if (ep_call_is_in_ring(call))
            ep_call_mark_cancelled(lane, call, id);
        /* One that only waits in a ring is dropped by its mark; the one that the worker
         * takes next may have missed it. */
        struct ep_taken soon = ep_taken_of(lane);
        soon.call++;
        soon.urgent++;
        if (ep_call_has_started(call, &soon))
            number = ep_outbox_cancel(lane, id);
    }
    pthread_mutex_unlock(&lane->outbox.lock);

    /* It may run already: interrupt it, and let the context watch it. */
    interrupt_running(lane, id, number, number != 0);
    tell_owner(lane, caller_env, am_cancelled, id);
    ep_inbox_ensure(lane, caller_env);
    return true;
}

bool ep_interrupt(struct ep_lane *lane, uint64_t call_id)
{
    uint64_t number = 0;

    pthread_mutex_lock(&lane->outbox.lock);
    bool found = call_id != 0 && lane->host != NULL && ep_call_find(lane, call_id) != NULL;
    if (found)
        number = ep_outbox_cancel(lane, call_id);
    pthread_mutex_unlock(&lane->outbox.lock);
    if (found)
        interrupt_running(lane, call_id, number, true);
    return found;
}

void ep_interrupt_overdue(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id)
{
    if (ep_interrupt(lane, call_id))
        tell_owner(lane, caller_env, am_cancelled, call_id);
}

bool ep_interrupt_running(struct ep_lane *lane, ErlNifEnv *caller_env)
{
    uint64_t call_id = 0;

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->host != NULL)
        call_id = atomic_load_explicit(lane->shm.running, memory_order_acquire) & ~EP_RUNNING_FLAGS;
    pthread_mutex_unlock(&lane->outbox.lock);
    if (call_id == 0 || !ep_interrupt(lane, call_id))
        return false;
    tell_owner(lane, caller_env, am_interrupted, call_id);
    return true;
}

void ep_interrupt_import(struct ep_lane *lane, uint64_t call_id)
{
    struct ep_msg head = {.kind = EP_KIND_INTERRUPT, .flags = EP_FLAG_FORCED, .call_id = call_id};
    struct ep_host *host = ep_attach_keep_host(lane, &head.aux);

    if (host == NULL)
        return;
    pthread_mutex_lock(&host->lock);
    (void)ep_note_send(host, &head, NULL, 0);
    pthread_mutex_unlock(&host->lock);
    enif_release_resource(host);
}

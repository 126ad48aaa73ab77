/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_outbox_question.h"

#include "ep_calls.h"
#include "ep_lanes.h"

static bool call_is(const struct ep_call *call, enum ep_call_state state)
{
    return atomic_load_explicit(&call->state, memory_order_acquire) == state;
}

bool ep_outbox_begin_question(struct ep_lane *lane, struct ep_call *call, uint64_t number)
{
    pthread_mutex_lock(&lane->outbox.lock);
    if (call->end.kind != 0 && call_is(call, EP_CALL_BUSY)) {
        /* Doomed, as in ep_outbox_answer(). */
        call->reply = ep_call_end(call);
        (void)ep_call_move(call, EP_CALL_BUSY, EP_CALL_DONE);
    }
    /* Before the move: from then on the worker may end the call and the entry be another's. */
    call->asks = number;
    call->shares_cpu = false;
    bool is_busy = ep_call_move(call, EP_CALL_BUSY, EP_CALL_SPINNING);
    if (!is_busy)
        call->asks = 0;
    pthread_mutex_unlock(&lane->outbox.lock);
    return is_busy;
}

/* Under the producer lock. */
static struct ep_call *find_asking(struct ep_lane *lane, uint64_t call_id, uint64_t number)
{
    struct ep_call *call = lane->state == EP_LANE_ATTACHED ? ep_call_find(lane, call_id) : NULL;

    return call != NULL && call->asks == number && !call_is(call, EP_CALL_FREE) ? call : NULL;
}

bool ep_outbox_is_asking(struct ep_lane *lane, uint64_t call_id, uint64_t number)
{
    pthread_mutex_lock(&lane->outbox.lock);
    bool is = find_asking(lane, call_id, number) != NULL;
    pthread_mutex_unlock(&lane->outbox.lock);
    return is;
}

static int tell(struct ep_lane *lane, uint64_t call_id, const struct ep_msg *head,
                const struct ep_buf *payload, struct ep_stage *stage, struct ep_cargo **cargo)
{
    int rc = 0;

    pthread_mutex_lock(&lane->outbox.lock);
    struct ep_call *call = find_asking(lane, call_id, head->subject);
    if (call != NULL) {
        if (cargo != NULL && *cargo != NULL)
            ep_call_set_next_answer(call, *cargo);
        rc = ep_outbox_put_answer(lane, head, payload, stage);
        if (rc == 0) {
            call->asks = 0;
            if (cargo != NULL)
                *cargo = NULL;
            rc = 1;
        } else if (cargo != NULL && *cargo != NULL) {
            call->next_answer = NULL; /* the caller has it */
        }
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return rc;
}

int ep_outbox_tell(struct ep_lane *lane, uint64_t call_id, uint64_t number, enum ep_answer how,
                   const struct ep_buf *payload)
{
    struct ep_msg head = {
        .kind = EP_KIND_ANSWER, .aux = how, .call_id = call_id, .subject = number};

    return tell(lane, call_id, &head, payload, NULL, NULL);
}

int ep_outbox_tell_item(struct ep_lane *lane, uint64_t call_id, uint64_t number,
                        const struct ep_buf *payload, struct ep_stage *stage,
                        struct ep_cargo **cargo)
{
    struct ep_msg head = {
        .kind = EP_KIND_ANSWER, .aux = EP_ANSWER_VALUE, .call_id = call_id, .subject = number};

    if (*cargo != NULL)
        head.flags = EP_FLAG_ARRAYS;
    return tell(lane, call_id, &head, payload, stage, cargo);
}

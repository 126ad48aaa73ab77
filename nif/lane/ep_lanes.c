/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_lanes.h"

#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_inbox.h"
#include "ep_outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

ErlNifResourceType *ep_lane_type;

struct ep_lane *ep_lane_create(struct ep_vm *vm, const ErlNifPid *owner, uint32_t spin_min_ns,
                               uint32_t spin_max_ns, uint64_t max_result_bytes, uint16_t style)
{
    struct ep_lane *lane = enif_alloc_resource(ep_lane_type, sizeof(*lane));

    if (lane == NULL)
        return NULL;
    memset(lane, 0, sizeof(*lane));
    lane->vm = vm;
    lane->owner = *owner;
    lane->max_result_words = max_result_bytes / sizeof(ERL_NIF_TERM);
    lane->style = style;
    ep_queue_init(&lane->outbox.calls);
    ep_queue_init(&lane->outbox.urgent);
    atomic_init(&lane->common.next_env_id, 1);
    ep_idle_init(&lane->inbox.idle, spin_min_ns, spin_max_ns);
    pthread_mutex_init(&lane->outbox.lock, NULL);
    pthread_mutex_init(&lane->returns.lock, NULL);
    if (enif_monitor_process(NULL, lane, owner, &lane->owner_monitor) != 0) {
        lane->state = EP_LANE_CLOSED;
        lane->close_reason = am_noproc;
    }
    return lane;
}

void ep_lane_destroy(ErlNifEnv *env, void *object)
{
    struct ep_lane *lane = object;

    (void)env;
    if (lane->vm == NULL)
        return;
    /* Nobody holds a call any more, for each holds a reference to the lane. */
    ep_outbox_clear(lane);
    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (call->env != NULL)
            enif_free_env(call->env);
    }
    for (uint32_t i = 0; i < lane->table.n / EP_CALL_CHUNK; i++)
        enif_free(atomic_load(&lane->table.chunks[i]));
    if (lane->host != NULL)
        enif_release_resource(lane->host);
    ep_lane_vm_finish(&lane->shm);
    if (lane->reason_env != NULL)
        enif_free_env(lane->reason_env);
    if (lane->inbox.letter_env != NULL)
        enif_free_env(lane->inbox.letter_env);
    free(lane->outbox.drops);
    pthread_mutex_destroy(&lane->outbox.lock);
    pthread_mutex_destroy(&lane->returns.lock);
}

void ep_lane_set_unavailable(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason)
{
    struct ep_reply reply = {.msg = {.kind = EP_FAILED_UNAVAILABLE}};

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->state == EP_LANE_DETACHED || lane->state == EP_LANE_UNAVAILABLE) {
        if (lane->reason_env == NULL)
            lane->reason_env = enif_alloc_env();
        else
            enif_clear_env(lane->reason_env);
        lane->reason = enif_make_copy(lane->reason_env, reason);
        lane->state = EP_LANE_UNAVAILABLE;
        ep_inbox_enter(lane);
        ep_calls_fail(lane, caller_env, &reply, NULL);
        ep_inbox_exit(lane);
        ep_outbox_clear(lane);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_expire.h"

#include "ep_calls.h"
#include "ep_interrupt.h"
#include "ep_lanes.h"

/* Calls to interrupt, collected under locks that the interrupts must not be sent under. */
struct victims {
    struct victim {
        struct ep_lane *lane; /* kept */
        uint64_t call_id;
    } * items;
    size_t n, max;
};

static void add(struct victims *victims, struct ep_lane *lane, uint64_t call_id)
{
    if (victims->n == victims->max) {
        size_t max = victims->max == 0 ? 16 : 2 * victims->max;
        struct victim *items = enif_realloc(victims->items, max * sizeof(*items));
        if (items == NULL)
            return; /* it ends when its callback does */
        victims->items = items;
        victims->max = max;
    }
    enif_keep_resource(lane);
    victims->items[victims->n++] = (struct victim){.lane = lane, .call_id = call_id};
}

static bool is_busy(const struct ep_call *call)
{
    return atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_BUSY;
}

/* What pid made in or after the callback of the call with that serial number. */
static void add_nested(struct victims *victims, struct ep_lane *lane, const ErlNifPid *pid,
                       uint64_t serial)
{
    pthread_mutex_lock(&lane->outbox.lock);
    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (!is_busy(call) || call->serial <= serial || enif_compare_pids(&call->caller, pid) != 0)
            continue;
        atomic_store_explicit(&call->is_overdue, true, memory_order_relaxed);
        add(victims, lane, ep_call_id(call));
    }
    pthread_mutex_unlock(&lane->outbox.lock);
}

static bool mark(struct ep_lane *lane, uint64_t call_id, ErlNifPid *ret_pid, uint64_t *ret_serial)
{
    pthread_mutex_lock(&lane->outbox.lock);
    struct ep_call *call = ep_call_find(lane, call_id);
    bool found = call != NULL && is_busy(call);
    if (found) {
        *ret_pid = call->caller;
        *ret_serial = call->serial;
        atomic_store_explicit(&call->is_overdue, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return found;
}

void ep_expire(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id)
{
    struct victims victims = {.n = 0};
    struct ep_vm *vm = lane->vm;
    uint64_t serial = 0;
    ErlNifPid pid;

    if (!mark(lane, call_id, &pid, &serial))
        return;
    add(&victims, lane, call_id);
    pthread_mutex_lock(&vm->lock);
    for (struct ep_host *host = vm->hosts; host != NULL; host = host->next) {
        pthread_mutex_lock(&host->lock);
        for (uint32_t i = 1; i < host->n_lanes; i++)
            if (host->lanes[i] != NULL)
                add_nested(&victims, host->lanes[i], &pid, serial);
        pthread_mutex_unlock(&host->lock);
    }
    pthread_mutex_unlock(&vm->lock);

    for (size_t i = 0; i < victims.n; i++) {
        ep_interrupt_overdue(victims.items[i].lane, caller_env, victims.items[i].call_id);
        enif_release_resource(victims.items[i].lane);
    }
    enif_free(victims.items);
}

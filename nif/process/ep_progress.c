/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_progress.h"

#include "ep_calls.h"
#include "ep_inbox.h"
#include "ep_inquiry.h"
#include "ep_lanes.h"
#include "ep_note.h"
#include "ep_wake.h"

#include <time.h>

/* What may keep the GIL: a lane that starts or ends, and an inquiry. But not for longer. */
#define START_MAX_NS UINT64_C(20000000000)
#define END_MAX_NS UINT64_C(5000000000)
#define INQUIRY_MAX_NS UINT64_C(5000000000)

/* How often a lane is told to be looked at. */
#define NEGLECT_NS UINT64_C(1000000000)

/* Whether nothing lies above a call that has started. Under the producer lock, attached. */
static bool is_on_top(struct ep_lane *lane, const struct ep_call *call)
{
    if (ep_call_place(call) == EP_PLACE_THREAD)
        return true;
    uint64_t running = atomic_load_explicit(lane->shm.running, memory_order_acquire);
    uint64_t top = running & ~EP_RUNNING_FLAGS;

    /* A worker that has begun it, and says that it runs nothing, or what there is not, hides
     * it: true for a moment, while a request ends, and no excuse for longer. One that waits
     * for an answer has been told that none comes. */
    if (ep_call_find(lane, top) == NULL)
        return true;
    return top == ep_call_id(call)
           && ((running & EP_RUNNING_WAITS) == 0
               || atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_ABANDONED);
}

/* Whether a Python thread runs a request of the lane. Under the producer lock. */
static bool has_thread_call(struct ep_lane *lane)
{
    for (uint32_t i = 0; i < lane->table.n; i++) {
        const struct ep_call *call = ep_call_at(lane, i);
        switch (atomic_load_explicit(&call->state, memory_order_acquire)) {
        case EP_CALL_FREE:
        case EP_CALL_TAKEN:
        case EP_CALL_DONE:
        case EP_CALL_OVERTAKEN: break;
        default:
            if (ep_call_place(call) == EP_PLACE_THREAD && !call->is_task)
                return true;
        }
    }
    return false;
}

/* Whether the lane runs a call that is open and that it has taken: a worker may say what it
 * likes, and one that was stopped at that moment still names a call that has ended. Under the
 * producer lock, attached. */
static bool has_running_call(struct ep_lane *lane, const struct ep_taken *taken)
{
    uint64_t running = atomic_load_explicit(lane->shm.running, memory_order_acquire);
    const struct ep_call *call = ep_call_find(lane, running & ~EP_RUNNING_FLAGS);

    return running != 0 && call != NULL && ep_call_has_started(call, taken);
}

/* Whether the lane runs, starts or ends something. Adds what it has taken. Under host->lock. */
static bool is_at_work(struct ep_lane *lane, const struct ep_host *host, uint64_t now,
                       uint64_t *taken)
{
    bool is_busy = false;

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->host == host) {
        struct ep_taken rings = ep_taken_of(lane);
        *taken += rings.call + rings.urgent;
        /* The first message, START, is taken when the lane has started; the last one, STOP,
         * before it ends. */
        bool is_starting = rings.call == 0;
        bool is_ending = lane->state == EP_LANE_CLOSED && rings.call == lane->shm.call.tail;
        uint64_t age = now - lane->changed_ns;
        is_busy = has_running_call(lane, &rings) || has_thread_call(lane)
                  || (is_starting && age < START_MAX_NS) || (is_ending && age < END_MAX_NS);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return is_busy;
}

static uint64_t cpu_us_of(const struct ep_host *host)
{
    clockid_t clock;
    struct timespec used;

    if (clock_getcpuclockid((pid_t)atomic_load(&host->os_pid), &clock) != 0
        || clock_gettime(clock, &used) < 0)
        return 0; /* it has just ended */
    return (uint64_t)used.tv_sec * 1000000u + (uint64_t)used.tv_nsec / 1000u;
}

/* Whether nothing is at work that a request of the lane could wait for: a lane with a GIL of
 * its own waits for itself only. Under host->lock. */
static bool stands_still(const struct ep_lane *lane, bool has_own_gil, const struct ep_host *host,
                         struct ep_still *ret)
{
    uint64_t now = ep_clock_ns();
    struct ep_still still = {.cpu_us = cpu_us_of(host)};

    if (ep_inquiry_is_young(host, INQUIRY_MAX_NS))
        return false;
    for (uint32_t i = 1; i < host->n_lanes; i++) {
        struct ep_lane *other = host->lanes[i];
        if (other != NULL && (other == lane || !has_own_gil)
            && is_at_work(other, host, now, &still.taken))
            return false;
    }
    *ret = still;
    return true;
}

/* A message for an idle control thread: whether it takes that tells whether the process stands
 * still. It is about a call that never runs. Under host->lock. */
static void probe(struct ep_host *host, uint32_t index, uint64_t call_id)
{
    if (!ep_note_is_unread(host))
        ep_note_control(host, EP_KIND_INTERRUPT, index, call_id | EP_RUNNING_WAITS, 0);
}

/* Under the producer lock, attached. */
static bool is_importing(const struct ep_lane *lane, uint64_t call_id)
{
    return atomic_load_explicit(lane->shm.running, memory_order_acquire)
           == (call_id | EP_RUNNING_IMPORTS);
}

/* Whether the worker has not ended the call yet: what its caller has not collected, for it
 * runs a callback still, keeps nobody busy. Under the producer lock, attached. */
static bool is_open(struct ep_lane *lane, const struct ep_call *call)
{
    ep_inbox_enter(lane);
    bool open = ep_call_is_open(call);
    ep_inbox_leave_armed(lane);
    /* Nobody was told of what came meanwhile. */
    ep_wake_for_round(lane->host);
    return open;
}

enum ep_progress ep_progress_of(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id,
                                struct ep_still *ret_still)
{
    enum ep_progress progress = EP_PROGRESS_ENDED;
    bool is_untaken = false;

    /* No bell tells of the end of a call whose caller does not wait. */
    ep_inbox_ensure(lane, caller_env);
    pthread_mutex_lock(&lane->outbox.lock);
    struct ep_call *call = ep_call_find(lane, call_id);
    if (call != NULL && lane->host != NULL && is_open(lane, call)) {
        /* One that only waits in a ring is dropped when its turn comes, and harms
         * nobody; one that lies below another request cannot go on before that. */
        struct ep_taken taken = ep_taken_of(lane);
        is_untaken = !ep_call_has_started(call, &taken);
        if (is_untaken || !is_on_top(lane, call))
            progress = EP_PROGRESS_WAITS;
        else
            progress = is_importing(lane, call_id) ? EP_PROGRESS_IMPORTS : EP_PROGRESS_RUNS;
    }
    bool may_stand = progress == EP_PROGRESS_WAITS || progress == EP_PROGRESS_IMPORTS;
    struct ep_host *host = may_stand ? lane->host : NULL;
    uint32_t index = lane->index;
    bool has_own_gil = lane->has_own_gil;
    if (host != NULL)
        enif_keep_resource(host);
    pthread_mutex_unlock(&lane->outbox.lock);
    if (host == NULL)
        return progress;
    pthread_mutex_lock(&host->lock);
    if (ep_note_is_stopped(host))
        progress = EP_PROGRESS_STOPPED;
    else if (is_untaken && stands_still(lane, has_own_gil, host, ret_still))
        progress = EP_PROGRESS_STILL;
    probe(host, index, call_id);
    pthread_mutex_unlock(&host->lock);
    enif_release_resource(host);
    return progress;
}

bool ep_progress_is_neglected(struct ep_lane *lane, const struct ep_call *call)
{
    uint64_t now = ep_clock_ns();

    if (lane->host == NULL || now - lane->inbox.neglect_told_ns < NEGLECT_NS)
        return false;
    struct ep_taken taken = ep_taken_of(lane);
    if (!ep_call_is_in_ring(call) || ep_call_has_started(call, &taken))
        return false;
    lane->inbox.neglect_told_ns = now;
    return true;
}

bool ep_progress_is_idle(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    bool is_idle =
        lane->host == NULL || atomic_load_explicit(lane->shm.running, memory_order_acquire) == 0;
    pthread_mutex_unlock(&lane->outbox.lock);
    return is_idle;
}

bool ep_progress_is_importing(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    bool imports =
        lane->host != NULL
        && (atomic_load_explicit(lane->shm.running, memory_order_acquire) & EP_RUNNING_FLAGS)
               == EP_RUNNING_IMPORTS;
    pthread_mutex_unlock(&lane->outbox.lock);
    return imports;
}

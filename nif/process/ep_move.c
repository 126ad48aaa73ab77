/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_move.h"

#include "ep_attach.h"
#include "ep_calls.h"
#include "ep_inbox.h"
#include "ep_lanes.h"
#include "ep_outbox.h"

#include <errno.h>

/*
 * Why nothing is lost. Under the producer and the consumer lock of both lanes, the lane has no
 * call that its process knows of and no message unread, and the understudy neither. So nothing
 * that is under way names a ring, and to exchange the rings changes no call. Blocks of the
 * former process that callers still read are kept by their own references, as when a process
 * dies: what gives one back finds that the lane's process is another one.
 */

struct pair {
    struct ep_lane *lane, *understudy;
    struct ep_host *from, *to; /* kept; from: NULL where the lane has none */
};

/* Two locks of one rank: in the order of the ids of their hosts. */
static void lock_hosts(const struct pair *pair)
{
    struct ep_host *first = pair->to, *second = pair->from;

    if (second != NULL && second->id < first->id) {
        first = pair->from;
        second = pair->to;
    }
    pthread_mutex_lock(&first->lock);
    if (second != NULL)
        pthread_mutex_lock(&second->lock);
}

static void unlock_hosts(const struct pair *pair)
{
    if (pair->from != NULL)
        pthread_mutex_unlock(&pair->from->lock);
    pthread_mutex_unlock(&pair->to->lock);
}

/* Whether no worker process has anything to do for a call, and no reply is unread. Under both
 * locks. */
static bool is_drained(struct ep_lane *lane)
{
    const struct ep_cell *cell;

    if (lane->inbox.notices > 0 || lane->outbox.urgent.first != NULL)
        return false;
    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        bool is_doomed = call->end.kind != 0; /* its process is gone */
        if (ep_call_is_open(call) && !is_doomed && ep_call_place(call) != EP_PLACE_QUEUE)
            return false;
    }
    return lane->host == NULL || ep_ring_peek(&lane->shm.response, &cell) == -EAGAIN;
}

static int judge(struct pair *pair)
{
    struct ep_lane *lane = pair->lane, *understudy = pair->understudy;

    if (lane->state == EP_LANE_CLOSED)
        return -ESTALE;
    if (understudy->state != EP_LANE_ATTACHED || understudy->host != pair->to || pair->to->dead)
        return -ESRCH;
    /* The lane has lost its process, or is about to be taken from it. */
    if (lane->host != pair->from || (pair->from != NULL && pair->from->dead))
        return -EAGAIN;
    if (lane->state != EP_LANE_DETACHED && lane->state != EP_LANE_ATTACHED)
        return -EAGAIN; /* unavailable: it is to be attached in the usual way */
    if (lane->state == EP_LANE_ATTACHED) {
        int rc = ep_outbox_hold(lane);
        if (rc < 0)
            return rc;
        if (!ep_outbox_is_held(lane))
            return -EAGAIN;
    }
    return 0;
}

#define EXCHANGE(type, a, b)                                                                       \
    do {                                                                                           \
        type before = (a);                                                                         \
        (a) = (b);                                                                                 \
        (b) = before;                                                                              \
    } while (0)

/* Under all locks of both. */
static void exchange(struct pair *pair)
{
    struct ep_lane *lane = pair->lane, *understudy = pair->understudy;

    pair->to->lanes[understudy->index] = lane;
    if (pair->from != NULL)
        pair->from->lanes[lane->index] = understudy;
    else
        enif_keep_resource(lane); /* for the list; the understudy's reference is released below */
    EXCHANGE(struct ep_lane_vm, lane->shm, understudy->shm);
    EXCHANGE(struct ep_host *, lane->host, understudy->host);
    EXCHANGE(struct ep_bell_tx, lane->returns.bell, understudy->returns.bell);
    EXCHANGE(uint32_t, lane->index, understudy->index);
    EXCHANGE(enum ep_lane_state, lane->state, understudy->state);
    EXCHANGE(uint64_t, lane->inbox.published, understudy->inbox.published);
    lane->has_own_gil = understudy->has_own_gil;
    lane->changed_ns = ep_clock_ns();
    lane->outbox.n_drops = 0; /* the new process knows none of these namespaces */
    lane->inbox.unread_since_ns = 0;
    /* Numbers are claimed in order: those of the lane go on above the understudy's. */
    if (lane->outbox.interrupts < understudy->outbox.interrupts)
        lane->outbox.interrupts = understudy->outbox.interrupts;
    ep_outbox_release(lane);
}

/* Both bells are armed: the process that the understudy has is asked to end, and says so. */
static void leave(ErlNifEnv *caller_env, struct pair *pair)
{
    struct ep_lane *understudy = pair->understudy;

    if (understudy->host != NULL) {
        ep_inbox_leave_armed(understudy);
    } else {
        atomic_store(&understudy->common.armed, 0);
        ep_inbox_exit(understudy);
    }
    ep_bell_rearm(&pair->lane->shm.response_bell);
    atomic_store(&pair->lane->common.armed, 1);
    pthread_mutex_unlock(&understudy->outbox.lock);
    pthread_mutex_unlock(&pair->lane->outbox.lock);
    unlock_hosts(pair);
    ep_inbox_leave(pair->lane, caller_env);
    ep_outbox_flush(pair->lane);
    if (pair->from == NULL)
        enif_release_resource(understudy); /* of the list of the new host */
}

static int move(ErlNifEnv *caller_env, struct pair *pair)
{
    struct ep_lane *lane = pair->lane, *understudy = pair->understudy;

    lock_hosts(pair);
    pthread_mutex_lock(&lane->outbox.lock);
    pthread_mutex_lock(&understudy->outbox.lock);
    int rc = judge(pair);
    bool has_lane = rc == 0 && ep_inbox_try(lane);
    bool has_understudy = has_lane && ep_inbox_try(understudy);
    if (rc == 0 && !has_understudy)
        rc = -EAGAIN;
    if (rc == 0) {
        (void)ep_inbox_drain(understudy, caller_env, NULL, NULL);
        if (!is_drained(lane) || !is_drained(understudy) || understudy->outbox.calls.first != NULL)
            rc = -EAGAIN;
    }
    if (rc == 0) {
        pthread_mutex_lock(&lane->returns.lock);
        pthread_mutex_lock(&understudy->returns.lock);
        exchange(pair);
        pthread_mutex_unlock(&understudy->returns.lock);
        pthread_mutex_unlock(&lane->returns.lock);
        leave(caller_env, pair);
        return 0;
    }
    pthread_mutex_unlock(&understudy->outbox.lock);
    pthread_mutex_unlock(&lane->outbox.lock);
    unlock_hosts(pair);
    /* These take what is there: what the next try waits for. */
    if (has_understudy)
        ep_inbox_leave(understudy, caller_env);
    if (has_lane) {
        (void)ep_inbox_drain(lane, caller_env, NULL, NULL);
        ep_inbox_leave(lane, caller_env);
    }
    return rc;
}

int ep_move(ErlNifEnv *caller_env, struct ep_lane *lane, struct ep_lane *understudy)
{
    struct pair pair = {lane, understudy, ep_attach_keep_host(lane, NULL),
                        ep_attach_keep_host(understudy, NULL)};
    int rc = -ESRCH;

    if (pair.to != NULL && pair.to != pair.from && lane != understudy)
        rc = move(caller_env, &pair);
    if (pair.from != NULL)
        enif_release_resource(pair.from);
    if (pair.to != NULL)
        enif_release_resource(pair.to);
    return rc;
}

void ep_move_give_up(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    ep_outbox_release(lane);
    pthread_mutex_unlock(&lane->outbox.lock);
    ep_outbox_flush(lane);
}

uint64_t ep_move_requests(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    /* The first message is START. */
    uint64_t n = lane->host == NULL || lane->shm.call.tail == 0 ? 0 : lane->shm.call.tail - 1;
    pthread_mutex_unlock(&lane->outbox.lock);
    return n;
}

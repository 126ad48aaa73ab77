/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_attach.h"

#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_exit.h"
#include "ep_inbox.h"
#include "ep_lanes.h"
#include "ep_note.h"
#include "ep_outbox.h"
#include "ep_peer.h"
#include "ep_queue.h"
#include "ep_task.h"
#include "ep_wake.h"

#include <errno.h>
#include <string.h>

/* 0 or a negative errno. Under the producer lock, attached. */
static int put_payload(struct ep_lane *lane, struct ep_cell *cell, const struct ep_buf *payload)
{
    struct ep_lane_vm *shm = &lane->shm;
    uint64_t block;

    cell->length = (uint32_t)payload->length;
    if (payload->length <= EP_INLINE_MAX) {
        if (payload->length > 0)
            memcpy(cell->data, payload->data, payload->length);
        return 0;
    }
    int rc = ep_slab_alloc(&shm->slab, payload->length, &block);
    if (rc < 0)
        return rc;
    memcpy(shm->slab_mem + block, payload->data, payload->length);
    ep_cell_set_block(cell, block);
    return 0;
}

/* Returns whether there was room. Under the producer lock, attached. */
static bool send_plain(struct ep_lane *lane, enum ep_kind kind, uint32_t aux,
                       const struct ep_buf *payload)
{
    struct ep_cell *cell;

    if (ep_ring_reserve(&lane->shm.call, &cell) < 0)
        return false;
    /* What threads send while no request runs is in the style of the lane. */
    unsigned flags = kind == EP_KIND_START ? lane->style & EP_FLAG_NONE_MASK : 0;
    ep_cell_begin(cell, kind, (uint8_t)flags, (uint8_t)aux, 0, 0);
    if (payload != NULL && put_payload(lane, cell, payload) < 0)
        return false;
    (void)ep_ring_commit(&lane->shm.call);
    if (ep_bell_must_ring(&lane->shm.park))
        ep_futex_wake(lane->shm.futex);
    return true;
}

/* Under the producer lock. */
static void attach_shared(struct ep_lane *lane, struct ep_host *host, uint32_t index)
{
    ep_inbox_enter(lane);
    pthread_mutex_lock(&lane->returns.lock);
    ep_lane_vm_attach(&lane->shm, host->a.mem, host->b.mem, host->c.mem, host->n_lanes, index);
    enif_keep_resource(host);
    ep_bell_tx_attach(&lane->returns.bell, lane->shm.space.word);
    lane->host = host;
    pthread_mutex_unlock(&lane->returns.lock);
    lane->inbox.published = 0;
    lane->index = index;
    lane->outbox.n_drops = 0;
    lane->inbox.notices = 1; /* STARTED will come */
    atomic_fetch_add(&lane->common.parked, 1);
    ep_bell_arm(&lane->shm.response_bell);
    atomic_store(&lane->common.armed, 1);
    ep_inbox_exit(lane);
}

int ep_attach_lane(struct ep_lane *lane, struct ep_host *host, uint32_t index, enum ep_mode mode,
                   const struct ep_buf *prologue)
{
    int rc = 0;

    if (index == 0 || index >= host->n_lanes)
        return -EINVAL;
    pthread_mutex_lock(&host->lock);
    pthread_mutex_lock(&lane->outbox.lock);
    if (host->dead)
        rc = -ESRCH;
    else if (lane->state == EP_LANE_CLOSED)
        rc = -ESTALE;
    else if (lane->state == EP_LANE_ATTACHED || host->lanes[index] != NULL)
        rc = -EBUSY;
    if (rc == 0) {
        host->lanes[index] = lane;
        enif_keep_resource(lane);
        attach_shared(lane, host, index);
        ep_outbox_release(lane);
        lane->state = EP_LANE_ATTACHED;
        lane->attachments++;
        lane->has_own_gil = mode == EP_MODE_OWNGIL;
        lane->changed_ns = ep_clock_ns();
        ep_note_control(host, EP_KIND_LANE_OPEN, index, 0, 0);
        /* The ring is new; without memory for a long prologue the process is of no use. */
        if (!send_plain(lane, EP_KIND_START, mode, prologue))
            (void)ep_peer_kill(host, EP_KILL_ASKED);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    pthread_mutex_unlock(&host->lock);
    if (rc == 0)
        ep_outbox_flush(lane);
    return rc;
}

/* A call to interrupt on both ways, see service/worker/ep_worker_callback.c. */
struct interrupt {
    uint64_t call_id;
    uint64_t number;
};

/* Keeps the worker from starting what waits in the rings, and interrupts what it has
 * started. Returns what the control thread has to be told, at most max; what else is
 * there waits for an answer and gets its CANCEL. Under the producer and the consumer
 * lock, attached. */
static unsigned cancel_calls(struct ep_lane *lane, struct interrupt *interrupts, unsigned max)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (ep_call_is_open(call) && ep_call_is_in_ring(call))
            ep_call_mark_cancelled(lane, call, ep_call_id(call));
    }
    struct ep_taken taken = ep_taken_of(lane);
    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        /* The one that the worker takes next may have missed its mark. */
        struct ep_taken soon = {taken.call + 1, taken.urgent + 1};
        /* A loop cancels its tasks when it sees the lane end. */
        if (!ep_call_is_open(call) || call->is_task || !ep_call_has_started(call, &soon))
            continue;
        uint64_t id = ep_call_id(call);
        uint64_t number = ep_outbox_cancel(lane, id);
        if (n < max)
            interrupts[n++] = (struct interrupt){.call_id = id, .number = number};
    }
    return n;
}

/* How many replies may still come to the calls of a lane that ends. Under both locks. */
static void count_late(struct ep_lane *lane, uint32_t *late, uint32_t *thread_late)
{
    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (!ep_call_is_open(call))
            continue;
        *late += ep_call_is_in_ring(call);
        bool has_thread = ep_call_place(call) == EP_PLACE_THREAD;
        *thread_late += has_thread;
        if (has_thread && call->is_task)
            ep_task_ended(lane->host);
    }
}

struct ep_host *ep_attach_keep_host(struct ep_lane *lane, uint32_t *ret_index)
{
    pthread_mutex_lock(&lane->outbox.lock);
    struct ep_host *host = lane->host;
    if (ret_index != NULL)
        *ret_index = lane->index;
    if (host != NULL)
        enif_keep_resource(host);
    pthread_mutex_unlock(&lane->outbox.lock);
    return host;
}

void ep_attach_close(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason)
{
    struct ep_reply reply = {.msg = {.kind = EP_FAILED_CONTEXT}};
    struct ep_host *host = NULL;
    struct interrupt interrupts[EP_URGENT_CELLS];
    uint32_t thread_late = 0;
    unsigned n = 0;

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->state != EP_LANE_CLOSED) {
        if (lane->state == EP_LANE_ATTACHED) {
            host = lane->host;
            enif_keep_resource(host);
        }
        lane->close_reason = reason;
        ep_inbox_enter(lane);
        lane->inbox.closed = true; /* before STOP, which is answered */
        if (host != NULL) {
            n = cancel_calls(lane, interrupts, EP_URGENT_CELLS);
            count_late(lane, &lane->inbox.late, &thread_late);
            /* Before STOP, and before the calls fail. Relaxed: the inbox orders it. */
            atomic_fetch_add_explicit(&host->thread_late, thread_late, memory_order_relaxed);
            lane->outbox.owes_stop = !send_plain(lane, EP_KIND_STOP, 0, NULL);
            lane->inbox.notices++; /* STOPPED will come */
            atomic_fetch_add(&lane->common.parked, 1);
        }
        lane->state = EP_LANE_CLOSED;
        lane->changed_ns = ep_clock_ns();
        ep_calls_fail(lane, caller_env, &reply, NULL);
        if (host != NULL)
            ep_inbox_leave_armed(lane);
        else
            ep_inbox_exit(lane);
        ep_outbox_clear(lane);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    if (host == NULL)
        return;

    /* The reaper takes what still comes until STOPPED, so that the worker finds room for
     * it; the number is not used again in this process. */
    pthread_mutex_lock(&host->lock);
    for (unsigned i = 0; i < n; i++)
        ep_note_control(host, EP_KIND_INTERRUPT, lane->index, interrupts[i].call_id,
                        interrupts[i].number);
    pthread_mutex_unlock(&host->lock);
    ep_wake_for_round(host);
    enif_release_resource(host);
}

void ep_attach_send_stop(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->outbox.owes_stop && lane->host != NULL)
        lane->outbox.owes_stop = !send_plain(lane, EP_KIND_STOP, 0, NULL);
    pthread_mutex_unlock(&lane->outbox.lock);
}

/* Moves what the worker had not taken of a ring to the front of the queue, in order.
 * Under both locks; cells of A and blocks of C are ours, so they outlive the worker. */
static void requeue(struct ep_lane *lane, const struct ep_ring_tx *ring, uint64_t taken,
                    struct ep_queue *queue)
{
    struct ep_queue untaken;

    ep_queue_init(&untaken);
    for (uint64_t at = taken; at != ring->tail; at++) {
        const struct ep_cell *cell = &ring->cells[at & ring->mask];
        struct ep_call *call = ep_call_find(lane, cell->call_id);
        bool is_request = cell->kind <= EP_KIND_EXEC;
        if (!is_request || call == NULL || !ep_call_is_open(call) || ep_cell_is_cancelled(cell))
            continue;
        bool in_block = (cell->flags & EP_FLAG_BLOCK) != 0;
        struct ep_msg head = {.aux = cell->aux,
                              .call_id = cell->call_id,
                              .subject = cell->subject,
                              .stamp = cell->stamp,
                              .kind = cell->kind,
                              .flags = cell->flags & (uint8_t)~EP_FLAG_BLOCK};
        struct ep_queued *queued = ep_queue_message(
            call, &head, in_block ? lane->shm.slab_mem + cell->block : cell->data, cell->length);
        if (queued == NULL)
            continue; /* it fails with the rest */
        ep_call_put(call, EP_PLACE_QUEUE, 0);
        ep_queue_put(&untaken, queued);
        atomic_fetch_add(&lane->common.n_queued, 1);
    }
    if (untaken.first == NULL)
        return; /* last points to a local variable */
    *untaken.last = queue->first;
    if (queue->first == NULL)
        queue->last = untaken.last;
    queue->first = untaken.first;
}

/* Fails the calls that were in a ring and are not in a queue. */
static void fail_taken(struct ep_lane *lane, struct ep_reply *reply)
{
    reply->msg.aux = 1;
    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (!ep_call_is_open(call) || ep_call_place(call) == EP_PLACE_QUEUE)
            continue;
        atomic_fetch_add_explicit(&lane->stats.interrupted, 1, memory_order_relaxed);
        ep_call_fail(lane, NULL, call, reply);
    }
}

/* Takes all that a dead worker had published: no more than its ring holds, in batches that
 * long SENDs make shorter. */
static void drain_dead(struct ep_lane *lane)
{
    uint64_t end = lane->shm.response.head + EP_RESPONSE_CELLS, last;

    do {
        last = lane->shm.response.head;
        (void)ep_inbox_drain(lane, NULL, NULL, NULL);
    } while (lane->shm.response.head != last && lane->shm.response.head < end);
}

static void detach(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->returns.lock);
    lane->host = NULL;
    ep_lane_vm_finish(&lane->shm);
    pthread_mutex_unlock(&lane->returns.lock);
    lane->outbox.n_drops = 0;
    atomic_store(&lane->common.armed, 0);
    atomic_fetch_sub(&lane->common.parked, lane->inbox.notices);
    lane->inbox.notices = 0;
}

void ep_attach_host_died(struct ep_lane *lane, struct ep_host *host, int64_t exit_value)
{
    struct ep_reply reply = {.msg = {.kind = EP_FAILED_DIED}};

    reply.msg.subject = (uint64_t)atomic_load(&host->os_pid);
    reply.msg.block = (uint64_t)exit_value;

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->host != host) {
        pthread_mutex_unlock(&lane->outbox.lock);
        return;
    }
    ep_inbox_enter(lane);
    /* First what was published: those calls did end. */
    drain_dead(lane);
    struct ep_taken taken = ep_taken_of(lane);
    if (exit_value == EP_EXIT_VALUE_KILL_AFTER && lane->state == EP_LANE_ATTACHED) {
        ep_outbox_clear_queue(lane, &lane->outbox.urgent,
                              true); /* answers and cancels for the dead */
        requeue(lane, &lane->shm.call, taken.call, &lane->outbox.calls);
        requeue(lane, &lane->shm.urgent, taken.urgent, &lane->outbox.urgent);
        fail_taken(lane, &reply);
    } else {
        ep_calls_fail(lane, NULL, &reply, &taken);
        ep_outbox_clear(lane);
    }
    detach(lane);
    if (lane->state == EP_LANE_ATTACHED)
        lane->state = EP_LANE_DETACHED;
    ep_inbox_exit(lane);
    pthread_mutex_unlock(&lane->outbox.lock);
    enif_release_resource(host);
}

void ep_attach_owner_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)pid;
    (void)monitor;
    ep_attach_close(object, env, am_killed);
}

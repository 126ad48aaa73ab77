/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_submit.h"

#include "ep_calls.h"
#include "ep_consume.h"
#include "ep_shrink.h"
#include "ep_stats.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Namespaces that are dropped in one message, and how many are worth waking an idle
 * worker for. */
#define DROPS_MAX 65536u
#define DROPS_KICK 64u

/* How long a caller looks, in wake-ups, for the worker may have to be woken: that costs the
 * caller about as much as it takes, and as much again if it falls asleep before the answer. */
#define WAKES_OF_A_WORKER 4u

/* Whether fewer than that many messages wait in the ring. Looks at the line of the
 * worker's head only if that can change the answer. */
static bool has_fewer(struct ep_ring_tx *ring, uint64_t most)
{
    if (ring->tail - ring->head_seen >= most)
        ring->head_seen = ep_ring_taken(ring);
    return ring->tail - ring->head_seen < most;
}

/* Whether the urgent ring may take one more of that kind: there is always room for
 * what a waiting lane needs to go on. */
static bool has_urgent_room(struct ep_ring_tx *ring, uint16_t kind)
{
    switch (kind) {
    case EP_KIND_ANSWER:
    case EP_KIND_CANCEL: return true;
    case EP_KIND_ENV_DROP: return has_fewer(ring, EP_URGENT_SLOTS / 4);
    default: return has_fewer(ring, EP_URGENT_SLOTS / 2); /* requests */
    }
}

/* Puts the payload into the slot, or into a block. Under the producer lock. */
static int place_payload(struct ep_lane *lane, struct ep_slot *slot, const uint8_t *bytes,
                         size_t length, struct ep_stage *stage)
{
    struct ep_lane_vm *shm = &lane->shm;
    uint64_t block = 0;

    slot->length = (uint32_t)length;
    if (length <= EP_INLINE_MAX) {
        ep_copy(slot->data, bytes, length);
        return 0;
    }
    if (!ep_stage_send(stage, bytes, &block)) {
        if (ep_reclaim_collect(&shm->reclaim_rx, &shm->slab) < 0)
            return -EPROTO;
        int rc = ep_slab_alloc(&shm->slab, length, &block);
        if (rc < 0)
            return rc;
        ep_shrink_note(lane->vm, &shm->slab);
        memcpy(shm->slab_mem + block, bytes, length);
    }
    ep_slot_set_block(slot, block);
    return 0;
}

/* Publishes one message. Under the producer lock, attached.
 * -EAGAIN: no slot or no block free at the moment. */
static int publish(struct ep_lane *lane, bool urgent, struct ep_call *call,
                   const struct ep_msg *head, const uint8_t *bytes, size_t length,
                   struct ep_stage *stage)
{
    struct ep_ring_tx *ring = urgent ? &lane->shm.urgent : &lane->shm.call;
    struct ep_slot *slot;

    if (urgent && !has_urgent_room(ring, head->kind))
        return -EAGAIN;
    int rc = ep_ring_reserve(ring, &slot);
    if (rc < 0)
        return rc;
    ep_slot_begin(slot, (enum ep_kind)head->kind, (uint8_t)head->flags, (uint8_t)head->aux,
                  head->call_id, head->subject);
    if ((head->flags & EP_FLAG_TIMED) != 0)
        slot->stamp = head->stamp;
    rc = place_payload(lane, slot, bytes, length, stage);
    if (rc < 0)
        return rc;
    uint64_t position = ep_ring_commit(ring);
    if (call != NULL) {
        call->place = urgent ? EP_PLACE_URGENT : EP_PLACE_CALL;
        call->position = position;
    }
    return 0;
}

void ep_queue_init(struct ep_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

static int enqueue(struct ep_lane *lane, bool urgent, struct ep_call *call,
                   const struct ep_msg *head, const uint8_t *bytes, size_t length)
{
    struct ep_queue *queue = urgent ? &lane->urgent : &lane->calls;
    struct ep_queued *queued = malloc(sizeof(*queued) + length);

    if (queued == NULL)
        return -ENOMEM;
    queued->next = NULL;
    queued->call = call;
    memcpy(&queued->head, head, offsetof(struct ep_msg, data));
    queued->length = length;
    if (length > 0)
        memcpy(queued->bytes, bytes, length);
    if (call != NULL)
        call->place = EP_PLACE_QUEUE;
    *queue->last = queued;
    queue->last = &queued->next;
    atomic_fetch_add_explicit(&lane->n_queued, 1, memory_order_relaxed);
    return 0;
}

/* Tells of all namespaces that are no longer needed, in one message. */
static void send_drops(struct ep_lane *lane)
{
    struct ep_msg head = {.kind = EP_KIND_ENV_DROP};
    size_t n = lane->n_drops < DROPS_MAX ? lane->n_drops : DROPS_MAX;
    const uint64_t *last = lane->drops + lane->n_drops - n;

    if (publish(lane, true, NULL, &head, (const uint8_t *)last, n * sizeof(*last), NULL) == 0)
        lane->n_drops -= n;
}

/* Wakes the worker if it sleeps. Returns whether it did. */
static bool kick(struct ep_lane *lane)
{
    if (!ep_bell_must_ring(&lane->shm.park))
        return false;
    /* Relaxed: a guess comes of it. Not trusted: the budget has limits. */
    ep_spin_learn(&lane->spin, (uint64_t)WAKES_OF_A_WORKER
                                   * atomic_load_explicit(lane->shm.wake_ns, memory_order_relaxed));
    atomic_store_explicit(lane->shm.kicked_ns, ep_clock_ns(), memory_order_relaxed);
    ep_futex_wake(lane->shm.futex);
    atomic_fetch_add_explicit(&lane->vm->kicks, 1, memory_order_relaxed);
    return true;
}

static void flush(struct ep_lane *lane, bool urgent)
{
    struct ep_queue *queue = urgent ? &lane->urgent : &lane->calls;

    while (queue->first != NULL) {
        struct ep_queued *queued = queue->first;
        if (publish(lane, urgent, queued->call, &queued->head, queued->bytes, queued->length, NULL)
            < 0)
            break;
        queue->first = queued->next;
        if (queue->first == NULL)
            queue->last = &queue->first;
        atomic_fetch_sub_explicit(&lane->n_queued, 1, memory_order_relaxed);
        free(queued);
    }
}

void ep_lane_flush(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->producer);
    if (lane->state == EP_LANE_ATTACHED) {
        flush(lane, true);
        flush(lane, false);
        kick(lane);
    }
    pthread_mutex_unlock(&lane->producer);
}

static bool remove_from(struct ep_queue *queue, const struct ep_call *call)
{
    for (struct ep_queued **at = &queue->first; *at != NULL; at = &(*at)->next) {
        struct ep_queued *queued = *at;
        if (queued->call != call)
            continue;
        *at = queued->next;
        if (*at == NULL)
            queue->last = at;
        free(queued);
        return true;
    }
    return false;
}

bool ep_queue_remove(struct ep_lane *lane, struct ep_call *call)
{
    if (!remove_from(&lane->calls, call) && !remove_from(&lane->urgent, call))
        return false;
    atomic_fetch_sub_explicit(&lane->n_queued, 1, memory_order_relaxed);
    return true;
}

/* Sends on the urgent ring, or queues. Under the producer lock, attached. */
static int send_urgent(struct ep_lane *lane, struct ep_call *call, const struct ep_msg *head,
                       const uint8_t *bytes, size_t length, bool *ret_kicked)
{
    /* An answer overtakes what waits: the lane cannot go on without it. */
    int rc = lane->urgent.first == NULL || head->kind == EP_KIND_ANSWER
                 ? publish(lane, true, call, head, bytes, length, NULL)
                 : -EAGAIN;
    if (rc == -EAGAIN)
        rc = enqueue(lane, true, call, head, bytes, length);
    *ret_kicked = rc == 0 && kick(lane);
    return rc;
}

uint64_t ep_lane_send_cancel(struct ep_lane *lane, uint64_t call_id)
{
    struct ep_msg head = {.kind = EP_KIND_CANCEL, .call_id = call_id};
    bool kicked;

    head.subject = ++lane->interrupts;
    if (lane->state == EP_LANE_ATTACHED)
        (void)send_urgent(lane, NULL, &head, NULL, 0, &kicked);
    return head.subject;
}

bool ep_lane_shares_cpu(const struct ep_lane *lane)
{
    /* Relaxed: a hint. */
    uint32_t cpu = atomic_load_explicit(lane->shm.cpu, memory_order_relaxed);

    return cpu != 0 && cpu == ep_cpu_here();
}

int ep_submit_answer(struct ep_lane *lane, struct ep_call *call, uint64_t number,
                     enum ep_answer how, const struct ep_buf *payload)
{
    struct ep_msg head = {.kind = EP_KIND_ANSWER, .aux = how, .subject = number};
    int rc = 0;

    head.call_id = ep_call_id(call);
    pthread_mutex_lock(&lane->producer);
    /* No longer BUSY: it has ended without the answer. */
    bool is_busy = ep_call_move(call, EP_CALL_BUSY, EP_CALL_SPINNING);
    if (is_busy)
        call->shares_cpu = false;
    if (is_busy && lane->state == EP_LANE_ATTACHED) {
        bool kicked;
        rc = send_urgent(lane, NULL, &head, payload->data, payload->length, &kicked);
        call->shares_cpu = rc == 0 && !kicked && ep_lane_shares_cpu(lane);
    }
    pthread_mutex_unlock(&lane->producer);
    return rc < 0 ? rc : is_busy;
}

void ep_lane_refuse(struct ep_lane *lane)
{
    uint64_t id = atomic_exchange(&lane->refused, 0);

    if (id == 0)
        return;
    pthread_mutex_lock(&lane->producer);
    (void)ep_lane_send_cancel(lane, id);
    pthread_mutex_unlock(&lane->producer);
}

void ep_call_begin(struct ep_lane *lane, struct ep_call *call, ErlNifEnv *env,
                   const struct ep_request *request)
{
    call->op = request->op;
    call->bytes = (uint32_t)request->payload->length;
    call->is_timed = call->shares_cpu = false;
    call->serial =
        request->urgent
            ? atomic_fetch_add_explicit(&lane->vm->nested_serial, 1, memory_order_relaxed) + 1
            : 0;
    atomic_store_explicit(&call->is_overdue, false, memory_order_relaxed);
    (void)enif_self(env, &call->caller);
}

static int submit_locked(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
                         struct ep_call **ret_call)
{
    const struct ep_buf *payload = request->payload;

    if (lane->state == EP_LANE_CLOSED)
        return -ESTALE;
    if (lane->state == EP_LANE_UNAVAILABLE)
        return -EHOSTDOWN;
    struct ep_call *call = ep_call_alloc(lane);
    if (call == NULL)
        return -ENOBUFS;
    ep_call_begin(lane, call, env, request);
    call->is_timed = ep_stats_is_sampled(request->urgent ? &lane->shm.urgent : &lane->shm.call);

    struct ep_msg head;
    head.aux = 0;
    head.call_id = ep_call_id(call);
    head.subject = request->env_id;
    head.kind = request->kind;
    head.flags = request->flags;
    head.stamp = 0;
    if (lane->shares_cpu)
        head.flags |= EP_FLAG_SHARES;
    if (call->is_timed) {
        head.flags |= EP_FLAG_TIMED;
        head.stamp = call->sent_ns = ep_clock_ns();
    }

    int rc = -EAGAIN;
    struct ep_queue *queue = request->urgent ? &lane->urgent : &lane->calls;
    if (lane->state == EP_LANE_ATTACHED) {
        if (lane->n_drops > 0)
            send_drops(lane);
        if (queue->first == NULL)
            rc = publish(lane, request->urgent, call, &head, payload->data, payload->length,
                         request->stage);
        bool kicked = rc == 0 && kick(lane);
        call->shares_cpu = rc == 0 && !kicked && ep_lane_shares_cpu(lane);
        lane->shares_cpu = call->shares_cpu;
    }
    if (rc < 0)
        rc = enqueue(lane, request->urgent, call, &head, payload->data, payload->length);
    if (rc < 0) {
        ep_call_free(lane, call);
        return rc;
    }
    *ret_call = call;
    return 0;
}

int ep_submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
              struct ep_call **ret_call)
{
    if (request->stage != NULL && request->payload->length >= EP_STAGE_MIN)
        ep_stage_move(request->stage, request->payload, 0);

    pthread_mutex_lock(&lane->producer);
    int rc = submit_locked(lane, env, request, ret_call);
    pthread_mutex_unlock(&lane->producer);
    if (request->stage != NULL)
        ep_stage_finish(request->stage);
    return rc;
}

void ep_lane_drop_env(struct ep_lane *lane, uint64_t env_id)
{
    pthread_mutex_lock(&lane->producer);
    /* A worker process that comes later never knew this namespace. */
    if (lane->state == EP_LANE_ATTACHED) {
        if (lane->n_drops == lane->max_drops) {
            size_t max = lane->max_drops == 0 ? 16 : 2 * lane->max_drops;
            uint64_t *drops = realloc(lane->drops, max * sizeof(*drops));
            if (drops != NULL) {
                lane->drops = drops;
                lane->max_drops = max;
            }
        }
        /* Out of memory: the namespace stays until the worker process ends. */
        if (lane->n_drops < lane->max_drops)
            lane->drops[lane->n_drops++] = env_id;
        /* An idle worker is not woken for one of them; the next request tells. */
        if (lane->n_drops >= DROPS_KICK) {
            send_drops(lane);
            kick(lane);
        }
    }
    pthread_mutex_unlock(&lane->producer);
}

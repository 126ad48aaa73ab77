/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_outbox.h"

#include "ep_arrays.h"
#include "ep_calls.h"
#include "ep_lanes.h"
#include "ep_peer.h"
#include "ep_queue.h"
#include "ep_ran.h"
#include "ep_stats.h"
#include "ep_wake.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* How many namespaces one message drops at most, and how many are worth waking an idle
 * worker. */
#define DROPS_MAX 65536u
#define DROPS_KICK 64u

/* Whether fewer than so many messages wait in the ring. Reads the line of the worker's head
 * only if that can change the result. */
static bool has_fewer(struct ep_ring_tx *ring, uint64_t most)
{
    if (ring->tail - ring->head_seen >= most)
        ring->head_seen = ep_ring_taken(ring);
    return ring->tail - ring->head_seen < most;
}

/* Whether the urgent ring may take one more message of that kind. Outcomes and cancels always
 * find room: a waiting lane needs them to go on. */
static bool has_urgent_room(struct ep_ring_tx *ring, uint16_t kind)
{
    switch (kind) {
    case EP_KIND_ANSWER:
    case EP_KIND_FINISH:
    case EP_KIND_CANCEL: return true;
    case EP_KIND_ENV_DROP: return has_fewer(ring, EP_URGENT_CELLS / 4);
    default: return has_fewer(ring, EP_URGENT_CELLS / 2); /* requests */
    }
}

/* Puts the payload into the cell, or into a block. Under the producer lock. */
static int place_payload(struct ep_lane *lane, struct ep_cell *cell, const uint8_t *bytes,
                         size_t length, struct ep_stage *stage)
{
    struct ep_lane_vm *shm = &lane->shm;
    uint64_t block = 0;

    cell->length = (uint32_t)length;
    if (length <= EP_INLINE_MAX) {
        ep_copy(cell->data, bytes, length);
        return 0;
    }
    if (!ep_stage_send(stage, bytes, &block)) {
        if (ep_reclaim_collect(&shm->reclaim_rx, &shm->slab) < 0)
            return -EPROTO;
        int rc = ep_slab_alloc(&shm->slab, length, &block);
        if (rc < 0)
            return rc;
        ep_wake_for_spike(lane->vm, &shm->slab);
        memcpy(shm->slab_mem + block, bytes, length);
    }
    /* The reaper reads here what a dead worker ran; the block may be gone by then. */
    memcpy(cell->data, bytes, EP_RAN_SIZE);
    ep_cell_set_block(cell, block);
    return 0;
}

/* Lends the arrays of a message to the worker. Under the producer lock, attached. */
__attribute__((noinline, cold)) static int lend(struct ep_lane *lane, struct ep_call *call,
                                                const struct ep_msg *head)
{
    if (call != NULL)
        return ep_arrays_lend(lane->host, call->cargo);
    call = ep_call_find(lane, head->call_id);
    return call == NULL ? 0 : ep_arrays_lend(lane->host, call->next_answer);
}

/* The outcome is about to be published.
 * SUBTLE: from here on the worker may say that it has read it, and then its arrays go. */
__attribute__((noinline, cold)) static void hand_over(struct ep_lane *lane,
                                                      const struct ep_msg *head)
{
    struct ep_call *call = ep_call_find(lane, head->call_id);

    /* One that waited longer, for a question that an interrupt has ended, may have come first. */
    if (call != NULL && call->next_answer != NULL)
        ep_call_hand_over(call);
}

/* Publishes one message. Under the producer lock, attached.
 * -EAGAIN: no cell or no block is free at the moment. */
static int publish(struct ep_lane *lane, bool urgent, struct ep_call *call,
                   const struct ep_msg *head, const uint8_t *bytes, size_t length,
                   struct ep_stage *stage)
{
    struct ep_ring_tx *ring = urgent ? &lane->shm.urgent : &lane->shm.call;
    struct ep_cell *cell;

    if (urgent && !has_urgent_room(ring, head->kind))
        return -EAGAIN;
    int rc = ep_ring_reserve(ring, &cell);
    if (rc < 0)
        return rc;
    ep_cell_begin(cell, (enum ep_kind)head->kind, (uint8_t)head->flags, (uint8_t)head->aux,
                  head->call_id, head->subject);
    if ((head->flags & EP_FLAG_TIMED) != 0)
        cell->stamp = head->stamp;
    if (__builtin_expect((head->flags & EP_FLAG_ARRAYS) != 0, 0)) {
        rc = lend(lane, call, head);
        if (rc < 0)
            return rc;
    }
    rc = place_payload(lane, cell, bytes, length, stage);
    if (rc < 0)
        return rc;
    /* Before the commit: a consumer that finds the reply reads where the request is. */
    if (call != NULL)
        ep_call_put(call, urgent ? EP_PLACE_URGENT : EP_PLACE_CALL, ring->tail);
    else if (__builtin_expect((head->flags & EP_FLAG_ARRAYS) != 0, 0))
        hand_over(lane, head);
    (void)ep_ring_commit(ring);
    return 0;
}

/* Uncounts a message that leaves a queue, and frees it. */
static void free_queued(struct ep_lane *lane, struct ep_queued *queued)
{
    if (queued == lane->outbox.hold) {
        lane->outbox.hold = NULL;
        free(queued);
        return;
    }
    if (queued->head.kind == EP_KIND_ANSWER) {
        lane->outbox.answers--;
        lane->outbox.answer_bytes -= queued->length;
    } else if (queued->head.kind == EP_KIND_CANCEL) {
        struct ep_call *call = ep_call_find(lane, queued->head.call_id);
        if (call != NULL)
            call->is_cancel_queued = false;
    }
    atomic_fetch_sub_explicit(&lane->common.n_queued, 1, memory_order_relaxed);
    free(queued);
}

void ep_outbox_clear_queue(struct ep_lane *lane, struct ep_queue *queue, bool keeps_calls)
{
    struct ep_queued **at = &queue->first;

    while (*at != NULL) {
        struct ep_queued *queued = *at;
        if (keeps_calls && queued->call != NULL) {
            at = &queued->next;
            continue;
        }
        *at = queued->next;
        free_queued(lane, queued);
    }
    queue->last = at;
}

void ep_outbox_clear(struct ep_lane *lane)
{
    ep_outbox_clear_queue(lane, &lane->outbox.calls, false);
    ep_outbox_clear_queue(lane, &lane->outbox.urgent, false);
}

/* Whether one more outcome may wait. A worker that asks and never reads the outcomes would
 * fill the memory of the VM with them. */
static bool may_wait(const struct ep_lane *lane, const struct ep_msg *head, size_t length)
{
    return head->kind != EP_KIND_ANSWER || lane->outbox.answers == 0
           || (lane->outbox.answers < EP_ANSWERS_QUEUED_MAX
               && length <= EP_ANSWER_BYTES_QUEUED_MAX - lane->outbox.answer_bytes);
}

static int enqueue(struct ep_lane *lane, bool urgent, struct ep_call *call,
                   const struct ep_msg *head, const uint8_t *bytes, size_t length)
{
    struct ep_queue *queue = urgent ? &lane->outbox.urgent : &lane->outbox.calls;

    if (!may_wait(lane, head, length)) {
        (void)ep_peer_kill(lane->host, EP_KILL_VIOLATION);
        return 0;
    }
    struct ep_queued *queued = ep_queue_message(call, head, bytes, length);
    if (queued == NULL)
        return -ENOMEM;
    if (head->kind == EP_KIND_ANSWER) {
        lane->outbox.answers++;
        lane->outbox.answer_bytes += length;
    }
    if (call != NULL)
        ep_call_put(call, EP_PLACE_QUEUE, 0);
    ep_queue_put(queue, queued);
    atomic_fetch_add_explicit(&lane->common.n_queued, 1, memory_order_relaxed);
    return 0;
}

/* Tells the worker in one message which namespaces are no longer needed. */
static void send_drops(struct ep_lane *lane)
{
    struct ep_msg head = {.kind = EP_KIND_ENV_DROP};
    size_t n = lane->outbox.n_drops < DROPS_MAX ? lane->outbox.n_drops : DROPS_MAX;
    const uint64_t *last = lane->outbox.drops + lane->outbox.n_drops - n;

    if (publish(lane, true, NULL, &head, (const uint8_t *)last, n * sizeof(*last), NULL) == 0)
        lane->outbox.n_drops -= n;
}

/* Wakes the worker if it sleeps. Returns whether it did. */
static bool kick(struct ep_lane *lane)
{
    if (!ep_bell_must_ring(&lane->shm.park))
        return false;
    /* Relaxed: it only feeds a guess. Not trusted: the budget has limits. */
    ep_idle_learn(&lane->inbox.idle,
                  (uint64_t)EP_IDLE_WAKES_OF_A_CALLER
                      * atomic_load_explicit(lane->shm.wake_ns, memory_order_relaxed));
    atomic_store_explicit(lane->shm.kicked_ns, ep_clock_ns(), memory_order_relaxed);
    ep_futex_wake(lane->shm.futex);
    atomic_fetch_add_explicit(&lane->vm->kicks, 1, memory_order_relaxed);
    return true;
}

/* Whether the message has to wait. -EPROTO means that the worker wrote nonsense: it is killed,
 * and its death ends the queued messages or moves them on. */
static bool is_full(struct ep_lane *lane, int rc)
{
    if (rc == -EPROTO)
        (void)ep_peer_kill(lane->host, EP_KILL_VIOLATION);
    return rc < 0;
}

static void flush(struct ep_lane *lane, bool urgent)
{
    struct ep_queue *queue = urgent ? &lane->outbox.urgent : &lane->outbox.calls;

    while (queue->first != NULL) {
        struct ep_queued *queued = queue->first;
        if (queued == lane->outbox.hold)
            break;
        int rc =
            publish(lane, urgent, queued->call, &queued->head, queued->bytes, queued->length, NULL);
        if (is_full(lane, rc))
            break;
        queue->first = queued->next;
        if (queue->first == NULL)
            queue->last = &queue->first;
        free_queued(lane, queued);
    }
}

int ep_outbox_hold(struct ep_lane *lane)
{
    struct ep_queue *queue = &lane->outbox.calls;

    if (lane->outbox.hold != NULL)
        return 0;
    struct ep_queued *hold = calloc(1, sizeof(*hold));
    if (hold == NULL)
        return -ENOMEM;
    /* SUBTLE: not counted in n_queued, for no reply makes room for it. */
    lane->outbox.hold = hold;
    *queue->last = hold;
    queue->last = &hold->next;
    return 0;
}

bool ep_outbox_is_held(const struct ep_lane *lane)
{
    return lane->outbox.hold != NULL && lane->outbox.calls.first == lane->outbox.hold;
}

void ep_outbox_release(struct ep_lane *lane)
{
    struct ep_queue *queue = &lane->outbox.calls;

    for (struct ep_queued **at = &queue->first; *at != NULL; at = &(*at)->next) {
        struct ep_queued *hold = *at;
        if (hold != lane->outbox.hold)
            continue;
        *at = hold->next;
        if (*at == NULL)
            queue->last = at;
        free_queued(lane, hold);
        return;
    }
}

void ep_outbox_flush(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->state == EP_LANE_ATTACHED) {
        flush(lane, true);
        flush(lane, false);
        kick(lane);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
}

static bool remove_from(struct ep_lane *lane, struct ep_queue *queue, const struct ep_call *call)
{
    for (struct ep_queued **at = &queue->first; *at != NULL; at = &(*at)->next) {
        struct ep_queued *queued = *at;
        if (queued->call != call)
            continue;
        *at = queued->next;
        if (*at == NULL)
            queue->last = at;
        free_queued(lane, queued);
        return true;
    }
    return false;
}

bool ep_outbox_remove(struct ep_lane *lane, struct ep_call *call)
{
    return remove_from(lane, &lane->outbox.calls, call)
           || remove_from(lane, &lane->outbox.urgent, call);
}

/* Sends on the urgent ring, or queues. Under the producer lock, attached. */
static int send_urgent(struct ep_lane *lane, const struct ep_msg *head, const uint8_t *bytes,
                       size_t length, struct ep_stage *stage, bool *ret_kicked)
{
    /* An outcome overtakes the queue: the lane cannot go on without it. */
    int rc = lane->outbox.urgent.first == NULL || head->kind == EP_KIND_ANSWER
                 ? publish(lane, true, NULL, head, bytes, length, stage)
                 : -EAGAIN;
    if (is_full(lane, rc))
        rc = enqueue(lane, true, NULL, head, bytes, length);
    *ret_kicked = rc == 0 && kick(lane);
    return rc;
}

uint64_t ep_outbox_cancel(struct ep_lane *lane, uint64_t call_id)
{
    struct ep_msg head = {.kind = EP_KIND_CANCEL, .call_id = call_id};
    struct ep_call *call = ep_call_find(lane, call_id);
    bool kicked;

    head.subject = ++lane->outbox.interrupts;
    if (lane->state != EP_LANE_ATTACHED || call == NULL)
        return head.subject;
    call->asks = 0; /* no answer comes behind the CANCEL */
    /* Relaxed: the question that the worker asks because of it orders it (P1, P2). */
    atomic_fetch_add_explicit(&call->interrupts, 1, memory_order_relaxed);
    /* One queued CANCEL serves for all interrupts of the call. */
    if (!call->is_cancel_queued) {
        uint32_t before = atomic_load_explicit(&lane->common.n_queued, memory_order_relaxed);
        (void)send_urgent(lane, &head, NULL, 0, NULL, &kicked);
        call->is_cancel_queued =
            atomic_load_explicit(&lane->common.n_queued, memory_order_relaxed) > before;
    }
    return head.subject;
}

bool ep_outbox_finish(struct ep_lane *lane, struct ep_call *call)
{
    struct ep_msg head = {.kind = EP_KIND_FINISH, .call_id = ep_call_id(call)};
    bool kicked;

    pthread_mutex_lock(&lane->outbox.lock);
    bool has_left = lane->state == EP_LANE_ATTACHED && ep_call_is_in_ring(call);
    if (has_left) {
        /* As a cancel: the mark for one that waits in the ring, the message for one that the
         * worker has begun, both for the one that it takes next. */
        ep_call_mark_cancelled(lane, call, head.call_id);
        struct ep_taken soon = ep_taken_of(lane);
        soon.call++;
        soon.urgent++;
        if (ep_call_has_started(call, &soon))
            (void)send_urgent(lane, &head, NULL, 0, NULL, &kicked);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return has_left;
}

bool ep_outbox_shares_cpu(const struct ep_lane *lane)
{
    /* Relaxed: a hint. */
    uint32_t cpu = atomic_load_explicit(lane->shm.cpu, memory_order_relaxed);

    return cpu != 0 && cpu == ep_cpu_here();
}

static bool call_is(const struct ep_call *call, enum ep_call_state state)
{
    return atomic_load_explicit(&call->state, memory_order_acquire) == state;
}

int ep_outbox_answer(struct ep_lane *lane, struct ep_call *call, uint64_t number,
                     enum ep_answer how, const struct ep_buf *payload, struct ep_cargo **cargo)
{
    struct ep_msg head = {.kind = EP_KIND_ANSWER, .aux = how, .subject = number};
    int rc = 0;

    if (*cargo != NULL)
        head.flags = EP_FLAG_ARRAYS;
    head.call_id = ep_call_id(call);
    pthread_mutex_lock(&lane->outbox.lock);
    if (call->end.kind != 0 && call_is(call, EP_CALL_BUSY)) {
        /* Doomed: no worker knows the call, so no other thread moves it. */
        call->reply = ep_call_end(call);
        (void)ep_call_move(call, EP_CALL_BUSY, EP_CALL_DONE);
    }
    /* If the call is no longer BUSY, it has ended without the outcome. */
    bool is_busy = ep_call_move(call, EP_CALL_BUSY, EP_CALL_SPINNING);
    if (is_busy)
        call->shares_cpu = false;
    if (is_busy && lane->state == EP_LANE_ATTACHED) {
        bool kicked;
        if (*cargo != NULL)
            ep_call_set_next_answer(call, *cargo);
        *cargo = NULL;
        rc = send_urgent(lane, &head, payload->data, payload->length, NULL, &kicked);
        call->shares_cpu = rc == 0 && !kicked && ep_outbox_shares_cpu(lane);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return rc < 0 ? rc : is_busy;
}

int ep_outbox_put_answer(struct ep_lane *lane, const struct ep_msg *head,
                         const struct ep_buf *payload, struct ep_stage *stage)
{
    bool kicked;

    return send_urgent(lane, head, payload->data, payload->length, stage, &kicked);
}

void ep_outbox_refuse(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    for (uint32_t i = 0; i < lane->table.n; i++) {
        if (atomic_load_explicit(&lane->common.refused, memory_order_relaxed) == 0)
            break;
        struct ep_call *call = ep_call_at(lane, i);
        /* Acquire: pairs with the release in ep_call_refuse(). */
        if (!atomic_exchange_explicit(&call->is_refused, false, memory_order_acquire))
            continue;
        atomic_fetch_sub_explicit(&lane->common.refused, 1, memory_order_relaxed);
        if (!call_is(call, EP_CALL_FREE))
            (void)ep_outbox_cancel(lane, ep_call_id(call));
    }
    pthread_mutex_unlock(&lane->outbox.lock);
}

static int submit_locked(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
                         struct ep_call **ret_call)
{
    const struct ep_buf *payload = request->payload;

    if (lane->state == EP_LANE_CLOSED)
        return -ESTALE;
    if (lane->state == EP_LANE_UNAVAILABLE)
        return -EHOSTDOWN;
    struct ep_call *call = ep_call_begin(lane, env, request->urgent);
    if (call == NULL)
        return -ENOBUFS;
    call->op = request->op;
    call->bytes = (uint32_t)payload->length;
    if (__builtin_expect(request->cargo != NULL, 0))
        ep_call_set_cargo(call, *request->cargo);
    call->is_timed = ep_stats_is_sampled(request->urgent ? &lane->shm.urgent : &lane->shm.call);

    if (request->form == EP_FORM_STREAM) {
        call->is_stream = true;
        call->notices = 0;
        call->arms_before = atomic_load_explicit(&lane->common.belt_arms, memory_order_relaxed);
    }

    struct ep_msg head;
    head.aux = request->form;
    head.call_id = ep_call_id(call);
    head.subject = request->env_id;
    head.kind = request->kind;
    head.flags = request->flags;
    head.stamp = 0;
    if (lane->outbox.shares_cpu)
        head.flags |= EP_FLAG_SHARES;
    if (call->is_timed) {
        head.flags |= EP_FLAG_TIMED;
        head.stamp = call->sent_ns = ep_clock_ns();
    }

    int rc = -EAGAIN;
    struct ep_queue *queue = request->urgent ? &lane->outbox.urgent : &lane->outbox.calls;
    if (lane->state == EP_LANE_ATTACHED) {
        if (lane->outbox.n_drops > 0)
            send_drops(lane);
        if (queue->first == NULL)
            rc = publish(lane, request->urgent, call, &head, payload->data, payload->length,
                         request->stage);
        (void)is_full(lane, rc);
        bool kicked = rc == 0 && kick(lane);
        call->shares_cpu = rc == 0 && !kicked && ep_outbox_shares_cpu(lane);
        lane->outbox.shares_cpu = call->shares_cpu;
    }
    if (rc < 0)
        rc = enqueue(lane, request->urgent, call, &head, payload->data, payload->length);
    if (rc < 0) {
        ep_call_set_cargo(call, NULL);
        ep_call_free(lane, call);
        return rc;
    }
    if (__builtin_expect(request->cargo != NULL, 0))
        *request->cargo = NULL;
    *ret_call = call;
    return 0;
}

bool ep_outbox_stage(struct ep_stage *stage, struct ep_buf *buf, size_t n)
{
    if (ep_stage_move(stage, buf, n))
        ep_outbox_flush(stage->lane);
    return ep_stage_is_warm(stage, buf);
}

int ep_outbox_submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
                     struct ep_call **ret_call)
{
    if (request->stage != NULL && request->payload->length >= EP_STAGE_MIN) {
        request->stage->new_max = SIZE_MAX;
        (void)ep_outbox_stage(request->stage, request->payload, 0);
    }

    pthread_mutex_lock(&lane->outbox.lock);
    int rc = submit_locked(lane, env, request, ret_call);
    pthread_mutex_unlock(&lane->outbox.lock);
    if (request->stage != NULL)
        ep_outbox_unstage(request->stage);
    return rc;
}

void ep_outbox_drop_env(struct ep_lane *lane, uint64_t env_id)
{
    pthread_mutex_lock(&lane->outbox.lock);
    /* Not attached: the next worker process will not know this namespace. */
    if (lane->state == EP_LANE_ATTACHED) {
        if (lane->outbox.n_drops == lane->outbox.max_drops) {
            size_t max = lane->outbox.max_drops == 0 ? 16 : 2 * lane->outbox.max_drops;
            uint64_t *drops = realloc(lane->outbox.drops, max * sizeof(*drops));
            if (drops != NULL) {
                lane->outbox.drops = drops;
                lane->outbox.max_drops = max;
            }
        }
        /* Without memory the namespace stays until the worker process ends. */
        if (lane->outbox.n_drops < lane->outbox.max_drops)
            lane->outbox.drops[lane->outbox.n_drops++] = env_id;
        /* One namespace is not worth waking an idle worker; the next request tells it. */
        if (lane->outbox.n_drops >= DROPS_KICK) {
            send_drops(lane);
            kick(lane);
        }
    }
    pthread_mutex_unlock(&lane->outbox.lock);
}

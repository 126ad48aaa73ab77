/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_lanes.h"

#include "ep_answer.h"
#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_consume.h"
#include "ep_host.h"
#include "ep_submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ep_lane *ep_lane_create(struct ep_vm *vm, const ErlNifPid *owner, uint32_t spin_min_ns,
                               uint32_t spin_max_ns)
{
    struct ep_lane *lane = enif_alloc_resource(ep_lane_type, sizeof(*lane));

    if (lane == NULL)
        return NULL;
    memset(lane, 0, sizeof(*lane));
    lane->vm = vm;
    lane->owner = *owner;
    ep_queue_init(&lane->calls);
    ep_queue_init(&lane->urgent);
    atomic_init(&lane->next_env_id, 1);
    ep_spin_init(&lane->spin, spin_min_ns, spin_max_ns);
    pthread_mutex_init(&lane->producer, NULL);
    pthread_mutex_init(&lane->reclaim, NULL);
    if (enif_monitor_process(NULL, lane, owner, &lane->owner_monitor) != 0) {
        lane->state = EP_LANE_CLOSED;
        lane->close_reason = am_noproc;
    }
    return lane;
}

static void free_queue(struct ep_queue *queue)
{
    for (struct ep_queued *queued = queue->first, *next; queued != NULL; queued = next) {
        next = queued->next;
        free(queued);
    }
    ep_queue_init(queue);
}

void ep_lane_destroy(ErlNifEnv *env, void *object)
{
    struct ep_lane *lane = object;

    (void)env;
    if (lane->vm == NULL)
        return;
    /* Nobody holds a call any more, for each holds a reference to the lane. */
    free_queue(&lane->calls);
    free_queue(&lane->urgent);
    for (uint32_t i = 0; i < lane->n_calls; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (call->env != NULL)
            enif_free_env(call->env);
    }
    for (uint32_t i = 0; i < lane->n_calls / EP_CALL_CHUNK; i++)
        enif_free(atomic_load(&lane->chunks[i]));
    if (lane->host != NULL)
        enif_release_resource(lane->host);
    ep_lane_vm_finish(&lane->shm);
    if (lane->reason_env != NULL)
        enif_free_env(lane->reason_env);
    free(lane->drops);
    pthread_mutex_destroy(&lane->producer);
    pthread_mutex_destroy(&lane->reclaim);
}

void ep_lane_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)pid;
    (void)monitor;
    ep_lane_close(object, env, am_killed);
}

/* Under the producer lock, attached. */
static void send_plain(struct ep_lane *lane, enum ep_kind kind, uint32_t aux,
                       const struct ep_buf *payload)
{
    struct ep_slot *slot;

    if (ep_ring_reserve(&lane->shm.call, &slot) < 0)
        return;
    ep_slot_begin(slot, kind, 0, (uint8_t)aux, 0, 0);
    if (payload != NULL && payload->length > 0) {
        slot->length = (uint32_t)payload->length;
        memcpy(slot->data, payload->data, payload->length);
    }
    (void)ep_ring_commit(&lane->shm.call);
    if (ep_bell_must_ring(&lane->shm.park))
        ep_futex_wake(lane->shm.futex);
}

/* Under the producer lock. */
static void attach_shared(struct ep_lane *lane, struct ep_host *host, uint32_t index)
{
    ep_consumer_enter(lane);
    pthread_mutex_lock(&lane->reclaim);
    ep_lane_vm_attach(&lane->shm, host->a.mem, host->b.mem, host->c.mem, host->n_lanes, index);
    enif_keep_resource(host);
    ep_bell_tx_attach(&lane->block_bell, lane->shm.space.word);
    lane->host = host;
    pthread_mutex_unlock(&lane->reclaim);
    lane->published = 0;
    lane->index = index;
    lane->n_drops = 0;
    lane->notices = 1; /* STARTED will come */
    atomic_fetch_add(&lane->parked, 1);
    ep_bell_arm(&lane->shm.response_bell);
    atomic_store(&lane->armed, 1);
    ep_consumer_exit(lane);
}

int ep_lane_attach(struct ep_lane *lane, struct ep_host *host, uint32_t index, enum ep_mode mode,
                   const struct ep_buf *prologue)
{
    int rc = 0;

    if (index == 0 || index >= host->n_lanes)
        return -EINVAL;
    pthread_mutex_lock(&host->lock);
    pthread_mutex_lock(&lane->producer);
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
        lane->state = EP_LANE_ATTACHED;
        lane->attachments++;
        ep_host_control(host, EP_KIND_LANE_OPEN, index, 0, 0);
        send_plain(lane, EP_KIND_START, mode, prologue);
    }
    pthread_mutex_unlock(&lane->producer);
    pthread_mutex_unlock(&host->lock);
    if (rc == 0)
        ep_lane_flush(lane);
    return rc;
}

static bool is_open(const struct ep_call *call)
{
    uint32_t state = atomic_load_explicit(&call->state, memory_order_acquire);
    return state != EP_CALL_FREE && state != EP_CALL_DONE;
}

static void clear_queues(struct ep_lane *lane)
{
    free_queue(&lane->calls);
    free_queue(&lane->urgent);
    atomic_store(&lane->n_queued, 0);
}

/* Up to where the worker has taken each ring. */
struct taken {
    uint64_t call, urgent;
};

static struct taken taken_of(const struct ep_lane *lane)
{
    return (struct taken){.call = ep_ring_taken(&lane->shm.call),
                          .urgent = ep_ring_taken(&lane->shm.urgent)};
}

/* Whether the worker had taken the call. */
static bool has_started(const struct ep_call *call, const struct taken *taken)
{
    switch (call->place) {
    case EP_PLACE_CALL: return (int64_t)(call->position - taken->call) < 0;
    case EP_PLACE_URGENT: return (int64_t)(call->position - taken->urgent) < 0;
    case EP_PLACE_THREAD: return true;
    default: return false;
    }
}

/* Fails every open call; sets aux to whether it had started. Under the producer and
 * the consumer lock. */
static void fail_calls(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_reply *reply,
                       const struct taken *taken)
{
    for (uint32_t i = 0; i < lane->n_calls; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (!is_open(call))
            continue;
        reply->msg.aux = taken != NULL && has_started(call, taken);
        (void)ep_call_deliver(lane, caller_env, call, reply);
    }
}

void ep_lane_set_unavailable(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason)
{
    struct ep_reply reply = {.msg = {.kind = EP_FAILED_UNAVAILABLE}};

    pthread_mutex_lock(&lane->producer);
    if (lane->state == EP_LANE_DETACHED || lane->state == EP_LANE_UNAVAILABLE) {
        if (lane->reason_env == NULL)
            lane->reason_env = enif_alloc_env();
        else
            enif_clear_env(lane->reason_env);
        lane->reason = enif_make_copy(lane->reason_env, reason);
        lane->state = EP_LANE_UNAVAILABLE;
        ep_consumer_enter(lane);
        fail_calls(lane, caller_env, &reply, NULL);
        ep_consumer_exit(lane);
        clear_queues(lane);
    }
    pthread_mutex_unlock(&lane->producer);
}

static bool is_in_ring(const struct ep_call *call)
{
    return call->place == EP_PLACE_CALL || call->place == EP_PLACE_URGENT;
}

static struct ep_ring_tx *ring_of(struct ep_lane *lane, const struct ep_call *call)
{
    return call->place == EP_PLACE_URGENT ? &lane->shm.urgent : &lane->shm.call;
}

/* A call to interrupt on both ways, see service/ep_worker_callback.c. */
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

    for (uint32_t i = 0; i < lane->n_calls; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (is_open(call) && is_in_ring(call))
            (void)ep_ring_cancel(ring_of(lane, call), call->position, ep_call_id(call));
    }
    struct taken taken = taken_of(lane);
    for (uint32_t i = 0; i < lane->n_calls; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        /* The one that the worker takes next may have missed its mark. */
        struct taken soon = {taken.call + 1, taken.urgent + 1};
        if (!is_open(call) || !has_started(call, &soon))
            continue;
        uint64_t id = ep_call_id(call);
        uint64_t number = ep_lane_send_cancel(lane, id);
        if (n < max)
            interrupts[n++] = (struct interrupt){.call_id = id, .number = number};
    }
    return n;
}

void ep_lane_close(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason)
{
    struct ep_reply reply = {.msg = {.kind = EP_FAILED_CONTEXT}};
    struct ep_host *host = NULL;
    struct interrupt interrupts[EP_URGENT_SLOTS];
    unsigned n = 0;

    pthread_mutex_lock(&lane->producer);
    if (lane->state != EP_LANE_CLOSED) {
        if (lane->state == EP_LANE_ATTACHED) {
            host = lane->host;
            enif_keep_resource(host);
        }
        lane->close_reason = reason;
        ep_consumer_enter(lane);
        lane->closed = true; /* before STOP, which is answered */
        if (host != NULL) {
            n = cancel_calls(lane, interrupts, EP_URGENT_SLOTS);
            send_plain(lane, EP_KIND_STOP, 0, NULL);
        }
        lane->state = EP_LANE_CLOSED;
        fail_calls(lane, caller_env, &reply, NULL);
        ep_consumer_exit(lane);
        clear_queues(lane);
    }
    pthread_mutex_unlock(&lane->producer);
    if (host == NULL)
        return;

    /* The rings stay mapped until the process ends or the lane is collected; the
     * number is not used again in this process. */
    pthread_mutex_lock(&host->lock);
    for (unsigned i = 0; i < n; i++)
        ep_host_control(host, EP_KIND_INTERRUPT, lane->index, interrupts[i].call_id,
                        interrupts[i].number);
    bool listed = host->lanes[lane->index] == lane;
    if (listed)
        host->lanes[lane->index] = NULL;
    pthread_mutex_unlock(&host->lock);
    if (listed)
        enif_release_resource(lane);
    enif_release_resource(host);
}

/* Moves what the worker had not taken of a ring to the front of the queue, in order.
 * Under both locks; slots of A and blocks of C are ours, so they outlive the worker. */
static void requeue(struct ep_lane *lane, const struct ep_ring_tx *ring, uint64_t taken,
                    struct ep_queue *queue)
{
    struct ep_queued *first = NULL, **last = &first;

    for (uint64_t at = taken; at != ring->tail; at++) {
        const struct ep_slot *slot = &ring->slots[at & ring->mask];
        struct ep_call *call = ep_call_find(lane, slot->call_id);
        bool is_request = slot->kind <= EP_KIND_EXEC;
        if (!is_request || call == NULL || !is_open(call) || ep_slot_is_cancelled(slot))
            continue;
        struct ep_queued *queued = malloc(sizeof(*queued) + slot->length);
        if (queued == NULL)
            continue; /* it fails with the rest */
        bool in_block = (slot->flags & EP_FLAG_BLOCK) != 0;
        queued->next = NULL;
        queued->call = call;
        queued->length = slot->length;
        queued->head.aux = slot->aux;
        queued->head.call_id = slot->call_id;
        queued->head.subject = slot->subject;
        queued->head.stamp = slot->stamp;
        queued->head.kind = slot->kind;
        queued->head.flags = slot->flags & (uint8_t)~EP_FLAG_BLOCK;
        memcpy(queued->bytes, in_block ? lane->shm.slab_mem + slot->block : slot->data,
               slot->length);
        call->place = EP_PLACE_QUEUE;
        *last = queued;
        last = &queued->next;
        atomic_fetch_add(&lane->n_queued, 1);
    }
    if (first == NULL)
        return; /* last points to a local variable */
    *last = queue->first;
    if (queue->first == NULL)
        queue->last = last;
    queue->first = first;
}

/* Forgets answers and cancels for the dead. */
static void drop_callless(struct ep_lane *lane)
{
    struct ep_queued **at = &lane->urgent.first;

    while (*at != NULL) {
        struct ep_queued *queued = *at;
        if (queued->call != NULL) {
            at = &queued->next;
            continue;
        }
        *at = queued->next;
        free(queued);
        atomic_fetch_sub(&lane->n_queued, 1);
    }
    lane->urgent.last = at;
}

/* Fails the calls that were in a ring and are not in a queue. */
static void fail_taken(struct ep_lane *lane, struct ep_reply *reply)
{
    reply->msg.aux = 1;
    for (uint32_t i = 0; i < lane->n_calls; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (is_open(call) && call->place != EP_PLACE_QUEUE)
            (void)ep_call_deliver(lane, NULL, call, reply);
    }
}

static void detach(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->reclaim);
    lane->host = NULL;
    ep_lane_vm_finish(&lane->shm);
    pthread_mutex_unlock(&lane->reclaim);
    lane->n_drops = 0;
    atomic_store(&lane->armed, 0);
    atomic_fetch_sub(&lane->parked, lane->notices);
    lane->notices = 0;
}

void ep_lane_host_died(struct ep_lane *lane, struct ep_host *host, int64_t exit_value)
{
    struct ep_reply reply = {.msg = {.kind = EP_FAILED_DIED}};

    reply.msg.subject = (uint64_t)atomic_load(&host->os_pid);
    reply.msg.block = (uint64_t)exit_value;

    pthread_mutex_lock(&lane->producer);
    if (lane->host != host) {
        pthread_mutex_unlock(&lane->producer);
        return;
    }
    ep_consumer_enter(lane);
    /* First what was published: those calls did end. */
    (void)ep_drain(lane, NULL, NULL, NULL);
    struct taken taken = taken_of(lane);
    if (exit_value == EP_EXIT_VALUE_KILL_AFTER && lane->state == EP_LANE_ATTACHED) {
        drop_callless(lane);
        requeue(lane, &lane->shm.call, taken.call, &lane->calls);
        requeue(lane, &lane->shm.urgent, taken.urgent, &lane->urgent);
        fail_taken(lane, &reply);
    } else {
        fail_calls(lane, NULL, &reply, &taken);
        clear_queues(lane);
    }
    detach(lane);
    if (lane->state == EP_LANE_ATTACHED)
        lane->state = EP_LANE_DETACHED;
    ep_consumer_exit(lane);
    pthread_mutex_unlock(&lane->producer);
    enif_release_resource(host);
}

/* The host with a reference for the caller, or NULL. */
static struct ep_host *keep_host(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->producer);
    struct ep_host *host = lane->host;
    if (host != NULL)
        enif_keep_resource(host);
    pthread_mutex_unlock(&lane->producer);
    return host;
}

void ep_lane_kill(struct ep_lane *lane, enum ep_kill_reason reason)
{
    struct ep_host *host = keep_host(lane);

    if (host == NULL)
        return;
    ep_host_kill(host, reason);
    enif_release_resource(host);
}

/* Tells the control thread to interrupt a call, if it runs. */
static void interrupt_running(struct ep_lane *lane, uint64_t call_id, uint64_t number)
{
    struct ep_host *host = keep_host(lane);

    if (host == NULL)
        return;
    pthread_mutex_lock(&host->lock);
    ep_host_control(host, EP_KIND_INTERRUPT, lane->index, call_id, number);
    pthread_mutex_unlock(&host->lock);
    enif_release_resource(host);
}

static void tell_owner(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id)
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM what = enif_make_tuple2(env, am_cancelled, enif_make_uint64(env, call_id));

    (void)enif_send(caller_env, &lane->owner, env, enif_make_tuple2(env, am_py_lane, what));
    enif_free_env(env);
}

/* Whether the caller gave the call up now. Under the producer lock. */
static bool give_up(struct ep_lane *lane, struct ep_call *call)
{
    if (ep_call_move(call, EP_CALL_WAITING, EP_CALL_ABANDONED)
        || ep_call_move(call, EP_CALL_PARKED, EP_CALL_ABANDONED))
        return true;
    /* In a callback, or before one: from here on its end is awaited like that of
     * other parked calls. Counted before the move, as the deliverer uncounts it. */
    atomic_fetch_add_explicit(&lane->parked, 1, memory_order_seq_cst);
    if (ep_call_move(call, EP_CALL_BUSY, EP_CALL_ABANDONED)
        || ep_call_move(call, EP_CALL_SPINNING, EP_CALL_ABANDONED))
        return true;
    if (atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_DONE
        && call->reply.msg.kind == EP_KIND_CALLBACK) {
        struct ep_reply reply = call->reply;
        ep_reply_drop(lane, &reply);
        if (ep_call_move(call, EP_CALL_DONE, EP_CALL_ABANDONED))
            return true;
    }
    atomic_fetch_sub_explicit(&lane->parked, 1, memory_order_relaxed);
    return false;
}

bool ep_lane_cancel(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call)
{
    uint64_t id = ep_call_id(call);
    uint64_t number = 0;

    pthread_mutex_lock(&lane->producer);
    if (!give_up(lane, call)) {
        pthread_mutex_unlock(&lane->producer);
        return false;
    }
    if (call->place == EP_PLACE_QUEUE && ep_queue_remove(lane, call)) {
        /* It never left: nobody else knows it, so the entry is ours to free. */
        atomic_fetch_sub(&lane->parked, 1);
        ep_call_free(lane, call);
        pthread_mutex_unlock(&lane->producer);
        return true;
    }
    if (lane->host != NULL) {
        if (is_in_ring(call))
            (void)ep_ring_cancel(ring_of(lane, call), call->position, id);
        /* One that only waits in a ring is dropped by its mark; the one that the worker
         * takes next may have missed it. */
        struct taken soon = taken_of(lane);
        soon.call++;
        soon.urgent++;
        if (has_started(call, &soon))
            number = ep_lane_send_cancel(lane, id);
    }
    pthread_mutex_unlock(&lane->producer);

    /* It may run already: interrupt it, and let the context watch it. */
    interrupt_running(lane, id, number);
    tell_owner(lane, caller_env, id);
    ep_consumer_ensure(lane, caller_env);
    return true;
}

bool ep_lane_interrupt(struct ep_lane *lane, uint64_t call_id)
{
    uint64_t number = 0;

    pthread_mutex_lock(&lane->producer);
    if (call_id == 0 && lane->host != NULL)
        call_id = atomic_load_explicit(lane->shm.running, memory_order_acquire)
                  & ~(uint64_t)EP_RUNNING_WAITS;
    bool found = call_id != 0 && lane->host != NULL && ep_call_find(lane, call_id) != NULL;
    if (found)
        number = ep_lane_send_cancel(lane, call_id);
    pthread_mutex_unlock(&lane->producer);
    if (found)
        interrupt_running(lane, call_id, number);
    return found;
}

void ep_lane_interrupt_overdue(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id)
{
    if (ep_lane_interrupt(lane, call_id))
        tell_owner(lane, caller_env, call_id);
}

enum ep_progress ep_lane_progress(struct ep_lane *lane, uint64_t call_id)
{
    enum ep_progress progress = EP_PROGRESS_ENDED;

    pthread_mutex_lock(&lane->producer);
    struct ep_call *call = ep_call_find(lane, call_id);
    if (call != NULL && lane->host != NULL) {
        /* One that only waits in a ring is dropped when its turn comes, and harms
         * nobody; one that lies below another request cannot go on before that. */
        struct taken taken = taken_of(lane);
        bool on_top = call->place == EP_PLACE_THREAD
                      || atomic_load_explicit(lane->shm.running, memory_order_acquire) == call_id;
        progress = on_top && has_started(call, &taken) ? EP_PROGRESS_RUNS : EP_PROGRESS_WAITS;
    }
    pthread_mutex_unlock(&lane->producer);
    return progress;
}

bool ep_lane_is_idle(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->producer);
    bool is_idle =
        lane->host == NULL || atomic_load_explicit(lane->shm.running, memory_order_acquire) == 0;
    pthread_mutex_unlock(&lane->producer);
    return is_idle;
}

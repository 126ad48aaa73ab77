/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_stats.h"

#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_lanes.h"
#include "ep_peer.h"

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static unsigned bucket_of(uint64_t us)
{
    unsigned i = us == 0 ? 0 : 64u - (unsigned)__builtin_clzll(us);

    return i < EP_HIST_BUCKETS ? i : EP_HIST_BUCKETS - 1;
}

static void record(struct ep_hist *hist, uint64_t us)
{
    uint64_t max = atomic_load_explicit(&hist->max_us, memory_order_relaxed);

    add(&hist->count, 1);
    add(&hist->sum_us, us);
    add(&hist->buckets[bucket_of(us)], 1);
    while (us > max
           && !atomic_compare_exchange_weak_explicit(&hist->max_us, &max, us, memory_order_relaxed,
                                                     memory_order_relaxed)) {
    }
}

static void record_timed(struct ep_stats *stats, const struct ep_call *call,
                         const struct ep_msg *msg)
{
    uint64_t queue_us = msg->stamp >> 32, run_us = (uint32_t)msg->stamp;
    uint64_t whole_us = (ep_clock_ns() - call->sent_ns) / 1000;

    record(&stats->queue, queue_us);
    record(&stats->run, run_us);
    record(&stats->reply, whole_us > queue_us + run_us ? whole_us - queue_us - run_us : 0);
}

void ep_stats_ended(struct ep_stats *stats, const struct ep_call *call, const struct ep_msg *msg)
{
    add(&stats->calls, 1);
    if (msg->kind != EP_KIND_RESULT)
        add(&stats->errors, 1);
    if (call->is_timed && msg->kind < EP_FAILED_DIED && (msg->flags & EP_FLAG_TIMED) != 0)
        record_timed(stats, call, msg);
}

void ep_stats_timed_out(struct ep_stats *stats)
{
    add(&stats->calls, 1);
    add(&stats->errors, 1);
    add(&stats->timeouts, 1);
}

static ERL_NIF_TERM number(ErlNifEnv *env, const _Atomic uint64_t *counter)
{
    return enif_make_uint64(env, atomic_load_explicit(counter, memory_order_relaxed));
}

static ERL_NIF_TERM make_hist(ErlNifEnv *env, const struct ep_hist *hist)
{
    ERL_NIF_TERM buckets[EP_HIST_BUCKETS];

    for (size_t i = 0; i < EP_HIST_BUCKETS; i++)
        buckets[i] = number(env, &hist->buckets[i]);
    return enif_make_tuple4(env, number(env, &hist->count), number(env, &hist->sum_us),
                            number(env, &hist->max_us),
                            enif_make_list_from_array(env, buckets, EP_HIST_BUCKETS));
}

/* What a lane is at the moment. */
struct snapshot {
    ERL_NIF_TERM state;
    int64_t os_pid; /* 0: none */
    bool has_host;
    uint32_t sandbox;
    uint64_t queue_depth;
    uint64_t shared_bytes;
    uint32_t attachments;
};

static uint64_t waiting_in(const struct ep_ring_tx *ring)
{
    return ring->tail - ep_ring_taken(ring);
}

static ERL_NIF_TERM state_of(const struct ep_lane *lane)
{
    switch (lane->state) {
    case EP_LANE_ATTACHED:
        return atomic_load_explicit(lane->shm.running, memory_order_relaxed) != 0
                       || waiting_in(&lane->shm.call) > 0
                   ? am_busy
                   : am_idle;
    case EP_LANE_DETACHED: return lane->attachments == 0 ? am_starting : am_restarting;
    default: return am_unavailable;
    }
}

static void take_snapshot(struct ep_lane *lane, struct snapshot *ret_snapshot)
{
    struct snapshot now = {.os_pid = 0};

    pthread_mutex_lock(&lane->outbox.lock);
    now.state = state_of(lane);
    now.attachments = lane->attachments;
    now.queue_depth = atomic_load(&lane->common.n_queued);
    if (lane->host != NULL) {
        struct ep_host *host = lane->host;
        now.os_pid = atomic_load(&host->os_pid);
        now.has_host = true;
        now.sandbox = atomic_load(&host->sandbox);
        now.queue_depth += waiting_in(&lane->shm.call);
        /* What the worker has handed back is collected with the next block only. */
        if (ep_reclaim_collect(&lane->shm.reclaim_rx, &lane->shm.slab) < 0)
            (void)ep_peer_kill(host, EP_KILL_VIOLATION);
        /* Rings are shared out evenly; slab B is known to the worker only. */
        now.shared_bytes =
            (ep_layout_ring_bytes_a(host->n_lanes) + ep_layout_ring_bytes_b(host->n_lanes))
                / (host->n_lanes - 1)
            + ep_slab_used(&lane->shm.slab);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    *ret_snapshot = now;
}

ERL_NIF_TERM ep_stats_make(ErlNifEnv *env, struct ep_lane *lane)
{
    const struct ep_stats *stats = &lane->stats;
    struct snapshot now;

    take_snapshot(lane, &now);
    ERL_NIF_TERM keys[] = {am_calls,    am_errors,      am_timeouts,     am_queue,
                           am_run,      am_reply,       am_state,        am_os_pid,
                           am_restarts, am_queue_depth, am_shared_bytes, am_interrupted,
                           am_sandbox};
    ERL_NIF_TERM values[] = {
        number(env, &stats->calls),
        number(env, &stats->errors),
        number(env, &stats->timeouts),
        make_hist(env, &stats->queue),
        make_hist(env, &stats->run),
        make_hist(env, &stats->reply),
        now.state,
        now.os_pid == 0 ? am_undefined : enif_make_int64(env, now.os_pid),
        enif_make_uint(env, now.attachments > 0 ? now.attachments - 1 : 0),
        enif_make_uint64(env, now.queue_depth),
        enif_make_uint64(env, now.shared_bytes),
        number(env, &stats->interrupted),
        now.has_host ? enif_make_uint(env, now.sandbox) : am_undefined,
    };
    ERL_NIF_TERM map;

    (void)enif_make_map_from_arrays(env, keys, values, sizeof(keys) / sizeof(keys[0]), &map);
    return map;
}

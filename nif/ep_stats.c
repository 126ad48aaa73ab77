/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_stats.h"

#include "ep_atoms.h"

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

    add(&hist->count, EP_STATS_SAMPLE);
    add(&hist->sum_us, us * EP_STATS_SAMPLE);
    add(&hist->buckets[bucket_of(us)], EP_STATS_SAMPLE);
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

ERL_NIF_TERM ep_stats_make(ErlNifEnv *env, const struct ep_stats *stats)
{
    ERL_NIF_TERM keys[] = {am_calls, am_errors, am_timeouts, am_queue, am_run, am_reply};
    ERL_NIF_TERM values[] = {
        number(env, &stats->calls),       number(env, &stats->errors),
        number(env, &stats->timeouts),    make_hist(env, &stats->queue),
        make_hist(env, &stats->run),      make_hist(env, &stats->reply),
    };
    ERL_NIF_TERM map;

    (void)enif_make_map_from_arrays(env, keys, values, sizeof(keys) / sizeof(keys[0]), &map);
    return map;
}

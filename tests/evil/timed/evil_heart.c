/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "evil_heart.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define MAX_CPUS 64

/* A line of cache each: a beat disturbs no other processor. */
struct heart {
    _Alignas(64) _Atomic uint64_t beats;
};

static struct heart hearts[MAX_CPUS];
static atomic_bool all_beat;

static void next_beat(struct timespec *at)
{
    struct timespec now;

    at->tv_nsec += EVIL_HEART_PERIOD_NS;
    if (at->tv_nsec >= 1000000000) {
        at->tv_nsec -= 1000000000;
        at->tv_sec++;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > at->tv_sec || (now.tv_sec == at->tv_sec && now.tv_nsec > at->tv_nsec))
        *at = now; /* what was missed is missed */
}

static void *beat(void *arg)
{
    struct heart *heart = arg;
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    for (;;) {
        next_beat(&at);
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        atomic_fetch_add_explicit(&heart->beats, 1, memory_order_relaxed);
    }
    return NULL;
}

static bool start_one(int cpu)
{
    const struct sched_param first = {.sched_priority = 1};
    pthread_attr_t attr;
    pthread_t thread;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)pthread_attr_init(&attr);
    bool ok = pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED) == 0
              && pthread_attr_setschedpolicy(&attr, SCHED_FIFO) == 0
              && pthread_attr_setschedparam(&attr, &first) == 0
              && pthread_attr_setaffinity_np(&attr, sizeof(set), &set) == 0
              && pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0
              && pthread_create(&thread, &attr, beat, &hearts[cpu]) == 0;
    (void)pthread_attr_destroy(&attr);
    return ok;
}

bool evil_heart_start(void)
{
    cpu_set_t set;
    sigset_t every;
    sigset_t before;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return false;
    /* The VM's own threads take its signals. */
    (void)sigfillset(&every);
    (void)pthread_sigmask(SIG_SETMASK, &every, &before);
    bool ok = true;
    for (int cpu = 0; ok && cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set))
            ok = cpu < MAX_CPUS && start_one(cpu);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    atomic_store(&all_beat, ok);
    return ok;
}

struct evil_heart_mark evil_heart_mark(void)
{
    struct evil_heart_mark mark = {.cpu = sched_getcpu()};

    for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
        uint64_t beats = atomic_load_explicit(&hearts[cpu].beats, memory_order_relaxed);
        mark.of_all += beats;
        if (cpu == mark.cpu)
            mark.of_cpu = beats;
    }
    return mark;
}

uint64_t evil_heart_since(struct evil_heart_mark mark)
{
    struct evil_heart_mark now = evil_heart_mark();
    uint64_t beats = now.cpu == mark.cpu ? now.of_cpu - mark.of_cpu : now.of_all - mark.of_all;

    /* One more: for what ran before the first beat and after the last. */
    return atomic_load(&all_beat) ? (beats + 1) * EVIL_HEART_PERIOD_NS : UINT64_MAX;
}

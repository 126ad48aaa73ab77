/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "evil_timed.h"

#include "evil_heart.h"

#include <erl_nif.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* The table of the NIF becomes private to this file, which then makes another one of it. */
#define VM_NIF_INIT(...) ERL_NIF_INIT(__VA_ARGS__)
#pragma push_macro("ERL_NIF_INIT")
#undef ERL_NIF_INIT
#define ERL_NIF_INIT(name, functions, load, reload, upgrade, unload)
#include "py_nif.c" /* NOLINT(bugprone-suspicious-include): its table is static */
#pragma pop_macro("ERL_NIF_INIT")

#define N_FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

typedef ERL_NIF_TERM nif_fn(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

static struct evil_time unnamed[EVIL_TIMES];
static struct evil_time *times = unnamed;
static nif_fn *inner[EVIL_TIMES];
static unsigned n_inner;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t cpu_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* took: of CPU time; ran: at most, by the beats of its processor. */
static void note(struct evil_time *time, uint64_t took, uint64_t ran)
{
    if (took > EVIL_TIMED_LONG_NS && ran <= EVIL_TIMED_LONG_NS)
        atomic_fetch_add_explicit(&time->stolen, 1, memory_order_relaxed);
    if (took > ran)
        took = ran;
    atomic_fetch_add_explicit(&time->calls, 1, memory_order_relaxed);
    if (took > EVIL_TIMED_LONG_NS)
        atomic_fetch_add_explicit(&time->longer, 1, memory_order_relaxed);
    uint64_t longest = atomic_load_explicit(&time->longest_ns, memory_order_relaxed);
    while (took > longest && !atomic_compare_exchange_weak(&time->longest_ns, &longest, took))
        continue;
}

static ERL_NIF_TERM run(unsigned i, ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct evil_heart_mark mark = evil_heart_mark();
    uint64_t start = cpu_ns();
    ERL_NIF_TERM term = inner[i](env, argc, argv);
    uint64_t took = cpu_ns() - start;

    note(&times[i], took, evil_heart_since(mark));
    return term;
}

/* A millisecond and a half of the CPU, three times: if none is found, the measure finds nothing. */
static void try_measure(void)
{
    struct evil_time *time = &times[EVIL_TIMES - 1];

    (void)strncpy(time->name, EVIL_TIMED_TRIAL, sizeof(time->name) - 1);
    for (int i = 0; i < 3; i++) {
        struct evil_heart_mark mark = evil_heart_mark();
        uint64_t start = cpu_ns();
        uint64_t took = 0;
        while (took < EVIL_TIMED_LONG_NS + EVIL_TIMED_LONG_NS / 2)
            took = cpu_ns() - start;
        note(time, took, evil_heart_since(mark));
    }
}

#define OUTER(n)                                                                                   \
    static ERL_NIF_TERM outer_##n(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])             \
    {                                                                                              \
        return run(n, env, argc, argv);                                                            \
    }
#define EIGHT(f, t) f(t##0) f(t##1) f(t##2) f(t##3) f(t##4) f(t##5) f(t##6) f(t##7)
#define NAME(n) outer_##n,

/* Written in octal: 00 to 0177. */
EIGHT(OUTER, 0)
EIGHT(OUTER, 01)
EIGHT(OUTER, 02)
EIGHT(OUTER, 03)
EIGHT(OUTER, 04)
EIGHT(OUTER, 05)
EIGHT(OUTER, 06)
EIGHT(OUTER, 07)
EIGHT(OUTER, 010)
EIGHT(OUTER, 011)
EIGHT(OUTER, 012)
EIGHT(OUTER, 013)
EIGHT(OUTER, 014)
EIGHT(OUTER, 015)
EIGHT(OUTER, 016)
EIGHT(OUTER, 017)

/* clang-format off */
static nif_fn *const outer[EVIL_TIMES] = {
    EIGHT(NAME, 0) EIGHT(NAME, 01) EIGHT(NAME, 02) EIGHT(NAME, 03)
    EIGHT(NAME, 04) EIGHT(NAME, 05) EIGHT(NAME, 06) EIGHT(NAME, 07)
    EIGHT(NAME, 010) EIGHT(NAME, 011) EIGHT(NAME, 012) EIGHT(NAME, 013)
    EIGHT(NAME, 014) EIGHT(NAME, 015) EIGHT(NAME, 016) EIGHT(NAME, 017)
};
/* clang-format on */

/* The function that times this one. */
static nif_fn *timed(const char *name, nif_fn *function)
{
    unsigned i = 0;

    (void)pthread_mutex_lock(&lock);
    while (i < n_inner && inner[i] != function)
        i++;
    if (i == EVIL_TIMES - 1)
        abort(); /* a NIF of more functions than there are places */
    if (i == n_inner) {
        inner[n_inner++] = function;
        (void)strncpy(times[i].name, name, sizeof(times[i].name) - 1);
    }
    (void)pthread_mutex_unlock(&lock);
    return outer[i];
}

ERL_NIF_TERM __real_enif_schedule_nif(ErlNifEnv *env, const char *name, int flags, nif_fn *function,
                                      int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM __wrap_enif_schedule_nif(ErlNifEnv *env, const char *name, int flags, nif_fn *function,
                                      int argc, const ERL_NIF_TERM argv[]);

ERL_NIF_TERM __wrap_enif_schedule_nif(ErlNifEnv *env, const char *name, int flags, nif_fn *function,
                                      int argc, const ERL_NIF_TERM argv[])
{
    return __real_enif_schedule_nif(env, name, flags, flags == 0 ? timed(name, function) : function,
                                    argc, argv);
}

static ErlNifFunc timed_functions[N_FUNCTIONS];

static __attribute__((constructor)) void make_table(void)
{
    const char *path = getenv("EVIL_TIMES");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0 && ftruncate(fd, sizeof(unnamed)) == 0) {
        void *mem = mmap(NULL, sizeof(unnamed), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mem != MAP_FAILED)
            times = mem;
    }
    if (fd >= 0)
        (void)close(fd);
    (void)evil_heart_start();
    try_measure();
    for (size_t i = 0; i < N_FUNCTIONS; i++) {
        timed_functions[i] = functions[i];
        if (functions[i].flags == 0)
            timed_functions[i].fptr = timed(functions[i].name, functions[i].fptr);
    }
}

VM_NIF_INIT(ep_nif, timed_functions, load, NULL, upgrade, unload)

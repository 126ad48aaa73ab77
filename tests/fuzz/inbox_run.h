/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INBOX_RUN_H
#define INBOX_RUN_H

/* inbox_run - one run of inbox_fuzz: its input, and who takes part. One thread. */

#include "fake_erl_nif.h"
#include "inbox_side.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define CALLERS 6u
#define CONTEXTS (SIDE_LANES - 1)

/* A term and the environment that keeps it; env NULL: none. */
struct held {
    ErlNifEnv *env;
    ERL_NIF_TERM term;
};

struct caller {
    ErlNifPid pid;
    struct held call;   /* the reference */
    struct held result; /* of the last function, in an environment of its own */
    bool waits;         /* for {py_done, Tag} */
};

struct run {
    const uint8_t *at, *end;
    struct ep_vm *vm;
    struct side side;
    bool is_alive;
    struct caller callers[CALLERS];
    ErlNifPid owners[CONTEXTS], runner, reader;
    struct held lanes[CONTEXTS];
    struct held asker, env;
    uint64_t ids[8]; /* of requests that the worker has taken */
    unsigned n_ids;
};

/* --- the input: zeros when it is at its end ------------------------------------------- */

static inline uint64_t take(struct run *run, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes && run->at < run->end; i++)
        value |= (uint64_t)*run->at++ << (8 * i);
    return value;
}

static inline uint32_t below(struct run *run, uint32_t n)
{
    return (uint32_t)take(run, 1) % n;
}

static inline size_t copy(struct run *run, void *to, size_t size)
{
    size_t left = (size_t)(run->end - run->at);
    size_t n = size < left ? size : left;

    memcpy(to, run->at, n);
    run->at += n;
    return n;
}

static inline uint64_t some_id(struct run *run)
{
    uint64_t what = take(run, 1);

    if (what < 128 && run->n_ids > 0)
        return run->ids[what % run->n_ids];
    if (what < 192)
        return what & 7; /* the first generation */
    return take(run, 8);
}

#endif

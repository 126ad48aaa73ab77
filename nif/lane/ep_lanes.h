/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LANES_H
#define EP_LANES_H

/*
 * ep_lanes - lanes as objects of the VM: how they begin and end.
 *
 * A context makes its lane and keeps it for life. What ties the lane to a worker process, one
 * after another, is in ep_attach.h.
 *
 * Ownership  a lane is a resource; its context, its calls and its namespaces hold it.
 * Threads    any.
 */

#include "ep_calls.h"
#include "ep_stats.h"
#include "ep_vm.h"

enum ep_lane_state {
    EP_LANE_DETACHED, /* no worker process yet: requests wait */
    EP_LANE_ATTACHED,
    EP_LANE_UNAVAILABLE, /* the worker process does not start: requests fail */
    EP_LANE_CLOSED,      /* the context ended: requests fail */
};

/* Keeps what follows out of the cache line of what came before. Not an alignment: the VM
 * aligns resources to 8 bytes, whatever their type says. */
#define EP_APART(n) uint8_t apart_##n[EP_CACHE_LINE]

/* Requests on their way to the worker. By whoever holds the lock: the producer. */
struct ep_outbox {
    pthread_mutex_t lock;
    struct ep_queue calls, urgent; /* what waits for room in a ring */
    struct ep_queued *hold;        /* in calls: what is behind it waits; NULL: nothing is held */
    uint32_t answers;              /* in urgent */
    size_t answer_bytes;
    bool owes_stop;      /* closed when the call ring was full */
    bool shares_cpu;     /* the last request was made on the worker's CPU */
    uint64_t interrupts; /* sent so far */
    uint64_t *drops;     /* namespaces to drop that found the urgent ring full */
    size_t n_drops, max_drops;
};

/* The calls, see ep_calls.h. Grows under the outbox's lock. */
struct ep_call_table {
    struct ep_call *free; /* private to the producer */
    uint32_t n;           /* entries made so far */
    _Atomic(struct ep_call *) chunks[EP_CALL_CHUNKS];
};

/* Replies on their way to the callers, see ep_inbox.h. By the consumer. */
struct ep_inbox {
    _Atomic uint32_t consumer; /* its lock: 0 or 1 */
    struct ep_idle idle;       /* of callers; races are harmless */
    uint64_t published;        /* response position that the worker knows of */
    uint32_t notices;          /* STARTED still to come */
    bool closed;               /* what still comes is late */
    uint32_t late;             /* replies that may still come then */
    _Atomic bool stopped;      /* STOPPED has come: the last message of a closed lane */
    uint64_t unread_at;        /* check(): response position that was unread */
    uint64_t unread_since_ns;
    uint64_t neglect_told_ns; /* check(): when the context was told of an untaken request */
    uint64_t polled_at;       /* response position that callers have seen */
    uint64_t polled_ns;       /* since then */
    _Atomic bool is_still;    /* a caller waited in vain, and nothing has come since; a hint */
    ErlNifEnv *letter_env;    /* where SENDs become messages; NULL: there was none */
    size_t letter_bytes;      /* of SENDs since a batch ended for their sake */
};

/* Blocks on their way back to the worker. By whoever holds the lock. */
struct ep_returns {
    pthread_mutex_t lock;
    struct ep_bell_tx bell; /* the worker waits for a block; see shm.space */
};

/* The message of an exception is a binary. */
#define EP_STYLE_TEXT 0x800u

struct ep_lane {
    struct ep_vm *vm;
    ErlNifPid owner; /* the context process */
    ErlNifMonitor owner_monitor;
    size_t max_result_words; /* of VM heap for what Python sends */
    uint16_t style;          /* of requests that ask for none: EP_FLAG_NONE_MASK, EP_STYLE_TEXT */

    /* What the lane is at the moment. Under the outbox's lock; host under the inbox's, too. */
    enum ep_lane_state state;
    uint32_t attachments; /* worker processes so far */
    struct ep_host *host; /* kept */
    uint32_t index;
    bool has_own_gil;    /* its Python waits for no other lane */
    uint64_t changed_ns; /* when it was attached or closed */
    ErlNifEnv *reason_env;
    ERL_NIF_TERM reason;       /* of UNAVAILABLE */
    ERL_NIF_TERM close_reason; /* of CLOSED; an atom */

    struct ep_outbox outbox;
    struct ep_call_table table;

    EP_APART(1);
    struct ep_inbox inbox;

    EP_APART(2);
    struct {                             /* what anyone changes, with no lock */
        _Atomic(struct ep_call *) freed; /* entries of the table */
        _Atomic uint32_t parked;         /* calls that nobody spins for */
        _Atomic uint32_t armed;          /* the response bell is armed */
        _Atomic uint32_t n_queued;       /* length of both queues */
        _Atomic uint32_t refused;        /* calls with is_refused */
        _Atomic uint64_t next_env_id;
        _Atomic uint64_t belt_arms; /* how often a reader of a belt was about to sleep */
    } common;

    EP_APART(3);
    struct ep_stats stats;

    struct ep_returns returns;
    struct ep_lane_vm shm; /* while attached */
};

/* max_result_bytes: VM heap that one result, or the arguments of one callback, may need. */
struct ep_lane *ep_lane_create(struct ep_vm *vm, const ErlNifPid *owner, uint32_t spin_min_ns,
                               uint32_t spin_max_ns, uint64_t max_result_bytes, uint16_t style);
void ep_lane_destroy(ErlNifEnv *env, void *object);

/* Fails what waits and what comes, until the next attach. reason is copied. */
void ep_lane_set_unavailable(struct ep_lane *lane, ErlNifEnv *caller_env, ERL_NIF_TERM reason);

#endif

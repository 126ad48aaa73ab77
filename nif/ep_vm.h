/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_VM_H
#define EP_VM_H

/*
 * ep_vm - the structures of the NIF and who guards what.
 *
 * One ep_vm per Erlang VM, shared by every loaded instance of the library. A
 * host is one worker process from its fork to its reaping. A lane is what a
 * context keeps for its whole life: its call table, and its rings while it is
 * attached to a host. All three outlive worker processes; only the rings do not.
 *
 * Locks, in the order in which they may be taken:
 *   vm->lock        the lists of hosts and launchers
 *   host->lock      host->lanes, the control lane
 *   lane->producer  call and urgent ring, slab, call table growth, waiting
 *                   queue, lane->state, and (with the consumer lock) attachment
 *   lane->consumer  response ring and its bell; only tried, except by the reaper
 *   lane->reclaim   the ring that hands blocks back
 *   slots.lock      who waits for a slot
 * None is ever held while Python runs or while a term is converted.
 *
 * Threads  scheduler threads enter through NIFs; one reaper thread per VM.
 */

#include "ep_cpu.h"
#include "ep_lane.h"
#include "ep_seg.h"
#include "ep_wait.h"

#include <erl_nif.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define EP_VM_VERSION 6u /* bump when a structure below changes: no hot upgrade then */

/* What a caller asked for; decides the shape of its answer. */
enum ep_op { EP_OP_CALL = 0, EP_OP_EVAL = 1, EP_OP_EXEC = 2 };

/*
 * States of a call. Every transition is one compare-and-swap, so each call ends
 * exactly once:
 *
 *   FREE -> SPINNING              submit, by the caller
 *   SPINNING -> TAKEN             the caller took its reply from the ring itself
 *   SPINNING -> BUSY              ... and it is a callback, which the caller runs
 *   SPINNING -> DONE              another consumer stored the reply
 *   SPINNING -> PARKED            the caller gives up looking for it
 *   PARKED -> WAITING             the caller has named the message it waits for
 *   PARKED, WAITING -> DONE       reply or failure stored; WAITING gets its message
 *   DONE -> BUSY                  the caller collected, and it is a callback
 *   BUSY -> SPINNING              the caller has answered the callback
 *   BUSY -> DONE                  an end that did not wait for the answer
 *   PARKED, WAITING -> ABANDONED  timeout, or the caller died
 *   BUSY, DONE -> ABANDONED       the same in, or before, a callback
 *   SPINNING -> ABANDONED         the caller died between two looks
 *   TAKEN, DONE -> FREE           the caller has what it needs
 *   ABANDONED -> FREE             the late reply was dropped
 */
enum ep_call_state {
    EP_CALL_FREE,
    EP_CALL_SPINNING,
    EP_CALL_PARKED,
    EP_CALL_WAITING,
    EP_CALL_ABANDONED,
    EP_CALL_BUSY,
    EP_CALL_TAKEN,
    EP_CALL_DONE,
};

/* Outcomes that no worker sent; they stand where a reply has its kind. */
enum ep_failure {
    EP_FAILED_DIED = 0x100, /* aux: started; subject: os pid; block: exit value */
    EP_FAILED_UNAVAILABLE,  /* reason: lane->reason */
    EP_FAILED_CONTEXT,      /* reason: lane->close_reason */
};

/* A reply in the hands of whoever took it from the ring. */
struct ep_reply {
    struct ep_host *host;   /* kept while the payload lies in a block of it; else NULL */
    const uint8_t *payload; /* the block, in memory that the worker can still write */
    uint8_t *heap;          /* or a copy of its own; else NULL */
    struct ep_msg msg;
};

/* Where a request is. */
enum ep_place {
    EP_PLACE_QUEUE,
    EP_PLACE_CALL,
    EP_PLACE_URGENT,
    EP_PLACE_THREAD, /* given to a Python thread, see ep_asker.h */
};

struct ep_call {
    _Atomic uint32_t state; /* enum ep_call_state */
    uint32_t index;
    _Atomic uint32_t generation; /* changes whenever the entry becomes free */
    enum ep_op op;
    enum ep_place place; /* published on that ring, or still in a waiting queue */
    bool is_timed;
    bool shares_cpu;         /* submitted from the CPU on which the worker ran last */
    uint32_t bytes;          /* of the request */
    _Atomic bool is_overdue; /* its budget ended while it was BUSY */
    uint64_t serial;         /* of nested requests, in the order of their making; else 0 */
    uint64_t position;       /* in the ring */
    uint64_t sent_ns;        /* is_timed */
    uint64_t spin_until_ns;  /* SPINNING: when the caller parks; the caller's */
    uint64_t began_ns;       /* SPINNING: when it began to let others go first; the caller's */
    uint64_t looked_ns;      /* SPINNING: when it looked last; the caller's */
    ErlNifPid caller;
    ErlNifEnv *env; /* holds message */
    ERL_NIF_TERM message;
    struct ep_reply reply; /* valid in DONE */
    struct ep_call *next_free;
};

/* A request that waits in private memory for room or for a worker process. */
struct ep_queued {
    struct ep_queued *next;
    struct ep_call *call; /* NULL: an answer or a cancel */
    struct ep_msg head;   /* data and length unused */
    size_t length;
    uint8_t bytes[];
};

struct ep_queue {
    struct ep_queued *first, **last;
};

enum ep_lane_state {
    EP_LANE_DETACHED, /* no worker process yet: requests wait */
    EP_LANE_ATTACHED,
    EP_LANE_UNAVAILABLE, /* the worker process does not start: requests fail */
    EP_LANE_CLOSED,      /* the context ended: requests fail */
};

/* How long something took, by powers of two of microseconds. Counts are estimates:
 * most calls are not timed, see ep_stats.h. */
#define EP_HIST_BUCKETS 32u
struct ep_hist {
    _Atomic uint64_t count, sum_us, max_us;
    _Atomic uint64_t buckets[EP_HIST_BUCKETS]; /* [i]: below 2^i us */
};

struct ep_stats {
    _Atomic uint64_t calls, errors, timeouts;
    struct ep_hist queue, run, reply;
};

#define EP_CALL_CHUNK 256u
#define EP_CALL_CHUNKS 4096u

/* Keeps what follows out of the cache line of what came before. Not an alignment: the VM
 * aligns resources to 8 bytes, whatever their type says. */
#define EP_APART(n) uint8_t apart_##n[EP_CACHE_LINE]

struct ep_lane {
    struct ep_vm *vm;
    ErlNifPid owner; /* the context process */
    ErlNifMonitor owner_monitor;

    pthread_mutex_t producer;
    enum ep_lane_state state;
    uint32_t attachments; /* worker processes so far */
    struct ep_host *host; /* kept; written under producer and consumer lock */
    uint32_t index;
    struct ep_queue calls, urgent; /* what waits for room in a ring */
    bool shares_cpu;               /* the last request was made on the worker's CPU */
    uint64_t interrupts;           /* sent so far */
    uint64_t *drops;               /* namespaces to drop that found the urgent ring full */
    size_t n_drops, max_drops;
    struct ep_call *free_calls; /* private to the producer */
    uint32_t n_calls;           /* entries made so far */
    ErlNifEnv *reason_env;
    ERL_NIF_TERM reason;       /* of UNAVAILABLE */
    ERL_NIF_TERM close_reason; /* of CLOSED; an atom */
    _Atomic(struct ep_call *) chunks[EP_CALL_CHUNKS];

    EP_APART(1);
    _Atomic uint32_t consumer; /* 0 or 1, see ep_consume.h */
    struct ep_spin spin;       /* of callers; races are harmless */
    uint64_t published;        /* response position that the worker knows of */
    uint32_t notices;          /* STARTED still to come; under the consumer lock */
    bool closed;               /* what still comes is late; under the consumer lock */
    uint64_t unread_at;        /* check(): response position that was unread */
    uint64_t unread_since_ns;
    uint64_t polled_at;    /* response position that callers have seen, under the consumer lock */
    uint64_t polled_ns;    /* since then */
    _Atomic bool is_still; /* a caller waited in vain, and nothing has come since; a hint */

    EP_APART(2);
    _Atomic(struct ep_call *) freed; /* pushed by anyone */
    _Atomic uint32_t parked;         /* calls that nobody spins for */
    _Atomic uint32_t armed;          /* the response bell is armed */
    _Atomic uint32_t n_queued;       /* length of both queues */
    _Atomic uint64_t refused;        /* a call whose callback nobody can run any more; 0 */
    _Atomic uint64_t next_env_id;

    EP_APART(3);
    struct ep_stats stats;

    pthread_mutex_t reclaim;
    struct ep_bell_tx block_bell; /* the worker waits for a block; see shm.space */
    struct ep_lane_vm shm;        /* while attached */
};

enum ep_kill_reason { EP_KILL_NONE = 0, EP_KILL_AFTER, EP_KILL_VIOLATION, EP_KILL_ASKED };

struct ep_host {
    struct ep_vm *vm;
    struct ep_host *next; /* under vm->lock */
    uint64_t id;
    uint64_t launcher_id;
    uint32_t n_lanes; /* control lane included */
    ErlNifPid owner;
    struct ep_seg a, b, c;
    int doorbell; /* eventfd, written by the worker */
    int control;  /* our end; its closing tells the worker that we are gone */

    /* The reaper's. */
    int pidfd; /* -1 until spawned */
    bool doorbell_added, pidfd_added, dead, exit_known;
    uint64_t died_at_ns; /* the pidfd said so; waits a moment for the exit value */
    int64_t exit_value;  /* enum ep_control_event_kind, EXITED */

    pthread_mutex_t lock;
    struct ep_lane *lanes[EP_LANES_MAX]; /* kept; [0] unused */
    struct ep_lane_vm control_lane;
    struct ep_inquiry *inquiries; /* under lock */
    uint64_t next_inquiry;        /* under lock */
    _Atomic int64_t os_pid;
    _Atomic int kill_pidfd; /* a duplicate for ep_host_kill(); -1 */
    _Atomic int kill_reason;
};

/* A launcher process. */
struct ep_launcher {
    struct ep_vm *vm;
    struct ep_launcher *next; /* under vm->lock */
    uint64_t id;
    ErlNifPid owner;
    int listener; /* -1 once joined */
    int socket;   /* -1 until joined */
    bool added, gone;
    uint8_t token[16];
};

#define EP_SLOT_PASSES_BITS 8

/* Who may run a request: see ep_slots.h. */
struct ep_slots {
    _Atomic uint64_t word; /* waiting << 32 | in use */
    _Atomic uint32_t max;
    pthread_mutex_t lock;
    struct ep_slot_ref *first, **last; /* who waits, in order of arrival */
    uint32_t offered, insisting;       /* how many of them are; under lock */
    struct ep_slot_passes {
        ERL_NIF_TERM pid;
        uint32_t left;
    } passes[1 << EP_SLOT_PASSES_BITS]; /* of who passed the line lately; under lock */
};

struct ep_vm {
    uint32_t version; /* EP_VM_VERSION; first, so that any instance can read it */
    _Atomic uint32_t refs;
    pthread_mutex_t lock;
    struct ep_host *hosts;
    struct ep_launcher *launchers;
    uint64_t next_id;
    uint8_t seal_key[16];
    unsigned cpus;

    struct ep_wait *wait;
    int wake_fd;
    ErlNifTid reaper;
    bool reaper_runs;
    _Atomic bool stop;
    _Atomic uint32_t has_spike; /* some slab has to shrink, see ep_shrink.h */
    uint64_t shrink_ns;         /* the reaper's: when it looked last; 0: no need */

    struct ep_slots slots;
    uint64_t names_epoch;      /* under vm->lock; copied to every host, see EP_NAMES_EPOCH_OFFSET */
    ErlNifPid callback_runner; /* gets the callbacks of Python threads; under lock */
    bool has_callback_runner;
    _Atomic uint64_t nested_serial;
    _Atomic uint32_t spinners;
    _Atomic uint32_t max_atoms;
    _Atomic uint32_t atoms_made;
    _Atomic uint64_t lost_wake, violations, late_replies, kicks, doorbells;
};

/* A namespace of a process: dropped in the worker when collected. */
struct ep_env {
    struct ep_lane *lane; /* kept */
    uint64_t id;
    bool is_borrowed; /* somebody else's: not dropped with this */
};

/* What a parked caller holds; when it is collected, the call is cancelled. */
struct ep_call_ref {
    struct ep_lane *lane; /* kept */
    struct ep_call *call; /* NULL once collected */
    bool has_slot;
};

extern ErlNifResourceType *ep_lane_type, *ep_host_type, *ep_launcher_type, *ep_env_type,
    *ep_call_type, *ep_slot_type, *ep_asker_type;

#endif

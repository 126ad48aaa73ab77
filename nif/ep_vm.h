/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_VM_H
#define EP_VM_H

/*
 * ep_vm - what all rooms of the NIF share, and who guards what.
 *
 * One ep_vm per Erlang VM, shared by every loaded instance of the library. A
 * host is one worker process from its fork to its reaping. A lane is what a
 * context keeps for its whole life: its call table, and its rings while it is
 * attached to a host. All three outlive worker processes; only the rings do not.
 *
 * Locks, in the order in which they may be taken:
 *   vm->lock              the lists of hosts and launchers
 *   host->lock            host->lanes, the control lane
 *   object->lock          what a channel or the like holds, and who waits for it
 *   vm->objects->lock     which of those who wait do so for a time; nothing is locked after it
 *   lane->outbox.lock     the producer lock: call and urgent ring, slab, call table growth,
 *                         waiting queue, lane->state, and (with the consumer lock) attachment
 *   lane->inbox.consumer  the consumer lock: response ring and its bell; only tried, except
 *                         by the reaper
 *   lane->returns.lock    the ring that hands blocks back
 *   slots.lock            who waits for a slot
 *   vm->arrays->lock      arrays in shared memory
 *   host->notes_lock      the call ring of the control lane, and what waits for room there
 *   host->reclaim, vm->runner_lock   nothing is locked after these
 * Two of one rank: see ep_move.c.
 * None is ever held while Python runs, or while a term is converted; but for the short ones of
 * SENDs, see ep_letter.h.
 *
 * Threads  scheduler threads enter through NIFs; one reaper thread per VM.
 */

#include "ep_cpu.h"
#include "ep_idle.h"
#include "ep_lane.h"
#include "ep_seg.h"
#include "ep_wait.h"

#include <erl_nif.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Bump when a structure that outlives an instance of the library changes: a lane, its calls, or
 * one below. No hot upgrade then. */
#define EP_VM_VERSION 21u

struct ep_lane;
struct ep_call;
struct ep_pipe;

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

static inline void ep_queue_init(struct ep_queue *queue)
{
    queue->first = NULL;
    queue->last = &queue->first;
}

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

    /* The reaper's. */
    int pidfd; /* -1 until spawned */
    bool doorbell_added, pidfd_added, exit_known;
    bool notes_wait;        /* notes found no room at the last look */
    _Atomic bool forgotten; /* no launcher has heard of it: to be buried */
    uint64_t died_at_ns;    /* the pidfd said so; waits a moment for the launcher */
    int64_t exit_value;     /* enum ep_control_event_kind, EXITED */
    uint8_t *words;         /* what it wrote last to stderr; NULL: nothing that we know of */
    size_t n_words;
    ErlNifEnv *end; /* what its lanes ran when its calls were ended; NULL: they were not */
    ERL_NIF_TERM ran;

    pthread_mutex_t lock;
    pthread_mutex_t reclaim;             /* control_lane.reclaim_tx */
    bool dead;                           /* under lock */
    struct ep_lane *lanes[EP_LANES_MAX]; /* kept; [0] unused */
    struct ep_lane_vm control_lane;
    /* Arrays, and our end of the control socket, which also tells the worker that we are
     * gone; see ep_array_pool.h. */
    struct ep_host_arrays *arrays;
    struct ep_inquiry *inquiries;   /* under lock */
    uint64_t next_inquiry;          /* under lock */
    bool greeted;                   /* HELLO has come; the reaper's */
    _Atomic uint32_t sandbox;       /* what HELLO said of it */
    uint32_t questions;             /* of Python threads, open; under lock */
    _Atomic uint32_t thread_late;   /* replies of threads to calls that have ended */
    pthread_mutex_t notes_lock;     /* the call ring of the control lane, and the next four */
    struct ep_queue notes;          /* see ep_note.h */
    uint32_t n_notes, n_interrupts; /* all of them; of these, interrupts */
    size_t note_bytes;
    uint64_t still_at, still_ns; /* notes taken when it last stood still, and since when; under
                                    lock */
    _Atomic uint32_t tasks;      /* open ones, of all lanes; see ep_task.h */
    _Atomic bool wants_round;    /* the reaper shall look at its lanes, see ep_wake_for_round() */
    _Atomic int64_t os_pid;
    _Atomic int kill_pidfd; /* pidfd, for ep_peer_kill(); -1 until spawned */
    _Atomic int kill_reason;

    _Atomic uint64_t letter_paid;    /* by its SENDs so far, see ep_letter.h */
    _Atomic uint64_t letter_limit;   /* of that */
    ErlNifEnv *letter_env;           /* as that of a lane; under lock */
    _Atomic uint64_t letter_seed;    /* of the choice of samples */
    _Atomic uint64_t letter_sampled; /* ErlNifPid: a process that got a SEND lately; 0: none */
    _Atomic uint64_t letter_sampled_price; /* of that SEND */
    _Atomic uint64_t letter_weight;        /* of the SENDs that it is chosen of */
    _Atomic uint64_t letter_little_ns;     /* when there was credit of neither one SEND nor all */
    uint64_t watched_until_ns;             /* the reaper's: looks for SENDs without a ring; 0: no */
    uint64_t watched_ns;                   /* the reaper's: when it looked last */
    struct ep_pipe *leases[EP_LEASES_MAX]; /* whose items lie there; under vm->objects->lock */
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

    struct ep_wait *wait;      /* the reaper's; as old as this, whichever instance runs it */
    pthread_mutex_t wake_lock; /* a leaf, as runner_lock; for wake_fd */
    int wake_fd;               /* -1 after the last unload */
    ErlNifTid reaper;
    bool reaper_runs;
    _Atomic bool stop;
    _Atomic uint32_t has_spike; /* some slab has to shrink, see ep_shrink.h */
    uint64_t shrink_ns;         /* the reaper's: when it looked last; 0: no need */

    struct ep_slots slots;
    struct ep_arrays *arrays;   /* arrays in shared memory; lives as long as this */
    struct ep_objects *objects; /* channels and the like; the same */
    uint64_t names_epoch; /* under vm->lock; copied to every host, see EP_NAMES_EPOCH_OFFSET */
    pthread_mutex_t runner_lock; /* the last of all locks; for the five below */
    ErlNifPid callback_runner;   /* gets the callbacks of Python threads */
    bool has_callback_runner;
    ErlNifPid carrier; /* gets the SENDs to processes of other nodes */
    bool has_carrier;
    struct ep_asker *orphans; /* kept: callbacks that found it dead */
    _Atomic uint64_t nested_serial;
    _Atomic uint32_t spinners;
    _Atomic uint32_t max_atoms;
    _Atomic uint32_t atoms_made;
    ErlNifEnv *encode_env; /* see ep_term_encode_open() */
    ERL_NIF_TERM long_positive, long_negative;
    _Atomic uint64_t lost_wake, violations, late_replies, kicks, doorbells;
};

/* Each is defined in the file of its struct, and set when the library is loaded. */
extern ErlNifResourceType *ep_lane_type, *ep_host_type, *ep_launcher_type, *ep_env_type,
    *ep_call_type, *ep_slot_type, *ep_asker_type, *ep_array_type, *ep_object_type;

#endif

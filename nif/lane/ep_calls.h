/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CALLS_H
#define EP_CALLS_H

/*
 * ep_calls - the call table of a lane: who waits for which reply.
 *
 * Threads  ep_call_begin() under the producer lock; the rest from any thread.
 *          Which thread may do what to an entry follows from its state, see
 *          enum ep_call_state.
 */

#include "ep_result.h"
#include "ep_vm.h"

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
 *   BUSY -> SPINNING              the caller has answered the callback, or leaves that to the
 *                                 VM, see ep_outbox_question.h
 *   BUSY -> DONE                  an end that did not wait for the answer; or the caller
 *                                 has answered, and the call is doomed
 *   PARKED, WAITING -> ABANDONED  timeout, or the caller died
 *   BUSY, DONE -> ABANDONED       the same in, or before, a callback
 *   SPINNING -> ABANDONED         the caller died between two looks
 *   PARKED, WAITING -> SPINNING   a stream has items; WAITING gets its message
 *   DONE -> OVERTAKEN             an interrupt has ended the call before its caller collected
 *                                 the CALLBACK that is there; the end lies in late
 *   OVERTAKEN -> DONE             the caller has taken the end instead
 *   TAKEN, DONE -> FREE           the caller has what it needs
 *   ABANDONED -> FREE             the late reply was dropped, or none can come any more
 *
 * A call that holds a CALLBACK in DONE when its worker process dies or its context ends
 * still belongs to its caller, who is about to run the callback. It becomes doomed: how it
 * ends is noted in it, and its caller finds that when it answers or gives up.
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
    EP_CALL_OVERTAKEN,
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
    const uint8_t *payload; /* the block, in memory that the worker can still write; or NULL */
    struct ep_cargo *cargo; /* the arrays that it names; or NULL */
    struct ep_msg msg;
};
#define EP_REPLY_CONTROL 0x8000u /* flag of msg: the block is of the control lane */

/* Where a request is. */
enum ep_place {
    EP_PLACE_QUEUE, /* in private memory: no worker process knows of it */
    EP_PLACE_CALL,
    EP_PLACE_URGENT,
    EP_PLACE_THREAD, /* given to a Python thread, see ep_asker.h, or to an event loop */
};

/* How a doomed call ends: what its reply will say. */
struct ep_end {
    uint16_t kind; /* enum ep_failure; 0: the call is not doomed */
    uint8_t aux;
    uint64_t subject, block;
};

/* The belt of a stream, see ep_stream.h. */
struct ep_call_belt {
    struct ep_host *host; /* kept: the memory is mapped as long */
    const uint8_t *mem;
    uint64_t block;
};

struct ep_call {
    _Atomic uint32_t state; /* enum ep_call_state */
    uint32_t index;
    _Atomic uint32_t generation; /* changes whenever the entry becomes free */
    enum ep_op op;
    bool is_timed;
    bool is_stream;
    bool shares_cpu;         /* submitted from the CPU on which the worker ran last */
    uint32_t bytes;          /* of the request */
    _Atomic bool is_overdue; /* its budget ended while it was BUSY */
    _Atomic bool is_refused; /* its callback found its caller gone, or busy */
    bool is_cancel_queued;   /* a CANCEL for it waits in the urgent queue; producer lock */
    bool is_task;            /* an event loop runs it, beside the requests; see ep_task.h */
    /* Each interrupt may end one question before its answer, and another may follow. */
    _Atomic uint32_t interrupts; /* sent for it */
    uint32_t questions_ended;    /* by an interrupt; under the consumer lock */
    uint64_t asks;               /* a question that the VM answers, 0: none; producer lock */
    uint64_t serial;             /* of nested requests, in the order of their making; else 0 */
    /* Position in the ring << 2 | enum ep_place. One word, for others than its writer, who
     * holds the producer lock, read it at any time. */
    _Atomic uint64_t where;
    uint64_t sent_ns;       /* is_timed */
    uint64_t spin_until_ns; /* SPINNING: when the caller parks; the caller's */
    uint64_t began_ns;      /* SPINNING: when it began to let others go first; the caller's */
    uint64_t looked_ns;     /* SPINNING: when it looked last; the caller's */
    ErlNifPid caller;
    ErlNifEnv *env; /* holds message */
    ERL_NIF_TERM message;
    /* Arrays that the request, and the last outcome of a callback, have brought; or NULL. The
     * worker holds them as long as the call is open, or until it says that it has read them. */
    bool had_arrays; /* since it was taken: one of the next three may be there */
    struct ep_cargo *cargo;
    struct ep_cargo *next_answer; /* of an outcome that is not published; producer lock */
    _Atomic(struct ep_cargo *) answer_cargo;
    struct ep_end end;     /* under the producer lock */
    struct ep_reply reply; /* valid in DONE */
    struct ep_reply *late; /* valid in OVERTAKEN */
    /* A stream: what its worker has told. By the consumer, for the caller. */
    _Atomic(struct ep_call_belt *) belt; /* NULL: nothing so far */
    uint64_t notices;                    /* how often; the consumer's */
    uint64_t arms_before;                /* belt_arms of the lane when the call began */
    struct ep_call *next_free;
};

static inline enum ep_place ep_call_place(const struct ep_call *call)
{
    /* Whoever acts on it has the producer lock, or has found in a ring what the worker made of
     * the request, which orders it (P1, P2). Acquire: pairs with ep_call_put(), for a worker
     * that lies may name a call whose request it has not read. */
    return (enum ep_place)(atomic_load_explicit(&call->where, memory_order_acquire) & 3);
}

static inline uint64_t ep_call_position(const struct ep_call *call)
{
    return atomic_load_explicit(&call->where, memory_order_relaxed) >> 2;
}

static inline void ep_call_put(struct ep_call *call, enum ep_place place, uint64_t position)
{
    /* Release: what kind of call it is was written before. */
    atomic_store_explicit(&call->where, position << 2 | (uint64_t)place, memory_order_release);
}

#define EP_CALL_CHUNK 256u
#define EP_CALL_CHUNKS 4096u

/* Takes a free entry for a call of the calling process, SPINNING; op and bytes are left to the
 * caller. A nested call is made in a callback. NULL: no memory or too many calls. */
struct ep_call *ep_call_begin(struct ep_lane *lane, ErlNifEnv *env, bool is_nested);

/* Gives an entry back and makes its id stale. Only its present owner may. */
void ep_call_free(struct ep_lane *lane, struct ep_call *call);

/* Gives the call the arrays of its request; NULL: takes them from it. */
static inline void ep_call_set_cargo(struct ep_call *call, struct ep_cargo *cargo)
{
    call->had_arrays |= cargo != NULL;
    call->cargo = cargo;
}

/* Gives it the arrays of an outcome that is not published yet; then says that it is about to be.
 * Under the producer lock. */
void ep_call_set_next_answer(struct ep_call *call, struct ep_cargo *cargo);
void ep_call_hand_over(struct ep_call *call);

/* Lets the arrays of the last outcome that was published go. Any thread. */
void ep_call_end_answer(struct ep_call *call);

/* The id that crosses the rings. */
uint64_t ep_call_id(const struct ep_call *call);

/* Finds the entry of an id, or NULL if the id is stale or never was. */
struct ep_call *ep_call_find(struct ep_lane *lane, uint64_t id);

/* The i-th entry of the table, for walks under the producer lock. */
struct ep_call *ep_call_at(struct ep_lane *lane, uint32_t i);

/* Stores the outcome of a call and tells its caller, if it waits. By the holder
 * of the consumer lock. What the reply holds goes with it, unless this returns false:
 * the call has an outcome already. */
bool ep_call_deliver(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                     struct ep_reply *reply);

/* Ends a call whose caller has not yet collected the CALLBACK that is there. By the holder
 * of the consumer lock; the rest as ep_call_deliver(). False: no memory. */
bool ep_call_overtake(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                      struct ep_reply *reply);

/* Tells the caller of a stream, if it has parked, that there are items. By the holder of the
 * consumer lock. */
void ep_call_rouse(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call);

/* Ends what the call knows of its belt. gives_back: the worker has ended the stream and got no
 * block back yet. By the owner of the call. */
void ep_call_drop_belt(struct ep_lane *lane, struct ep_call *call, bool gives_back);

/* Whether the outcome is that of the worker itself, after which it uses the belt no more. */
static inline bool ep_reply_is_final(const struct ep_msg *msg)
{
    return msg->kind < EP_FAILED_DIED && msg->kind != EP_KIND_CALLBACK;
}

/* Whether the caller has something to collect. */
bool ep_call_is_done(const struct ep_call *call);

/* Makes an OVERTAKEN call one that is DONE with its end. The owner. */
void ep_call_settle(struct ep_lane *lane, struct ep_call *call);

/* Notes that nobody will run the callback that a call asks for: it will be interrupted, see
 * ep_outbox_refuse(). By the holder of the consumer lock. */
void ep_call_refuse(struct ep_lane *lane, struct ep_call *call);

/* Ends a call whose worker process or context has ended: delivers the failure, or, if the
 * caller has a CALLBACK to collect first, dooms the call. By the holder of the producer and
 * the consumer lock. No reply of a worker finds the call after this. */
void ep_call_fail(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                  const struct ep_reply *failure);

/* What a doomed call ends with. Under the producer lock. */
struct ep_reply ep_call_end(const struct ep_call *call);

/* Frees an ABANDONED call, unless it has been freed meanwhile. */
bool ep_call_free_abandoned(struct ep_lane *lane, struct ep_call *call);

/* A reply beyond this size is decoded on a dirty scheduler, unless it is one binary. */
#define EP_REPLY_DIRTY (64u << 10)

/* Takes a message out of the consumer's hands: keeps the host whose block holds
 * the payload. ret_reply->msg may be msg itself. */
void ep_reply_take(struct ep_lane *lane, const struct ep_msg *msg, struct ep_reply *ret_reply);

/* Hands the payload's block back, unread or read. */
void ep_reply_drop(struct ep_lane *lane, struct ep_reply *reply);

/* One compare-and-swap of the state. */
bool ep_call_move(struct ep_call *call, enum ep_call_state from, enum ep_call_state to);

/* Hands the payload block of a reply back to the worker. Does nothing for others. */
void ep_call_release_block(struct ep_lane *lane, struct ep_host *host, const struct ep_msg *msg);

/* Up to where the worker has taken each ring. */
struct ep_taken {
    uint64_t call, urgent;
};

/* Under the producer lock, attached. */
struct ep_taken ep_taken_of(const struct ep_lane *lane);

/* Whether the worker had taken the call. Under the producer lock. */
bool ep_call_has_started(const struct ep_call *call, const struct ep_taken *taken);

/* Whether it lies in one of the rings of its lane, read or unread. */
static inline bool ep_call_is_in_ring(const struct ep_call *call)
{
    enum ep_place place = ep_call_place(call);

    return place == EP_PLACE_CALL || place == EP_PLACE_URGENT;
}

/* Marks a call that waits in a ring, so that the worker does not start it. id: the call's, for
 * a late reply may free the entry meanwhile. Under the producer lock, attached. */
void ep_call_mark_cancelled(struct ep_lane *lane, const struct ep_call *call, uint64_t id);

/* Fails every open call; reply: how, but for aux, which says whether the call had started:
 * taken says up to where, NULL: none had. Under the producer and the consumer lock. */
void ep_calls_fail(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_reply *reply,
                   const struct ep_taken *taken);

/* Whether the worker has still something to do for the call, or may think so. Under the
 * producer and the consumer lock. */
bool ep_call_is_open(const struct ep_call *call);

#endif

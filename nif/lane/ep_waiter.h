/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WAITER_H
#define EP_WAITER_H

/*
 * ep_waiter - who waits for an object to have something, and how to wake it.
 *
 *   who                         waits for                              is gone when
 *   a call, with a question     ANSWER on its lane                     interrupted, or ended
 *   a Python thread, coroutine  ANSWER on the control lane             its process has ended
 *   an Erlang process           the message {py_object, Tag}           it has ended
 *
 * A waiter is woken, and then takes what there is with a question of its own: so a waiter that is
 * interrupted, or dies, loses nothing.
 *
 * Ownership  a waiter holds what it names; ep_waiter_wake() and ep_waiter_drop() end that.
 * Threads    any, with no lock held; who says otherwise holds a lock of a host at most.
 */

#include "ep_layout.h"
#include "ep_vm.h"

enum ep_waiter_kind { EP_WAITER_NONE, EP_WAITER_CALL, EP_WAITER_THREAD, EP_WAITER_PROCESS };

struct ep_waiter {
    uint8_t kind;
    void *who;            /* CALL: the lane; THREAD: the asker; kept */
    uint64_t id;          /* CALL: of the call; THREAD: of the question */
    uint64_t number;      /* CALL: of the question; THREAD: of the process */
    uint64_t position;    /* of a buffer: there has to be more than that */
    uint64_t deadline_ns; /* 0: none */
    ErlNifPid pid;        /* PROCESS */
    ErlNifEnv *env;       /* holds tag */
    ERL_NIF_TERM tag;
};

/* What only the rooms above know of Python threads. Set when the library is loaded. */
struct ep_waiter_threads {
    bool (*is_there)(void *asker);
    void (*wake)(void *asker, enum ep_status status);
    /* Releases it later, in the reaper, without a lock. */
    void (*drop)(void *asker);
    void (*release)(struct ep_vm *vm);
};
extern struct ep_waiter_threads ep_waiter_threads;

/* Whether it still waits. Takes the producer lock of a lane, or arrays->lock. */
bool ep_waiter_is_there(const struct ep_waiter *waiter, ErlNifEnv *env);

/* Wakes it, and ends what it holds. caller_env: of the calling process; NULL: no scheduler. */
void ep_waiter_wake(struct ep_waiter *waiter, ErlNifEnv *caller_env, enum ep_status status);

/* Ends what it holds. A lock of a host may be held. */
void ep_waiter_drop(struct ep_waiter *waiter);

#endif

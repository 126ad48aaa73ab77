/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SLOTS_H
#define EP_SLOTS_H

/*
 * ep_slots - the limit of requests that run at the same time on this node.
 *
 * A slot is one count of a word that all callers share: taking a free one is one
 * compare-and-swap, giving it back one subtraction, as long as nobody waits. Who
 * waits stands in a list, in order of arrival. The number of those who wait lies in
 * the same word, so the two sides need no further order: after the waiter has counted
 * itself, every release sees it, and every release before that left a slot that the
 * waiter finds. Whoever changes the word while somebody waits goes on under the lock.
 *
 * Offers     a slot that a request gives back is offered to the first in line, which is
 *            woken for it and claims it when its turn of the scheduler comes. Until then
 *            whoever runs may use the slot: handed over at once it would lie idle for
 *            that long, and each request would cost all callers a wake-up. Who finds
 *            none when it claims insists: while anybody does, nobody is let past the
 *            line, and what comes free is handed to the first in it. So one in line is
 *            passed only between its offer and its next turn. Who wants a slot to hold
 *            it insists from the beginning.
 * Passes     that alone keeps a line of 1000 standing behind the few who run: it moves by
 *            an offer for each slot, then waits until those have had their turn. So each
 *            process passes it a number of times only, then gets in line itself, and has
 *            that number again when it has come to its turn. The count is kept for those
 *            who ran last.
 * Invariant  when the lock is free and nobody insists, at least as many are offered a
 *            slot as there are free ones, or everybody in line is; if somebody insists,
 *            no slot is free. A release that has not come to the lock yet may have broken
 *            it. Whatever else could ends in serve(), so no offer is ever lost: one that
 *            is given up, by death or a timeout, passes to the next.
 * Ownership  a slot taken by ep_slots_try() is the caller's to give back. A slot
 *            reference gives back what it holds when its process dies: a copy of the
 *            reference, as in a crash report, must not keep the slot.
 * Threads    any.
 */

#include "ep_vm.h"

void ep_slots_init(struct ep_slots *slots, uint32_t max);

/* Takes a slot if one is free, nobody insists on it, and the calling process may pass those
 * in line. */
bool ep_slots_try(struct ep_slots *slots, ErlNifEnv *env);

/* At the end of a request. */
void ep_slots_release(struct ep_slots *slots, ErlNifEnv *caller_env);

/* Lets in who fits now; more than max stay until they have ended. */
void ep_slots_set_max(struct ep_slots *slots, ErlNifEnv *caller_env, uint32_t max);

uint32_t ep_slots_current(const struct ep_slots *slots);
uint32_t ep_slots_waiting(const struct ep_slots *slots);

/* A slot that a process holds or waits for. */
struct ep_slot_ref {
    struct ep_vm *vm;
    enum ep_slot_state {
        EP_SLOT_WAITING,
        EP_SLOT_OFFERED,   /* in line, has its message, has not had its turn */
        EP_SLOT_INSISTING, /* in line, gets the next slot when it is the first */
        EP_SLOT_HELD,
        EP_SLOT_GONE,
    } state;        /* under slots->lock */
    bool is_holder; /* no request: insists, and hands over what it gives back */
    struct ep_slot_ref *next;
    uint32_t passes; /* may run so many past the line after its turn; set once in line */
    ErlNifPid pid;
    ErlNifEnv *env;       /* holds message; WAITING, INSISTING */
    ERL_NIF_TERM message; /* {py_slot, Tag} */
};

/* Takes a slot, or waits in line for one (*ret_waits): the calling process gets
 * {py_slot, Tag} when a holder has its slot, or a request is to claim its own. Returns a
 * reference, or NULL without memory. */
struct ep_slot_ref *ep_slot_ref_create(ErlNifEnv *env, struct ep_vm *vm, ERL_NIF_TERM tag,
                                       bool is_holder, bool *ret_waits);

/* After the message. False: not yet, there will be another {py_slot, Tag}. */
bool ep_slot_ref_claim(struct ep_slot_ref *ref, ErlNifEnv *env, ERL_NIF_TERM tag);

/* Gives the slot, or the place in the line, back. Returns what it was. */
enum ep_slot_state ep_slot_ref_end(struct ep_slot_ref *ref, ErlNifEnv *caller_env);

void ep_slot_ref_destroy(ErlNifEnv *env, void *object);
void ep_slot_ref_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SLOTS_H
#define EP_SLOTS_H

/*
 * ep_slots - the limit of requests that run at the same time on this node.
 *
 * A slot is the permission to run one request. One word counts the slots in use and the
 * processes in line. Without a line a caller takes a slot with one compare-and-swap and
 * gives it back with one subtraction. With a line, changes go on under the lock.
 *
 *   state      event                                    next       why
 *   -          no slot is free                          WAITING    order of arrival
 *   WAITING    a request gives a slot back              OFFERED    the process is woken
 *   OFFERED    its turn on the scheduler, a slot free   HELD
 *   OFFERED    its turn, no slot is free                INSISTING  it was passed once; no more
 *   INSISTING  a slot comes free, it is first in line   HELD       handed over
 *   any        its process dies or gives up             GONE       slot or offer passes on
 *
 * Offers     until an offered process has its turn, any running process may use the slot.
 *            Handed over at once, the slot would lie idle that long, and each request
 *            would cost a wake-up. While a process insists, no process passes the line.
 *            So a process in line is passed only between its offer and its next turn. A
 *            process that wants a slot to hold it insists from the beginning.
 * Passes     offers alone keep a line of 1000 standing behind the few processes that run:
 *            the line moves by one offer for each slot, then waits for their turns. So a
 *            process passes the line a number of times, then gets in line itself. After
 *            its turn it has that number again. The count is kept for the processes that
 *            ran last.
 * Invariant  holds while the lock is free, but for a release on its way to the lock. If no
 *            process insists, at least as many processes are offered a slot as slots are
 *            free, or the whole line is. If one insists, no slot is free. Every other
 *            change ends in serve(), so no offer is lost.
 * Order      both counts lie in one word. A release after the waiter has counted itself
 *            sees the waiter; a release before left a slot that the waiter finds.
 * Ownership  the caller of ep_slots_try() gives its slot back. A slot reference gives its
 *            slot back when its process dies: a copy of the reference, as in a crash
 *            report, must not keep the slot.
 * Threads    any.
 */

#include "ep_vm.h"

void ep_slots_init(struct ep_slots *slots, uint32_t max);

/* Takes a slot if one is free, no process insists, and the calling process may pass the
 * line. */
bool ep_slots_try(struct ep_slots *slots, ErlNifEnv *env);

/* At the end of a request. */
void ep_slots_release(struct ep_slots *slots, ErlNifEnv *caller_env);

/* With a higher max, lets processes in line in at once. With a lower one, running requests
 * go on to their end. */
void ep_slots_set_max(struct ep_slots *slots, ErlNifEnv *caller_env, uint32_t max);

uint32_t ep_slots_current(const struct ep_slots *slots);
uint32_t ep_slots_waiting(const struct ep_slots *slots);

/* A slot that a process holds or waits for. */
struct ep_slot_ref {
    struct ep_vm *vm;
    enum ep_slot_state {
        EP_SLOT_WAITING,
        EP_SLOT_OFFERED,   /* in line, its message is sent, its turn has not come */
        EP_SLOT_INSISTING, /* in line, gets the next slot when it is the first */
        EP_SLOT_HELD,
        EP_SLOT_GONE,
    } state;        /* under slots->lock */
    bool is_holder; /* no request: insists, and hands its slot over at the end */
    struct ep_slot_ref *next;
    uint32_t passes; /* how often it may pass the line after its turn; set once in line */
    ErlNifPid pid;
    ErlNifEnv *env;       /* holds message; WAITING, INSISTING */
    ERL_NIF_TERM message; /* {py_slot, Tag} */
};

/* Takes a slot, or puts the calling process in line (*ret_waits). In line the process gets
 * {py_slot, Tag}: a holder has its slot then, a request has to claim its slot. Returns a
 * reference, or NULL without memory. */
struct ep_slot_ref *ep_slot_ref_create(ErlNifEnv *env, struct ep_vm *vm, ERL_NIF_TERM tag,
                                       bool is_holder, bool *ret_waits);

/* Claims a slot after the message. False: the process insists now, and gets another
 * {py_slot, Tag}. */
bool ep_slot_ref_claim(struct ep_slot_ref *ref, ErlNifEnv *env, ERL_NIF_TERM tag);

/* Gives the slot, or the place in line, back. Returns the state before. */
enum ep_slot_state ep_slot_ref_end(struct ep_slot_ref *ref, ErlNifEnv *caller_env);

void ep_slot_ref_destroy(ErlNifEnv *env, void *object);
void ep_slot_ref_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

#endif

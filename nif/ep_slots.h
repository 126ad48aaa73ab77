/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SLOTS_H
#define EP_SLOTS_H

/*
 * ep_slots - the limit of requests that run at the same time on this node.
 *
 * A slot is one count of a word that all callers share: taking a free one is one
 * compare-and-swap, giving it back one subtraction, as long as nobody waits. Who
 * waits stands in a list, in order of arrival; whoever gives a slot back hands it
 * to the first of them. The number of those who wait lies in the same word, so the
 * two sides need no further order: after the waiter has counted itself, every
 * release sees it, and every release before that left a slot that the waiter finds.
 *
 * Ownership  a slot taken by ep_slots_try() is the caller's to give back. A slot
 *            reference gives back what it holds when its process dies: a copy of the
 *            reference, as in a crash report, must not keep the slot.
 * Threads    any.
 */

#include "ep_vm.h"

void ep_slots_init(struct ep_slots *slots, uint32_t max);

/* Takes a slot if one is free and nobody waits for it. */
bool ep_slots_try(struct ep_slots *slots);

void ep_slots_release(struct ep_slots *slots, ErlNifEnv *caller_env);

/* Lets in who fits now; more than max stay until they have ended. */
void ep_slots_set_max(struct ep_slots *slots, ErlNifEnv *caller_env, uint32_t max);

uint32_t ep_slots_current(const struct ep_slots *slots);
uint32_t ep_slots_waiting(const struct ep_slots *slots);

/* A slot that a process holds or waits for. */
struct ep_slot_ref {
    struct ep_vm *vm;
    enum { EP_SLOT_WAITING, EP_SLOT_HELD, EP_SLOT_GONE } state; /* under slots->lock */
    struct ep_slot_ref *next;
    ErlNifPid pid;
    ErlNifEnv *env;       /* holds message; WAITING */
    ERL_NIF_TERM message; /* {py_slot, Tag} */
};

/* Takes a slot, or waits in line for one (*ret_waits): the calling process gets
 * {py_slot, Tag} when it is its turn. Returns a reference, or NULL without memory. */
struct ep_slot_ref *ep_slot_ref_create(ErlNifEnv *env, struct ep_vm *vm, ERL_NIF_TERM tag,
                                       bool *ret_waits);

/* Gives the slot, or the place in the line, back. Returns whether it was held. */
bool ep_slot_ref_end(struct ep_slot_ref *ref, ErlNifEnv *caller_env);

void ep_slot_ref_destroy(ErlNifEnv *env, void *object);
void ep_slot_ref_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_slots.h"

#include "ep_atoms.h"
#include "ep_hash.h"

#include <string.h>

ErlNifResourceType *ep_slot_type;

#define ONE_WAITS (UINT64_C(1) << 32)

/* How many requests a process may run past the line before it gets in line itself. It is
 * then woken once for so many requests; docs/decisions/0006-slots-are-offered.md has the
 * figures for other numbers. */
#define PASSES 32
#define MAX_PASSES (4 * PASSES)

void ep_slots_init(struct ep_slots *slots, uint32_t max)
{
    atomic_init(&slots->word, 0);
    atomic_init(&slots->max, max);
    slots->offered = slots->insisting = 0;
    memset(slots->passes, 0, sizeof(slots->passes));
    pthread_mutex_init(&slots->lock, NULL);
    slots->first = NULL;
    slots->last = &slots->first;
}

static bool has_room(const struct ep_slots *slots)
{
    return (uint32_t)atomic_load_explicit(&slots->word, memory_order_relaxed)
           < atomic_load_explicit(&slots->max, memory_order_relaxed);
}

/* How often the process may pass the line still; under the lock. Processes share a place,
 * and who comes to another's begins anew: that errs on the side of passing. */
static uint32_t *passes_of(struct ep_slots *slots, ErlNifEnv *env, const ErlNifPid *pid)
{
    ERL_NIF_TERM term = enif_make_pid(env, pid);
    struct ep_slot_passes *entry =
        &slots->passes[ep_hash_number(term) >> (64 - EP_SLOT_PASSES_BITS)];

    if (entry->pid != term)
        *entry = (struct ep_slot_passes){.pid = term, .left = PASSES};
    return &entry->left;
}

/* Takes a slot although somebody waits. */
static bool pass_line(struct ep_slots *slots, ErlNifEnv *env)
{
    ErlNifPid self;

    (void)enif_self(env, &self);
    pthread_mutex_lock(&slots->lock);
    uint32_t *left = passes_of(slots, env, &self);
    bool may = *left > 0 && slots->insisting == 0 && has_room(slots);
    /* The room stays: while somebody waits slots are taken under the lock only. If
     * nobody does any more, a try without the lock may have been faster. */
    if (may && slots->first != NULL) {
        atomic_fetch_add_explicit(&slots->word, 1, memory_order_acq_rel);
        (*left)--;
    } else {
        may = false;
    }
    pthread_mutex_unlock(&slots->lock);
    return may;
}

/* Takes a slot if one is free and nobody waits. */
static bool try_free(struct ep_slots *slots)
{
    uint64_t word = atomic_load_explicit(&slots->word, memory_order_relaxed);

    /* Somebody waits: the word is at least ONE_WAITS, which no max reaches. */
    while (word < atomic_load_explicit(&slots->max, memory_order_relaxed)) {
        if (atomic_compare_exchange_weak_explicit(&slots->word, &word, word + 1,
                                                  memory_order_acq_rel, memory_order_relaxed))
            return true;
    }
    return false;
}

bool ep_slots_try(struct ep_slots *slots, ErlNifEnv *env)
{
    return try_free(slots) || (has_room(slots) && pass_line(slots, env));
}

uint32_t ep_slots_current(const struct ep_slots *slots)
{
    return (uint32_t)atomic_load_explicit(&slots->word, memory_order_relaxed);
}

uint32_t ep_slots_waiting(const struct ep_slots *slots)
{
    return (uint32_t)(atomic_load_explicit(&slots->word, memory_order_relaxed) >> 32);
}

/* Under the lock, as all that follow. */
static void send_message(struct ep_slot_ref *ref, ErlNifEnv *caller_env)
{
    /* To a process that has just died: its reference is collected soon, and gives up
     * what it has. */
    (void)enif_send(caller_env, &ref->pid, ref->env, ref->message);
    enif_free_env(ref->env);
    ref->env = NULL;
}

static void make_message(struct ep_slot_ref *ref, ERL_NIF_TERM tag)
{
    ref->env = enif_alloc_env();
    ref->message = enif_make_tuple2(ref->env, am_py_slot, enif_make_copy(ref->env, tag));
}

/* Changes the state of one in line. */
static void move(struct ep_slots *slots, struct ep_slot_ref *ref, enum ep_slot_state state)
{
    slots->offered += (state == EP_SLOT_OFFERED) - (ref->state == EP_SLOT_OFFERED);
    slots->insisting += (state == EP_SLOT_INSISTING) - (ref->state == EP_SLOT_INSISTING);
    ref->state = state;
}

/* Gives the first in line a slot, for which there is room. */
static void hand_over(struct ep_slots *slots, ErlNifEnv *caller_env)
{
    struct ep_slot_ref *ref = slots->first;

    slots->first = ref->next;
    if (slots->first == NULL)
        slots->last = &slots->first;
    atomic_fetch_add_explicit(&slots->word, 1 - ONE_WAITS, memory_order_acq_rel);
    if (ref->state != EP_SLOT_OFFERED)
        send_message(ref, caller_env);
    *passes_of(slots, caller_env, &ref->pid) = ref->passes;
    move(slots, ref, EP_SLOT_HELD);
}

static void offer(struct ep_slots *slots, ErlNifEnv *caller_env)
{
    uint64_t max = atomic_load_explicit(&slots->max, memory_order_relaxed);
    uint32_t in_use = ep_slots_current(slots);

    if (in_use + (uint64_t)slots->offered >= max)
        return;
    for (struct ep_slot_ref *ref = slots->first;
         ref != NULL && in_use + (uint64_t)slots->offered < max; ref = ref->next) {
        if (ref->state != EP_SLOT_WAITING)
            continue;
        send_message(ref, caller_env);
        move(slots, ref, EP_SLOT_OFFERED);
    }
}

/* Restores the invariant. */
static void serve(struct ep_slots *slots, ErlNifEnv *caller_env)
{
    while (slots->insisting > 0 && has_room(slots))
        hand_over(slots, caller_env);
    if (slots->insisting == 0)
        offer(slots, caller_env);
}

void ep_slots_release(struct ep_slots *slots, ErlNifEnv *caller_env)
{
    uint64_t before = atomic_fetch_sub_explicit(&slots->word, 1, memory_order_acq_rel);

    if (before < ONE_WAITS)
        return;
    pthread_mutex_lock(&slots->lock);
    serve(slots, caller_env);
    pthread_mutex_unlock(&slots->lock);
}

/* What was held for something else goes to the first in line at once: its holder goes on
 * to other work, so nobody is likely to use it meanwhile. */
static void release_held(struct ep_slots *slots, ErlNifEnv *caller_env)
{
    pthread_mutex_lock(&slots->lock);
    atomic_fetch_sub_explicit(&slots->word, 1, memory_order_acq_rel);
    if (slots->first != NULL && has_room(slots))
        hand_over(slots, caller_env);
    serve(slots, caller_env);
    pthread_mutex_unlock(&slots->lock);
}

void ep_slots_set_max(struct ep_slots *slots, ErlNifEnv *caller_env, uint32_t max)
{
    pthread_mutex_lock(&slots->lock);
    atomic_store_explicit(&slots->max, max, memory_order_relaxed);
    serve(slots, caller_env);
    pthread_mutex_unlock(&slots->lock);
}

static void get_in_line(struct ep_slots *slots, ErlNifEnv *caller_env, struct ep_slot_ref *ref)
{
    pthread_mutex_lock(&slots->lock);
    *slots->last = ref;
    slots->last = &ref->next;
    atomic_fetch_add_explicit(&slots->word, ONE_WAITS, memory_order_acq_rel);
    move(slots, ref, ref->is_holder ? EP_SLOT_INSISTING : EP_SLOT_WAITING);
    /* What is left adds up: who found the slots full had less of its turn than others. */
    ref->passes = PASSES + *passes_of(slots, caller_env, &ref->pid);
    if (ref->passes > MAX_PASSES)
        ref->passes = MAX_PASSES;
    /* A slot may have become free since the try. */
    serve(slots, caller_env);
    pthread_mutex_unlock(&slots->lock);
}

struct ep_slot_ref *ep_slot_ref_create(ErlNifEnv *env, struct ep_vm *vm, ERL_NIF_TERM tag,
                                       bool is_holder, bool *ret_waits)
{
    struct ep_slots *slots = &vm->slots;
    struct ep_slot_ref *ref = enif_alloc_resource(ep_slot_type, sizeof(*ref));

    if (ref == NULL)
        return NULL;
    *ref = (struct ep_slot_ref){.vm = vm, .state = EP_SLOT_HELD, .is_holder = is_holder};
    (void)enif_self(env, &ref->pid);
    /* The process runs this, so it is alive. */
    (void)enif_monitor_process(env, ref, &ref->pid, NULL);
    *ret_waits = !(is_holder ? try_free(slots) : ep_slots_try(slots, env));
    if (*ret_waits) {
        make_message(ref, tag);
        get_in_line(slots, env, ref);
    }
    return ref;
}

bool ep_slot_ref_claim(struct ep_slot_ref *ref, ErlNifEnv *env, ERL_NIF_TERM tag)
{
    struct ep_slots *slots = &ref->vm->slots;

    pthread_mutex_lock(&slots->lock);
    /* Those before it that have not had their turn come before it still. */
    while (ref->state == EP_SLOT_OFFERED && has_room(slots))
        hand_over(slots, env);
    if (ref->state == EP_SLOT_OFFERED) {
        make_message(ref, tag);
        move(slots, ref, EP_SLOT_INSISTING);
    }
    /* Before serve(), which hands over with a message: a release, which needs no lock,
     * may just have made room. */
    bool is_held = ref->state == EP_SLOT_HELD;
    serve(slots, env);
    pthread_mutex_unlock(&slots->lock);
    return is_held;
}

/* Takes ref out of the line. Under the lock. */
static void leave_line(struct ep_slots *slots, struct ep_slot_ref *ref)
{
    struct ep_slot_ref **at = &slots->first;

    while (*at != ref)
        at = &(*at)->next;
    *at = ref->next;
    if (*at == NULL)
        slots->last = at;
    atomic_fetch_sub_explicit(&slots->word, ONE_WAITS, memory_order_acq_rel);
    if (ref->env != NULL)
        enif_free_env(ref->env);
    ref->env = NULL;
}

static bool is_in_line(enum ep_slot_state state)
{
    return state == EP_SLOT_WAITING || state == EP_SLOT_OFFERED || state == EP_SLOT_INSISTING;
}

enum ep_slot_state ep_slot_ref_end(struct ep_slot_ref *ref, ErlNifEnv *caller_env)
{
    struct ep_slots *slots = &ref->vm->slots;

    pthread_mutex_lock(&slots->lock);
    enum ep_slot_state state = ref->state;
    if (is_in_line(state))
        leave_line(slots, ref);
    move(slots, ref, EP_SLOT_GONE);
    /* Its offer goes to the next, and it insists no more. */
    if (is_in_line(state))
        serve(slots, caller_env);
    pthread_mutex_unlock(&slots->lock);
    if (state == EP_SLOT_HELD)
        (ref->is_holder ? release_held : ep_slots_release)(slots, caller_env);
    return state;
}

void ep_slot_ref_destroy(ErlNifEnv *env, void *object)
{
    struct ep_slot_ref *ref = object;

    if (ref->vm != NULL)
        (void)ep_slot_ref_end(ref, env);
}

void ep_slot_ref_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)pid;
    (void)monitor;
    (void)ep_slot_ref_end(object, env);
}

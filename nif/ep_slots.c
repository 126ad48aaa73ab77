/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_slots.h"

#include "ep_atoms.h"

#define ONE_WAITS (UINT64_C(1) << 32)

void ep_slots_init(struct ep_slots *slots, uint32_t max)
{
    atomic_init(&slots->word, 0);
    atomic_init(&slots->max, max);
    pthread_mutex_init(&slots->lock, NULL);
    slots->first = NULL;
    slots->last = &slots->first;
}

bool ep_slots_try(struct ep_slots *slots)
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

uint32_t ep_slots_current(const struct ep_slots *slots)
{
    return (uint32_t)atomic_load_explicit(&slots->word, memory_order_relaxed);
}

uint32_t ep_slots_waiting(const struct ep_slots *slots)
{
    return (uint32_t)(atomic_load_explicit(&slots->word, memory_order_relaxed) >> 32);
}

/* Counts one more in use and one fewer that waits, if there is room. Under the lock,
 * which those who wait change their number under. */
static bool admit(struct ep_slots *slots)
{
    uint64_t word = atomic_load_explicit(&slots->word, memory_order_relaxed);

    while ((uint32_t)word < atomic_load_explicit(&slots->max, memory_order_relaxed)) {
        if (atomic_compare_exchange_weak_explicit(&slots->word, &word, word + 1 - ONE_WAITS,
                                                  memory_order_acq_rel, memory_order_relaxed))
            return true;
    }
    return false;
}

/* Hands free slots to the first in line. Under the lock. */
static void grant(struct ep_slots *slots, ErlNifEnv *caller_env)
{
    while (slots->first != NULL && admit(slots)) {
        struct ep_slot_ref *ref = slots->first;
        slots->first = ref->next;
        if (slots->first == NULL)
            slots->last = &slots->first;
        ref->state = EP_SLOT_HELD;
        /* To a process that has just died: its reference is collected soon, and gives
         * the slot back. */
        (void)enif_send(caller_env, &ref->pid, ref->env, ref->message);
        enif_free_env(ref->env);
        ref->env = NULL;
    }
}

void ep_slots_release(struct ep_slots *slots, ErlNifEnv *caller_env)
{
    uint64_t before = atomic_fetch_sub_explicit(&slots->word, 1, memory_order_acq_rel);

    if (before < ONE_WAITS)
        return;
    pthread_mutex_lock(&slots->lock);
    grant(slots, caller_env);
    pthread_mutex_unlock(&slots->lock);
}

void ep_slots_set_max(struct ep_slots *slots, ErlNifEnv *caller_env, uint32_t max)
{
    pthread_mutex_lock(&slots->lock);
    atomic_store_explicit(&slots->max, max, memory_order_relaxed);
    grant(slots, caller_env);
    pthread_mutex_unlock(&slots->lock);
}

struct ep_slot_ref *ep_slot_ref_create(ErlNifEnv *env, struct ep_vm *vm, ERL_NIF_TERM tag,
                                       bool *ret_waits)
{
    struct ep_slots *slots = &vm->slots;
    struct ep_slot_ref *ref = enif_alloc_resource(ep_slot_type, sizeof(*ref));

    if (ref == NULL)
        return NULL;
    *ref = (struct ep_slot_ref){.vm = vm, .state = EP_SLOT_HELD};
    (void)enif_self(env, &ref->pid);
    /* The process runs this, so it is alive. */
    (void)enif_monitor_process(env, ref, &ref->pid, NULL);
    *ret_waits = !ep_slots_try(slots);
    if (!*ret_waits)
        return ref;
    ref->env = enif_alloc_env();
    ref->message = enif_make_tuple2(ref->env, am_py_slot, enif_make_copy(ref->env, tag));
    ref->state = EP_SLOT_WAITING;

    pthread_mutex_lock(&slots->lock);
    *slots->last = ref;
    slots->last = &ref->next;
    atomic_fetch_add_explicit(&slots->word, ONE_WAITS, memory_order_acq_rel);
    /* A slot may have become free since the try. */
    grant(slots, env);
    pthread_mutex_unlock(&slots->lock);
    return ref;
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
    enif_free_env(ref->env);
    ref->env = NULL;
}

bool ep_slot_ref_end(struct ep_slot_ref *ref, ErlNifEnv *caller_env)
{
    struct ep_slots *slots = &ref->vm->slots;

    pthread_mutex_lock(&slots->lock);
    bool was_held = ref->state == EP_SLOT_HELD;
    if (ref->state == EP_SLOT_WAITING)
        leave_line(slots, ref);
    ref->state = EP_SLOT_GONE;
    pthread_mutex_unlock(&slots->lock);
    if (was_held)
        ep_slots_release(slots, caller_env);
    return was_held;
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_remains.h"

#include "ep_object.h"
#include "ep_wake.h"

/* Pieces that are freed in one go: some 50 us; 100 of pages that were in use. */
#define BATCH 512u

/* What may be left to the reaper, about: it takes 10 to 20 ms for it. */
#define COST_MAX (1u << 17)
/* What one who adds to an object frees then, besides twice that: a chunk of a buffer, or some 7 us. */
#define PAY_MIN 64u
/* The most of it on a normal scheduler: some 300 us. A large binary is sent without a copy. */
#define PAY_MAX 2048u

static const struct ep_budget all_of_it = {.left = SIZE_MAX};

/* Frees as much as the budget allows. True: all of it. */
static bool free_some(struct ep_remains *remains, struct ep_budget *budget)
{
    for (unsigned i = 0; i < 2; i++) {
        while (remains->items[i] != NULL) {
            struct ep_item *next = remains->items[i]->next;
            if (!ep_item_free_some(remains->items[i], budget))
                return false;
            remains->items[i] = next;
        }
    }
    if (remains->dict != NULL && !ep_dict_free_some(remains->dict, budget))
        return false;
    remains->dict = NULL;
    if (remains->buffer != NULL && !ep_buffer_free_some(remains->buffer, budget))
        return false;
    remains->buffer = NULL;
    return true;
}

/* Frees what is left, of which nobody else knows. */
static void free_all(struct ep_remains *remains)
{
    struct ep_budget budget = all_of_it;

    (void)free_some(remains, &budget);
}

static void put(struct ep_objects *all, struct ep_remains *remains)
{
    pthread_mutex_lock(&all->lock);
    bool is_open = !all->remains_end;
    if (is_open) {
        remains->next = all->remains;
        all->remains = remains;
    }
    pthread_mutex_unlock(&all->lock);
    if (is_open)
        return;
    free_all(remains);
    enif_free(remains);
}

void ep_remains_leave(struct ep_vm *vm, const struct ep_remains *remains)
{
    struct ep_remains rest = *remains;
    struct ep_budget budget = {.left = BATCH, .is_strict = true};

    if (free_some(&rest, &budget))
        return;
    struct ep_remains *left = enif_alloc(sizeof(*left));
    if (left == NULL) {
        free_all(&rest);
        return;
    }
    *left = rest;
    /* Relaxed, as what follows: it says about how much there is. */
    atomic_fetch_add_explicit(&vm->objects->remains_cost, left->cost, memory_order_relaxed);
    put(vm->objects, left);
    ep_wake_reaper(vm);
}

static struct ep_remains *take(struct ep_objects *all)
{
    pthread_mutex_lock(&all->lock);
    struct ep_remains *remains = all->remains;
    if (remains != NULL)
        all->remains = remains->next;
    pthread_mutex_unlock(&all->lock);
    return remains;
}

/* Frees what the budget allows. True: there is more. */
static bool free_within(struct ep_objects *all, struct ep_budget budget)
{
    struct ep_remains *remains;

    while ((remains = take(all)) != NULL) {
        uint64_t before = budget.paid;
        bool is_all = free_some(remains, &budget);
        uint64_t paid = budget.paid - before;
        if (is_all || paid > remains->cost)
            paid = remains->cost;
        remains->cost -= paid;
        atomic_fetch_sub_explicit(&all->remains_cost, paid, memory_order_relaxed);
        if (!is_all) {
            put(all, remains);
            return true;
        }
        enif_free(remains);
    }
    return false;
}

bool ep_remains_free_some(struct ep_vm *vm)
{
    return free_within(vm->objects, (struct ep_budget){.left = BATCH});
}

void ep_remains_pay(struct ep_vm *vm, uint64_t bytes)
{
    struct ep_objects *all = vm->objects;

    if (atomic_load_explicit(&all->remains_cost, memory_order_relaxed) <= COST_MAX)
        return;
    struct ep_budget budget = {.left = PAY_MIN + 2 * ep_budget_cost(bytes), .is_strict = true};
    if (budget.left > PAY_MAX && enif_thread_type() == ERL_NIF_THR_NORMAL_SCHEDULER)
        budget.left = PAY_MAX;
    (void)free_within(all, budget);
}

void ep_remains_end(struct ep_vm *vm)
{
    pthread_mutex_lock(&vm->objects->lock);
    vm->objects->remains_end = true;
    pthread_mutex_unlock(&vm->objects->lock);
    (void)free_within(vm->objects, all_of_it);
}

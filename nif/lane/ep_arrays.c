/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_arrays.h"

#include "ep_crashpoint.h"
#include "ep_wake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What one process may hold: more than it can map is more than it needs. */
#define HOLDS_MAX (1u << 18)
#define LOOK_MS 500u

int ep_arrays_init(struct ep_vm *vm)
{
    struct ep_arrays *all = calloc(1, sizeof(*all));

    if (all == NULL)
        return -ENOMEM;
    all->vm = vm;
    all->next_segment = all->next_id = 1;
    all->most = UINT64_MAX;
    (void)pthread_mutex_init(&all->lock, NULL);
    vm->arrays = all;
    return 0;
}

void ep_arrays_forget(struct ep_vm *vm)
{
    if (vm->arrays == NULL)
        return;
    (void)pthread_mutex_destroy(&vm->arrays->lock);
    free(vm->arrays);
    vm->arrays = NULL;
}

/* --- arrays -------------------------------------------------------------------------- */

static struct ep_array *alloc_array(struct ep_vm *vm, const struct ep_array_info *info)
{
    struct ep_array *array = enif_alloc_resource(ep_array_type, sizeof(*array));

    if (array == NULL)
        return NULL;
    memset(array, 0, offsetof(struct ep_array, info));
    array->vm = vm;
    array->info = *info;
    array->info.what = EP_ARRAY_NAMED;
    array->is_monitored = false;
    atomic_init(&array->state, EP_ARRAY_SEALED);
    atomic_init(&array->is_shown, false);
    return array;
}

int ep_arrays_make(struct ep_vm *vm, const struct ep_array_info *info, struct ep_array **ret_array)
{
    struct ep_arrays *all = vm->arrays;
    struct ep_array *array = alloc_array(vm, info);

    if (array == NULL)
        return -ENOMEM;
    atomic_init(&array->state, EP_ARRAY_OPEN);
    pthread_mutex_lock(&all->lock);
    struct ep_segment *segment;
    int rc = ep_array_pool_take(all, info->nbytes, &segment, &array->block);
    if (rc == 0) {
        array->segment = segment;
        array->mem = (uint8_t *)segment->seg.mem + array->block;
        array->info.segment = segment->id;
        array->info.offset = array->block;
        array->info.id = all->next_id++;
        all->count++;
    }
    pthread_mutex_unlock(&all->lock);
    if (rc < 0)
        enif_release_resource(array);
    else
        *ret_array = array;
    return rc;
}

int ep_arrays_slice(struct ep_array *array, const struct ep_array_info *info,
                    struct ep_array **ret_array)
{
    struct ep_arrays *all = array->vm->arrays;
    struct ep_array *slice = alloc_array(array->vm, info);

    if (slice == NULL)
        return -ENOMEM;
    slice->root = array->root != NULL ? array->root : array;
    enif_keep_resource(slice->root);
    slice->segment = array->segment;
    slice->mem = array->mem + (info->offset - array->info.offset);
    pthread_mutex_lock(&all->lock);
    slice->info.id = all->next_id++;
    pthread_mutex_unlock(&all->lock);
    *ret_array = slice;
    return 0;
}

bool ep_arrays_is_own(const struct ep_array *array)
{
    return array->segment->is_own;
}

void ep_array_destroy(ErlNifEnv *env, void *object)
{
    struct ep_array *array = object;

    (void)env;
    if (array->root != NULL) {
        enif_release_resource(array->root);
        return;
    }
    if (array->segment == NULL)
        return;
    struct ep_arrays *all = array->vm->arrays;
    pthread_mutex_lock(&all->lock);
    all->count--;
    if (array->info.id >> EP_ARRAY_MAKER_SHIFT != 0)
        (void)ep_map_remove(&all->made, array->info.id);
    ep_array_pool_put(all, array->segment, array->block, array->info.id);
    pthread_mutex_unlock(&all->lock);
}

void ep_array_down(ErlNifEnv *env, void *object, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    struct ep_array *array = object;
    uint8_t state = EP_ARRAY_OPEN;

    (void)env;
    (void)pid;
    (void)monitor;
    (void)atomic_compare_exchange_strong(&array->state, &state, EP_ARRAY_LOST);
}

unsigned ep_arrays_holders(struct ep_array *array)
{
    struct ep_arrays *all = array->vm->arrays;
    unsigned n = 0;

    pthread_mutex_lock(&all->lock);
    for (const struct ep_host_arrays *h = all->hosts; h != NULL; h = h->next)
        n += ep_map_get(&h->holds, array->info.id) != NULL;
    pthread_mutex_unlock(&all->lock);
    return n;
}

/* --- hosts ------------------------------------------------------------------------------ */

int ep_arrays_add_host(struct ep_host *host, int socket)
{
    struct ep_arrays *all = host->vm->arrays;
    struct ep_host_arrays *h = calloc(1, sizeof(*h));

    if (h == NULL)
        return -ENOMEM;
    h->all = all;
    h->host = host;
    h->socket = socket;
    host->arrays = h;
    pthread_mutex_lock(&all->lock);
    h->next = all->hosts;
    all->hosts = h;
    pthread_mutex_unlock(&all->lock);
    return 0;
}

void ep_arrays_hang_up(struct ep_host *host)
{
    struct ep_host_arrays *h = host->arrays;

    if (h == NULL)
        return;
    pthread_mutex_lock(&h->all->lock);
    if (h->socket >= 0)
        (void)close(h->socket);
    h->socket = -1;
    pthread_mutex_unlock(&h->all->lock);
}

static void unlink_host(struct ep_host_arrays *h)
{
    struct ep_host_arrays **at = &h->all->hosts;

    while (*at != NULL && *at != h)
        at = &(*at)->next;
    if (*at == h)
        *at = h->next;
}

void ep_arrays_end_host(struct ep_host *host)
{
    struct ep_host_arrays *h = host->arrays;
    const struct ep_map_entry *entry;
    size_t at = 0;

    if (h == NULL)
        return;
    pthread_mutex_lock(&h->all->lock);
    h->dead = true;
    unlink_host(h);
    struct ep_map holds = h->holds, claims = h->claims;
    h->holds = h->claims = (struct ep_map){.n = 0};
    ep_map_finish(&h->shown);
    ep_array_pool_end(h);
    pthread_mutex_unlock(&h->all->lock);

    while ((entry = ep_map_walk(&holds, &at)) != NULL) {
        struct ep_hold *hold = entry->value;
        enif_release_resource(hold->array);
        free(hold);
    }
    ep_map_finish(&holds);
    at = 0;
    while ((entry = ep_map_walk(&claims, &at)) != NULL)
        ep_cargo_free(entry->value);
    ep_map_finish(&claims);
}

void ep_arrays_finish_host(struct ep_host *host)
{
    struct ep_host_arrays *h = host->arrays;

    if (h == NULL)
        return;
    ep_arrays_end_host(host);
    ep_arrays_hang_up(host);
    free(h->news);
    free(h->drops.items);
    free(h->ripe.items);
    free(h);
    host->arrays = NULL;
}

/* --- lending ------------------------------------------------------------------------------ */

/* The hold of an array, perhaps a new one. Under the lock. */
static struct ep_hold *hold_of(struct ep_host_arrays *h, struct ep_array *array)
{
    struct ep_hold *hold = ep_map_get(&h->holds, array->info.id);

    if (hold != NULL)
        return hold;
    if (h->holds.n >= HOLDS_MAX || ep_map_reserve(&h->holds) < 0)
        return NULL;
    hold = calloc(1, sizeof(*hold));
    if (hold == NULL)
        return NULL;
    hold->array = array;
    enif_keep_resource(array);
    (void)ep_map_set(&h->holds, array->info.id, hold);
    return hold;
}

/* Returns the array to be released, if nothing holds it for the process any more. */
static struct ep_array *let_go(struct ep_host_arrays *h, struct ep_hold *hold)
{
    struct ep_array *array = hold->array;

    if (hold->claims > 0 || hold->lent > 0)
        return NULL;
    (void)ep_map_remove(&h->holds, array->info.id);
    free(hold);
    return array;
}

/* The message does not count any more. Its cargo keeps the arrays yet. */
static void unlend(struct ep_cargo *cargo)
{
    struct ep_host_arrays *h = cargo->host->arrays;

    pthread_mutex_lock(&h->all->lock);
    for (uint32_t i = 0; i < cargo->n && !h->dead; i++) {
        struct ep_hold *hold = ep_map_get(&h->holds, cargo->arrays[i]->info.id);
        if (hold == NULL)
            continue;
        hold->lent--;
        struct ep_array *array = let_go(h, hold);
        if (array != NULL)
            enif_release_resource(array);
    }
    pthread_mutex_unlock(&h->all->lock);
    enif_release_resource(cargo->host);
    cargo->host = NULL;
}

int ep_arrays_lend(struct ep_host *host, struct ep_cargo *cargo)
{
    struct ep_host_arrays *h = host->arrays;
    int rc = 0;

    if (cargo == NULL || cargo->host == host)
        return 0;
    if (cargo->host != NULL)
        unlend(cargo);
    pthread_mutex_lock(&h->all->lock);
    if (h->dead)
        rc = -EAGAIN;
    uint32_t n = 0;
    for (; n < cargo->n && rc == 0; n++) {
        struct ep_array *array = cargo->arrays[n];
        rc = array->segment == NULL ? 0 : ep_array_pool_show(h, array->segment);
        if (rc < 0)
            break;
        struct ep_hold *hold = hold_of(h, array);
        if (hold == NULL) {
            rc = -ENOMEM;
            break;
        }
        hold->lent++;
    }
    if (rc < 0) {
        while (n-- > 0) {
            struct ep_hold *hold = ep_map_get(&h->holds, cargo->arrays[n]->info.id);
            if (hold == NULL)
                continue; /* of an array that the cargo has twice */
            hold->lent--;
            if (let_go(h, hold) != NULL)
                enif_release_resource(cargo->arrays[n]); /* the cargo keeps it yet */
        }
    }
    pthread_mutex_unlock(&h->all->lock);
    if (rc < 0)
        return rc;
    enif_keep_resource(host);
    cargo->host = host;
    EP_CRASHPOINT_PEER("vm.arrays_lent");
    return 0;
}

void ep_arrays_open(void)
{
    ep_cargo_unlend = unlend;
}

/* --- taking ----------------------------------------------------------------------------------- */

/* An array that a worker has just made, in a segment of its own. Under the lock. */
static int take_made(struct ep_host_arrays *h, const struct ep_array_info *info,
                     struct ep_hold **ret_hold)
{
    struct ep_arrays *all = h->all;
    struct ep_segment *segment = ep_array_pool_find(all, info->segment);

    if ((info->what & EP_ARRAY_OBJECT) != 0 || segment == NULL || segment->writer != h
        || info->offset > segment->seg.size || info->nbytes > segment->seg.size - info->offset
        || info->id >> EP_ARRAY_MAKER_SHIFT << EP_ARRAY_MAKER_SHIFT != ep_array_prefix(h->host->id)
        || info->id == ep_array_prefix(h->host->id) || ep_map_get(&all->made, info->id) != NULL)
        return -EPROTO;
    if (!segment->is_sealed && ep_seg_seal_writers(&segment->seg) == -EPERM)
        return -EPROTO;
    segment->is_sealed = true;
    if (ep_map_reserve(&all->made) < 0)
        return -ENOMEM;
    struct ep_array *array = alloc_array(all->vm, info);
    if (array == NULL)
        return -ENOMEM;
    struct ep_hold *hold = hold_of(h, array);
    if (hold == NULL) {
        enif_release_resource(array); /* SUBTLE: without a segment its end locks nothing */
        return -ENOMEM;
    }
    array->segment = segment;
    array->block = info->offset;
    array->mem = (uint8_t *)segment->seg.mem + info->offset;
    segment->arrays++;
    all->count++;
    (void)ep_map_set(&all->made, info->id, array);
    enif_release_resource(array); /* the hold has it */
    *ret_hold = hold;
    return 0;
}

static int take_one(struct ep_host_arrays *h, const struct ep_array_info *info,
                    struct ep_cargo **cargo)
{
    struct ep_hold *hold = ep_map_get(&h->holds, info->id);

    if (hold == NULL) {
        bool is_kept = (info->what & (EP_ARRAY_NAMED | EP_ARRAY_CLAIMED)) != 0;
        int rc =
            (info->what & EP_ARRAY_MADE) == 0 || !is_kept ? -EPROTO : take_made(h, info, &hold);
        if (rc < 0)
            return rc;
    }
    if ((info->what & EP_ARRAY_CLAIMED) != 0 && ++hold->claims == 0)
        return -EPROTO;
    if ((info->what & EP_ARRAY_NAMED) == 0)
        return 0;
    int64_t index = ep_cargo_put(cargo, hold->array);
    return index < 0 ? (int)index : 0;
}

/* Ends holds of what was made and given away, which the cargo has. Under the lock. */
static void let_go_of_given(struct ep_host_arrays *h, const struct ep_cargo *cargo)
{
    for (uint32_t i = 0; cargo != NULL && i < cargo->n; i++) {
        struct ep_hold *hold = ep_map_get(&h->holds, cargo->arrays[i]->info.id);
        struct ep_array *array = hold == NULL ? NULL : let_go(h, hold);
        if (array != NULL)
            enif_release_resource(array);
    }
}

int ep_arrays_take(struct ep_host *host, const uint8_t *payload, struct ep_msg *msg,
                   struct ep_cargo **ret_cargo)
{
    struct ep_host_arrays *h = host->arrays;
    struct ep_array_reader reader;
    struct ep_array_info info;
    size_t length;

    *ret_cargo = NULL;
    int rc = ep_array_read(&reader, payload, msg->length, &length);
    if (rc < 0 || reader.left > EP_CARGO_MAX)
        return -EPROTO;
    pthread_mutex_lock(&h->all->lock);
    if (h->dead)
        rc = -EPROTO;
    while (rc == 0 && (rc = ep_array_next(&reader, &info)) == 1)
        rc = take_one(h, &info, ret_cargo);
    let_go_of_given(h, *ret_cargo);
    pthread_mutex_unlock(&h->all->lock);
    EP_CRASHPOINT_PEER("vm.arrays_taken");
    msg->length = (uint32_t)length;
    msg->flags &= (uint16_t)~EP_FLAG_ARRAYS;
    if (rc == 0)
        return 0;
    ep_cargo_free(*ret_cargo);
    *ret_cargo = NULL;
    return -EPROTO; /* also without memory: the account of this process is lost */
}

/* --- the control lane -------------------------------------------------------------------------- */

static int note_drops(struct ep_host_arrays *h, const uint8_t *payload, size_t length)
{
    struct ep_drops *drops = &h->drops;
    size_t n = length / sizeof(struct ep_array_drop);

    if (length % sizeof(struct ep_array_drop) != 0 || n > HOLDS_MAX || drops->n + n > HOLDS_MAX)
        return -EPROTO;
    if (drops->n + n > drops->max) {
        size_t max = 2 * (drops->n + n);
        struct ep_array_drop *items = realloc(drops->items, max * sizeof(*items));
        if (items == NULL)
            return -EPROTO;
        drops->items = items;
        drops->max = max;
    }
    if (n > 0)
        memcpy(drops->items + drops->n, payload, n * sizeof(struct ep_array_drop));
    drops->n += n;
    return 0;
}

int ep_arrays_receive(struct ep_host *host, const struct ep_msg *msg, const uint8_t *payload)
{
    struct ep_host_arrays *h = host->arrays;
    int rc = -EPROTO;

    if (msg->aux == EP_ARRAYS_DROP)
        return note_drops(h, payload, msg->length);
    if (msg->length != 0)
        return -EPROTO;
    pthread_mutex_lock(&h->all->lock);
    if (msg->aux == EP_ARRAYS_NEED)
        rc = ep_array_pool_need(h, msg->subject);
    else if (msg->aux == EP_ARRAYS_GIVE)
        rc = ep_array_pool_give(h, msg->subject);
    pthread_mutex_unlock(&h->all->lock);
    return rc;
}

int ep_arrays_drop(struct ep_host *host, const struct ep_drops *drops)
{
    struct ep_host_arrays *h = host->arrays;
    int rc = 0;

    for (size_t i = 0; i < drops->n && rc == 0; i++) {
        struct ep_array *array = NULL;
        EP_CRASHPOINT_PEER("vm.arrays_dropped");
        pthread_mutex_lock(&h->all->lock);
        struct ep_hold *hold = ep_map_get(&h->holds, drops->items[i].id);
        if (h->dead) {
            i = drops->n;
        } else if (hold == NULL || drops->items[i].claims == 0
                   || hold->claims < drops->items[i].claims) {
            rc = -EPROTO;
        } else {
            hold->claims -= (uint32_t)drops->items[i].claims;
            array = let_go(h, hold);
        }
        pthread_mutex_unlock(&h->all->lock);
        if (array != NULL)
            enif_release_resource(array);
    }
    return rc;
}

int ep_arrays_keep_answer(struct ep_host *host, uint64_t question, struct ep_cargo *cargo)
{
    struct ep_host_arrays *h = host->arrays;

    pthread_mutex_lock(&h->all->lock);
    int rc = h->dead || question == 0 ? -ESTALE : ep_map_reserve(&h->claims);
    struct ep_cargo *old = rc == 0 ? ep_map_get(&h->claims, question) : NULL;
    if (rc == 0)
        rc = ep_map_set(&h->claims, question, cargo);
    pthread_mutex_unlock(&h->all->lock);
    ep_cargo_free(old);
    return rc;
}

void ep_arrays_end_answer(struct ep_host *host, uint64_t question)
{
    struct ep_host_arrays *h = host->arrays;

    pthread_mutex_lock(&h->all->lock);
    struct ep_cargo *cargo = question == 0 ? NULL : ep_map_remove(&h->claims, question);
    pthread_mutex_unlock(&h->all->lock);
    ep_cargo_free(cargo);
}

/* --- totals, and the reaper ---------------------------------------------------------------------- */

struct ep_arrays_totals ep_arrays_totals(struct ep_vm *vm)
{
    struct ep_arrays *all = vm->arrays;

    pthread_mutex_lock(&all->lock);
    struct ep_arrays_totals totals = {
        .count = all->count, .bytes = all->bytes, .high = all->high, .most = all->most};
    pthread_mutex_unlock(&all->lock);
    return totals;
}

void ep_arrays_set_max(struct ep_vm *vm, uint64_t most)
{
    pthread_mutex_lock(&vm->arrays->lock);
    vm->arrays->most = most;
    pthread_mutex_unlock(&vm->arrays->lock);
}

int ep_arrays_look(struct ep_vm *vm)
{
    struct ep_arrays *all = vm->arrays;

    if (!atomic_load_explicit(&all->has_news, memory_order_relaxed))
        return -1;
    uint64_t now = ep_clock_ns();
    if (all->looked_ns == 0)
        all->looked_ns = now;
    uint64_t passed_ms = (now - all->looked_ns) / 1000000;
    if (passed_ms < LOOK_MS)
        return (int)(LOOK_MS - passed_ms);
    /* Cleared first, so that news meanwhile are not forgotten. */
    atomic_store(&all->has_news, false);
    pthread_mutex_lock(&all->lock);
    int timeout = ep_array_pool_look(all);
    pthread_mutex_unlock(&all->lock);
    if (timeout >= 0)
        atomic_store(&all->has_news, true);
    all->looked_ns = timeout >= 0 ? ep_clock_ns() : 0;
    return timeout;
}

bool ep_arrays_wants_tend(struct ep_host *host)
{
    struct ep_host_arrays *h = host->arrays;

    if (!atomic_load_explicit(&h->wants_tend, memory_order_relaxed)
        || !atomic_exchange(&h->wants_tend, false))
        return false;
    pthread_mutex_lock(&h->all->lock);
    h->unread = 0;
    pthread_mutex_unlock(&h->all->lock);
    return true;
}

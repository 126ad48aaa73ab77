/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_object.h"

#include "ep_arrays.h"
#include "ep_buffer.h"
#include "ep_cpu.h"
#include "ep_dict.h"
#include "ep_lent.h"
#include "ep_remains.h"
#include "ep_wake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- the VM's ------------------------------------------------------------------------------ */

int ep_objects_init(struct ep_vm *vm)
{
    struct ep_objects *all = calloc(1, sizeof(*all));

    if (all == NULL)
        return -ENOMEM;
    (void)pthread_mutex_init(&all->lock, NULL);
    vm->objects = all;
    return 0;
}

void ep_objects_forget(struct ep_vm *vm)
{
    if (vm->objects == NULL)
        return;
    (void)pthread_mutex_destroy(&vm->objects->lock);
    free(vm->objects);
    vm->objects = NULL;
}

/* --- objects --------------------------------------------------------------------------------- */

/* The beginning, which is passed as an array is. */
static void init_base(struct ep_vm *vm, struct ep_array *array, enum ep_object_kind kind)
{
    struct ep_arrays *all = vm->arrays;

    memset(array, 0, sizeof(*array));
    array->vm = vm;
    array->info.dtype = (uint8_t)kind;
    array->info.what = EP_ARRAY_NAMED | EP_ARRAY_OBJECT;
    atomic_init(&array->state, EP_ARRAY_SEALED);
    pthread_mutex_lock(&all->lock);
    array->info.id = all->next_id++;
    pthread_mutex_unlock(&all->lock);
}

struct ep_object *ep_object_create(struct ep_vm *vm, enum ep_object_kind kind)
{
    struct ep_object *object = enif_alloc_resource(ep_object_type, sizeof(*object));

    if (object == NULL)
        return NULL;
    memset(object, 0, sizeof(*object));
    init_base(vm, &object->base, kind);
    object->vm = vm;
    object->kind = kind;
    atomic_fetch_add_explicit(&vm->objects->count[kind], 1, memory_order_relaxed);
    (void)pthread_mutex_init(&object->lock, NULL);
    for (unsigned i = 0; i < 2; i++) {
        object->pipes[i].object = object;
        object->pipes[i].last = &object->pipes[i].first;
    }
    return object;
}

void ep_object_destroy(ErlNifEnv *env, void *resource)
{
    struct ep_object *object = resource;
    struct ep_remains remains = {
        .dict = object->dict,
        .buffer = object->buffer,
    };

    (void)env;
    for (unsigned i = 0; i < 2; i++) {
        struct ep_pipe *pipe = &object->pipes[i];
        struct ep_item *done = NULL;
        ep_waiter_drop(&pipe->waiter);
        ep_lent_end(pipe, &done);
        ep_lent_free(done);
        remains.items[i] = pipe->first;
    }
    remains.cost = object->counted / EP_PAGE + object->pipes[0].n + object->pipes[1].n
                   + (object->dict == NULL ? 0 : ep_dict_pieces(object->dict));
    ep_remains_leave(object->vm, &remains);
    atomic_fetch_sub_explicit(&object->vm->objects->bytes[object->kind], object->counted,
                              memory_order_relaxed);
    atomic_fetch_sub_explicit(&object->vm->objects->count[object->kind], 1, memory_order_relaxed);
    (void)pthread_mutex_destroy(&object->lock);
}

struct ep_object *ep_object_of(ErlNifEnv *env, ERL_NIF_TERM term, enum ep_object_kind kind)
{
    void *object;

    return enif_get_resource(env, term, ep_object_type, &object)
                   && ((struct ep_object *)object)->kind == kind
               ? object
               : NULL;
}

struct ep_object *ep_object_held(struct ep_host *host, uint64_t id)
{
    struct ep_host_arrays *h = host->arrays;

    pthread_mutex_lock(&h->all->lock);
    struct ep_hold *hold = h->dead ? NULL : ep_map_get(&h->holds, id);
    bool is_object = hold != NULL && (hold->array->info.what & EP_ARRAY_OBJECT) != 0;
    struct ep_object *object = is_object ? (struct ep_object *)hold->array : NULL;
    if (object != NULL)
        enif_keep_resource(object);
    pthread_mutex_unlock(&h->all->lock);
    return object;
}

bool ep_object_host_is_gone(struct ep_host *host)
{
    struct ep_host_arrays *h = host->arrays;

    if (h == NULL)
        return true;
    pthread_mutex_lock(&h->all->lock);
    bool is_dead = h->dead;
    pthread_mutex_unlock(&h->all->lock);
    return is_dead;
}

/* --- waiters ----------------------------------------------------------------------------------- */

/* Under object->lock, as what follows. The object must not go with this: others hold it. */
static bool is_linked(const struct ep_waiter *waiter)
{
    return waiter->deadline_ns != 0 || waiter->kind == EP_WAITER_THREAD;
}

static void unlink_pipe(struct ep_pipe *pipe)
{
    struct ep_objects *all = pipe->object->vm->objects;

    if (!is_linked(&pipe->waiter))
        return;
    pthread_mutex_lock(&all->lock);
    *pipe->link_at = pipe->link_next;
    if (pipe->link_next != NULL)
        pipe->link_next->link_at = pipe->link_at;
    pipe->link_at = NULL;
    pthread_mutex_unlock(&all->lock);
    enif_release_resource(pipe->object);
}

static void link_pipe(struct ep_pipe *pipe)
{
    struct ep_vm *vm = pipe->object->vm;
    struct ep_objects *all = vm->objects;
    uint64_t deadline = pipe->waiter.deadline_ns;

    if (!is_linked(&pipe->waiter))
        return;
    enif_keep_resource(pipe->object);
    pthread_mutex_lock(&all->lock);
    struct ep_pipe **head = deadline != 0 ? &all->timed : &all->lasting;
    pipe->link_deadline_ns = deadline;
    pipe->link_host = pipe->waiter.kind == EP_WAITER_THREAD ? pipe->waiter.number : 0;
    pipe->link_next = *head;
    pipe->link_at = head;
    if (pipe->link_next != NULL)
        pipe->link_next->link_at = &pipe->link_next;
    *head = pipe;
    bool is_first = deadline != 0 && (all->next_ns == 0 || deadline < all->next_ns);
    if (is_first)
        all->next_ns = deadline;
    pthread_mutex_unlock(&all->lock);
    if (is_first)
        ep_wake_reaper(vm);
}

/* Takes the waiter off the pipe; one of kind NONE if there is none. */
static struct ep_waiter take_waiter(struct ep_pipe *pipe)
{
    struct ep_waiter waiter = pipe->waiter;

    if (waiter.kind != EP_WAITER_NONE)
        unlink_pipe(pipe);
    pipe->waiter.kind = EP_WAITER_NONE;
    return waiter;
}

static bool has_something(const struct ep_object *object, const struct ep_pipe *pipe,
                          const struct ep_waiter *waiter)
{
    if (object->is_closed || pipe->first != NULL)
        return true;
    return object->buffer != NULL && ep_buffer_size(object->buffer) > waiter->position;
}

enum ep_status ep_object_wait(struct ep_object *object, enum ep_side side, struct ep_waiter *waiter,
                              ErlNifEnv *env)
{
    struct ep_pipe *pipe = &object->pipes[side];
    struct ep_waiter old = {.kind = EP_WAITER_NONE};
    enum ep_status status = EP_STATUS_OK;
    struct ep_item *done = NULL;

    pthread_mutex_lock(&object->lock);
    ep_lent_end(pipe, &done);
    ep_object_recount(object);
    if (has_something(object, pipe, waiter)) {
        status = EP_STATUS_AGAIN;
    } else if (ep_waiter_is_there(&pipe->waiter, env)) {
        status = EP_STATUS_WAITER_EXISTS;
    } else {
        old = take_waiter(pipe);
        pipe->waiter = *waiter;
        link_pipe(pipe);
    }
    pthread_mutex_unlock(&object->lock);
    ep_waiter_drop(&old);
    ep_lent_free(done);
    return status;
}

bool ep_object_unwait(struct ep_object *object, enum ep_side side, const struct ep_waiter *like,
                      struct ep_waiter *ret_waiter)
{
    struct ep_pipe *pipe = &object->pipes[side];

    pthread_mutex_lock(&object->lock);
    const struct ep_waiter *waiter = &pipe->waiter;
    bool is_that = waiter->kind == like->kind && waiter->kind != EP_WAITER_NONE
                   && (waiter->kind == EP_WAITER_PROCESS
                           ? enif_is_identical(waiter->tag, like->tag) != 0
                           : waiter->id == like->id && waiter->number == like->number);
    if (is_that)
        *ret_waiter = take_waiter(pipe);
    pthread_mutex_unlock(&object->lock);
    return is_that;
}

void ep_object_wake(struct ep_object *object, enum ep_side side, ErlNifEnv *caller_env)
{
    pthread_mutex_lock(&object->lock);
    struct ep_waiter waiter = take_waiter(&object->pipes[side]);
    pthread_mutex_unlock(&object->lock);
    ep_waiter_wake(&waiter, caller_env, EP_STATUS_AGAIN);
}

/* --- items --------------------------------------------------------------------------------------- */

/* A message without bytes counts, too: a pipe holds no more of them than it may hold bytes. */
static bool is_full(const struct ep_pipe *pipe, uint64_t size, uint64_t most)
{
    return most != 0 && (size > most || pipe->size > most - size || pipe->n >= most);
}

/* The same of memory, for short messages take more than their bytes. */
static bool is_too_much(const struct ep_pipe *pipe, uint64_t size, uint64_t most)
{
    uint64_t taken = pipe->size + (pipe->n + 1) * EP_ITEM_OVERHEAD;

    return most != 0 && (size > most || taken > most - size);
}

/* Also of what was read ahead and is not known to be. */
static bool has_room(struct ep_pipe *pipe, uint64_t size, uint64_t most, struct ep_item **done)
{
    uint64_t max_size = pipe->object->max_size;

    if (!is_full(pipe, size, max_size) && !is_too_much(pipe, size, most))
        return true;
    ep_lent_sync(pipe, done);
    return !is_full(pipe, size, max_size) && !is_too_much(pipe, size, most);
}

enum ep_status ep_object_put_only(struct ep_object *object, enum ep_side to, struct ep_item *item,
                                  uint64_t most, struct ep_waiter *ret_waiter)
{
    struct ep_pipe *pipe = &object->pipes[to];
    enum ep_status status = EP_STATUS_OK;
    struct ep_item *done = NULL;

    ret_waiter->kind = EP_WAITER_NONE;
    pthread_mutex_lock(&object->lock);
    if (object->is_closed) {
        status = EP_STATUS_CLOSED;
    } else if (!has_room(pipe, item->size, most, &done)) {
        status = EP_STATUS_BUSY;
    } else {
        item->next = NULL;
        *pipe->last = item;
        pipe->last = &item->next;
        pipe->n++;
        pipe->size += item->size;
        *ret_waiter = take_waiter(pipe);
    }
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    if (done != NULL)
        ep_lent_free(done);
    return status;
}

enum ep_status ep_object_put(struct ep_object *object, enum ep_side to, struct ep_item *item,
                             uint64_t most, ErlNifEnv *caller_env)
{
    struct ep_waiter waiter;

    enum ep_status status = ep_object_put_only(object, to, item, most, &waiter);
    if (waiter.kind != EP_WAITER_NONE)
        ep_waiter_wake(&waiter, caller_env, EP_STATUS_AGAIN);
    return status;
}

enum ep_status ep_object_take(struct ep_object *object, enum ep_side side, size_t longest,
                              struct ep_item **ret_item)
{
    enum ep_status status = EP_STATUS_OK;
    struct ep_item *done = NULL;

    pthread_mutex_lock(&object->lock);
    struct ep_pipe *pipe = &object->pipes[side];
    ep_lent_end(pipe, &done);
    struct ep_item *item = pipe->first;
    if (item == NULL) {
        status = object->is_closed ? EP_STATUS_CLOSED : EP_STATUS_EMPTY;
    } else if (ep_item_length(item) > longest) {
        status = EP_STATUS_AGAIN;
    } else {
        pipe->first = item->next;
        if (pipe->first == NULL)
            pipe->last = &pipe->first;
        pipe->n--;
        pipe->size -= item->size;
        *ret_item = item;
    }
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    if (done != NULL)
        ep_lent_free(done);
    return status;
}

void ep_object_put_back(struct ep_object *object, enum ep_side side, struct ep_item *item,
                        ErlNifEnv *caller_env)
{
    struct ep_item *done = NULL;

    pthread_mutex_lock(&object->lock);
    struct ep_pipe *pipe = &object->pipes[side];
    ep_lent_end(pipe, &done); /* what was lent since came after it */
    item->next = pipe->first;
    if (item->next == NULL)
        pipe->last = &item->next;
    pipe->first = item;
    pipe->n++;
    pipe->size += item->size;
    struct ep_waiter waiter = take_waiter(pipe);
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_waiter_wake(&waiter, caller_env, EP_STATUS_AGAIN);
    ep_lent_free(done);
}

uint64_t ep_object_size(struct ep_object *object)
{
    struct ep_item *done = NULL;

    pthread_mutex_lock(&object->lock);
    ep_lent_sync(&object->pipes[EP_SIDE_PYTHON], &done);
    uint64_t size = object->buffer != NULL ? ep_buffer_size(object->buffer)
                                           : object->pipes[0].size + object->pipes[1].size;
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_lent_free(done);
    return size;
}

void ep_object_close(struct ep_object *object, ErlNifEnv *caller_env)
{
    pthread_mutex_lock(&object->lock);
    object->is_closed = true;
    struct ep_waiter waiters[2] = {take_waiter(&object->pipes[0]), take_waiter(&object->pipes[1])};
    pthread_mutex_unlock(&object->lock);
    ep_waiter_wake(&waiters[0], caller_env, EP_STATUS_AGAIN);
    ep_waiter_wake(&waiters[1], caller_env, EP_STATUS_AGAIN);
}

/* --- the reaper ------------------------------------------------------------------------------------ */

/* A pipe whose wait is over, its object kept; else NULL, and when the next one is. */
static struct ep_pipe *find_due(struct ep_objects *all, uint64_t now, uint64_t *ret_next_ns)
{
    struct ep_pipe *due = NULL;
    uint64_t next = 0;

    pthread_mutex_lock(&all->lock);
    if (all->next_ns > now) {
        next = all->next_ns;
        pthread_mutex_unlock(&all->lock);
        *ret_next_ns = next;
        return NULL;
    }
    for (struct ep_pipe *pipe = all->timed; pipe != NULL && due == NULL; pipe = pipe->link_next) {
        uint64_t deadline = pipe->link_deadline_ns;
        if (deadline <= now)
            due = pipe;
        else if (next == 0 || deadline < next)
            next = deadline;
    }
    if (due != NULL)
        enif_keep_resource(due->object);
    else
        all->next_ns = next;
    pthread_mutex_unlock(&all->lock);
    *ret_next_ns = next;
    return due;
}

static void expire(struct ep_pipe *pipe, uint64_t now)
{
    struct ep_object *object = pipe->object;
    struct ep_waiter waiter = {.kind = EP_WAITER_NONE};

    pthread_mutex_lock(&object->lock);
    if (pipe->waiter.kind != EP_WAITER_NONE && pipe->waiter.deadline_ns != 0
        && pipe->waiter.deadline_ns <= now)
        waiter = take_waiter(pipe);
    pthread_mutex_unlock(&object->lock);
    ep_waiter_wake(&waiter, NULL, EP_STATUS_TIMEOUT);
    enif_release_resource(object);
}

/* A pipe for which a thread of that process waits, its object kept; or NULL. */
static struct ep_pipe *find_of_host(struct ep_objects *all, uint64_t host_id)
{
    struct ep_pipe *found = NULL;

    pthread_mutex_lock(&all->lock);
    for (unsigned i = 0; i < 2 && found == NULL; i++)
        for (struct ep_pipe *pipe = i == 0 ? all->timed : all->lasting;
             pipe != NULL && found == NULL; pipe = pipe->link_next)
            found = pipe->link_host == host_id ? pipe : NULL;
    if (found != NULL)
        enif_keep_resource(found->object);
    pthread_mutex_unlock(&all->lock);
    return found;
}

void ep_objects_forget_host(struct ep_host *host)
{
    struct ep_pipe *pipe;

    ep_lent_forget_host(host);
    while ((pipe = find_of_host(host->vm->objects, host->id)) != NULL) {
        struct ep_object *object = pipe->object;
        struct ep_waiter waiter = {.kind = EP_WAITER_NONE};
        pthread_mutex_lock(&object->lock);
        if (pipe->waiter.kind == EP_WAITER_THREAD && pipe->waiter.number == host->id)
            waiter = take_waiter(pipe);
        pthread_mutex_unlock(&object->lock);
        ep_waiter_drop(&waiter);
        enif_release_resource(object);
    }
}

int ep_objects_look(struct ep_vm *vm)
{
    struct ep_objects *all = vm->objects;
    struct ep_pipe *due;
    uint64_t next;

    if (atomic_exchange(&all->has_dropped, false) && ep_waiter_threads.release != NULL)
        ep_waiter_threads.release(vm);
    uint64_t now = ep_clock_ns();
    while ((due = find_due(all, now, &next)) != NULL)
        expire(due, now);
    if (ep_remains_free_some(vm))
        return 0;
    if (next == 0)
        return -1;
    now = ep_clock_ns();
    return next <= now ? 0 : (int)((next - now) / 1000000 + 1);
}

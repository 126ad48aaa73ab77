/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_OBJECT_H
#define EP_OBJECT_H

/*
 * ep_object - channels, byte channels, buffers and dicts: what the VM keeps for both sides.
 *
 * An object is a resource that begins as an array does, so a message carries it as it carries
 * arrays: terms, messages on their way and worker processes hold it, and it goes with the last of
 * them (ep_arrays.h). It costs no process, and no worker process has a part of it.
 *
 * A byte channel has two pipes, one for each direction; a channel uses the first.
 *
 * Ownership  as resources; the lists of ep_objects keep the objects whose waiters are there.
 * Threads    any. Functions that take a lock say so; none calls anything else while it holds it.
 */

#include "ep_buffer.h"
#include "ep_cargo.h"
#include "ep_dict.h"
#include "ep_item.h"
#include "ep_waiter.h"

struct ep_object;

/* Items that a worker process reads ahead, before the first of the pipe: see ep_lent.h. */
struct ep_lent {
    struct ep_item *first, **last;
    uint32_t n, n_gone; /* items; of these, known to be read, and not in the list any more */
    uint32_t batch;     /* items of the last answer, at most */
    uint64_t taker;     /* who asked for them */
    /* Under vm->objects->lock. */
    struct ep_host *host; /* NULL: n_read were read, and no more will be */
    uint32_t number, n_read;
    uint64_t position;
};

struct ep_pipe {
    struct ep_object *object;
    struct ep_item *first, **last;
    uint64_t n, size; /* items; their bytes; with those that are lent */
    struct ep_lent lent;
    struct ep_waiter waiter;
    /* Under vm->objects->lock: in one of its lists, or link_at is NULL. */
    struct ep_pipe *link_next, **link_at;
    uint64_t link_deadline_ns, link_host; /* of the waiter, see there; link_host 0: no thread */
};

enum ep_side { EP_SIDE_PYTHON, EP_SIDE_ERLANG }; /* who takes from a pipe */

struct ep_object {
    struct ep_array base; /* first */
    struct ep_vm *vm;
    enum ep_object_kind kind;
    pthread_mutex_t lock; /* for all that follows */
    bool is_closed;
    uint64_t max_size; /* bytes in a pipe; 0: no limit */
    struct ep_pipe pipes[2];
    struct ep_buffer *buffer; /* of its kind */
    struct ep_dict *dict;
    uint64_t counted; /* bytes of it in the count of its kind */
};

/* Waiters with a deadline, which the reaper sees to; and counts. Lives as long as the VM. */
struct ep_objects {
    /* By kind: objects, and the bytes of what they hold. */
    _Atomic uint64_t count[EP_OBJECTS], bytes[EP_OBJECTS];
    pthread_mutex_t lock;
    struct ep_pipe *timed;    /* with a deadline */
    struct ep_pipe *lasting;  /* without, of Python threads: they end with their process */
    uint64_t next_ns;         /* the earliest deadline that the reaper knows of; 0: none */
    struct ep_asker *dropped; /* to be released, see ep_waiter_drop(); by next_orphan */
    _Atomic bool has_dropped;
    struct ep_remains *remains;    /* for the reaper to free, see there; under lock, as is */
    bool remains_end;              /* there is no reaper any more */
    _Atomic uint64_t remains_cost; /* of all that was left, about, in pieces: see ep_budget.h */
};

int ep_objects_init(struct ep_vm *vm);
void ep_objects_forget(struct ep_vm *vm);

/* A new object, with the caller's reference; NULL: no memory. */
struct ep_object *ep_object_create(struct ep_vm *vm, enum ep_object_kind kind);
void ep_object_destroy(ErlNifEnv *env, void *object);

/* The object of a term; NULL: none of that kind. Borrowed. */
struct ep_object *ep_object_of(ErlNifEnv *env, ERL_NIF_TERM term, enum ep_object_kind kind);

/* What a process holds under that id, kept for the caller; NULL: no object. */
struct ep_object *ep_object_held(struct ep_host *host, uint64_t id);

/* Whether the process has ended: it holds nothing any more, and waits for nothing. */
bool ep_object_host_is_gone(struct ep_host *host);

/* Puts an item at the end. OK, BUSY, CLOSED; the item is taken with OK. most: bytes of memory
 * that the pipe may take then, 0: no limit of the caller's own. Wakes who waits. */
enum ep_status ep_object_put(struct ep_object *object, enum ep_side to, struct ep_item *item,
                             uint64_t most, ErlNifEnv *caller_env);

/* The same, but the caller has to wake the waiter, if there is one. */
enum ep_status ep_object_put_only(struct ep_object *object, enum ep_side to, struct ep_item *item,
                                  uint64_t most, struct ep_waiter *ret_waiter);

/* Takes the first item, also one that was lent and not read. OK; EMPTY; CLOSED: and nothing will
 * come; AGAIN: its payload is longer than that, and it stays. */
enum ep_status ep_object_take(struct ep_object *object, enum ep_side side, size_t longest,
                              struct ep_item **ret_item);

/* Puts an item back where it was taken: nobody got it. */
void ep_object_put_back(struct ep_object *object, enum ep_side side, struct ep_item *item,
                        ErlNifEnv *caller_env);

/* Lets one wait. OK: it waits, and its waiter is taken. AGAIN: there is something, or the end.
 * WAITER_EXISTS. A lock of a host may be held. */
enum ep_status ep_object_wait(struct ep_object *object, enum ep_side side, struct ep_waiter *waiter,
                              ErlNifEnv *env);

/* Takes the waiter away, if it is that one: of that kind, with that tag, or id and number. A lock
 * of a host may be held. */
bool ep_object_unwait(struct ep_object *object, enum ep_side side, const struct ep_waiter *like,
                      struct ep_waiter *ret_waiter);

/* Bytes of what was sent and not taken, or of a buffer. */
uint64_t ep_object_size(struct ep_object *object);

/* After what it holds has changed: the count of its kind. Under the object's lock. */
static inline void ep_object_recount(struct ep_object *object)
{
    uint64_t size = object->buffer != NULL ? ep_buffer_size(object->buffer)
                    : object->dict != NULL ? ep_dict_size(object->dict)
                                           : object->pipes[0].size + object->pipes[1].size;

    if (size == object->counted)
        return;
    /* Relaxed: a figure of its own. */
    atomic_fetch_add_explicit(&object->vm->objects->bytes[object->kind], size - object->counted,
                              memory_order_relaxed);
    object->counted = size;
}

/* Nothing more can be put; who waits is woken. */
void ep_object_close(struct ep_object *object, ErlNifEnv *caller_env);

/* What a worker process may put into one object, at most, where its user has set no limit. */
#define EP_OBJECT_BYTES_MAX (UINT64_C(1) << 30)

/* Wakes whoever waits at that side, after what the caller has put there. */
void ep_object_wake(struct ep_object *object, enum ep_side side, ErlNifEnv *caller_env);

/* The process has ended: its threads wait for nothing. */
void ep_objects_forget_host(struct ep_host *host);

/* For the reaper: ends waits that are over, and frees what is left of objects. Returns when to look again, in ms, or -1. */
int ep_objects_look(struct ep_vm *vm);

#endif

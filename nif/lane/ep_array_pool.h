/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ARRAY_POOL_H
#define EP_ARRAY_POOL_H

/*
 * ep_array_pool - the segments in which arrays lie, and what the worker processes know of them.
 *
 * The VM makes every segment. Some it writes itself: nobody else ever can, by a seal, so that
 * binaries may refer to them. The others belong to one worker process each, which gives out
 * their blocks; the VM and other processes read them. A segment without arrays stays warm for a
 * while and goes then; the reaper sees to that.
 *
 * What a worker has to know goes through its socket: segments that it shall map, arrays of its
 * own that nobody holds any more, segments that it shall forget.
 *
 * Units      bytes.
 * Errors     0 or a negative errno.
 * Threads    all under arrays->lock, which comes after all locks but those of ep_wake.h. Nothing
 *            that could end an array is released under it.
 */

#include "ep_arena.h"
#include "ep_cargo.h"
#include "ep_map.h"
#include "ep_seg.h"
#include "ep_vm.h"

struct ep_segment {
    struct ep_segment *next;
    uint64_t id;
    struct ep_seg seg;
    struct ep_arena arena;         /* of one that we write */
    struct ep_host_arrays *writer; /* NULL: we do, or it is dead */
    bool is_ours;
    bool is_own;      /* ours, and the kernel keeps all others from writing it */
    bool is_sealed;   /* a worker's: nobody else can map it to write */
    bool is_given;    /* a worker's: given back */
    uint64_t arrays;  /* that lie here */
    uint64_t idle_ns; /* since when there are none */
    uint64_t pause_ns;
};

struct ep_arrays {
    struct ep_vm *vm;
    pthread_mutex_t lock;
    struct ep_segment *segments;
    struct ep_host_arrays *hosts;
    struct ep_map made; /* arrays that workers have made, by id */
    uint64_t next_segment, next_id;
    uint64_t count, bytes, high, most;
    _Atomic bool has_news; /* the reaper shall look */
    uint64_t looked_ns;    /* the reaper's; 0: nothing to do */
};

/* Why a worker may use an array: it has claimed it, or messages brought it that count yet. */
struct ep_hold {
    struct ep_array *array; /* kept */
    uint32_t claims, lent;
};

struct ep_news {
    uint64_t what, id;
};

struct ep_host_arrays {
    struct ep_arrays *all;
    struct ep_host_arrays *next;
    struct ep_host *host;
    int socket; /* -1: closed */
    bool dead;
    _Atomic bool wants_tend; /* the reaper shall send a TEND */
    _Atomic bool is_full;    /* its socket had no room: messages may wait for that */
    unsigned unread;         /* news since the last TEND */
    struct ep_map holds;     /* struct ep_hold, by id of the array */
    struct ep_map shown;     /* struct ep_segment that the process can map, by id */
    struct ep_map claims;    /* struct ep_cargo of answers to Python threads, by question */
    unsigned segments;       /* of its own */
    struct ep_news *news;    /* that found no room, or wait for more */
    size_t n_news, max_news;
    /* The reaper's: what the process has dropped, see ep_drops.h. */
    struct ep_drops {
        struct ep_array_drop *items;
        size_t n, max;
    } drops, ripe;
    uint64_t unripe_lanes[2];
};

/* Takes a block of our own. -ENOMEM: beyond max_shared_bytes, or no memory. */
int ep_array_pool_take(struct ep_arrays *all, uint64_t bytes, struct ep_segment **ret_segment,
                       uint64_t *ret_offset);

/* An array of the segment has ended. */
void ep_array_pool_put(struct ep_arrays *all, struct ep_segment *segment, uint64_t block,
                       uint64_t id);

struct ep_segment *ep_array_pool_find(struct ep_arrays *all, uint64_t id);

/* Makes the process able to map the segment. -EAGAIN: not now. */
int ep_array_pool_show(struct ep_host_arrays *h, struct ep_segment *segment);

/* What the process says, see enum ep_arrays_aux. -EPROTO. */
int ep_array_pool_need(struct ep_host_arrays *h, uint64_t bytes);
int ep_array_pool_give(struct ep_host_arrays *h, uint64_t id);

/* Its segments have no writer any more. */
void ep_array_pool_end(struct ep_host_arrays *h);

/* Gives back what is not used any more. Returns when to look again, in ms, or -1. */
int ep_array_pool_look(struct ep_arrays *all);

/* The reaper shall look. */
void ep_array_pool_wake(struct ep_arrays *all);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_note.h"

#include "ep_buf.h"
#include "ep_crashpoint.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* How often a message that finds the control lane full looks again. Its ring and its
 * slab are for hundreds of them; no bell is worth it. */
#define FULL_PAUSE_NS 1000000

/* The same of a request that waits for the SENDs of its threads. */
#define SETTLE_PAUSE_NS 50000

static pthread_mutex_t sending = PTHREAD_MUTEX_INITIALIZER; /* response ring and slab */
static struct ep_worker_quiet quiet;                        /* under it */

/* -EAGAIN: no room at the moment. Under the lock. */
static int try_send(struct ep_worker *worker, const struct ep_worker_note *note)
{
    struct ep_lane_worker *control = &worker->control_lane;
    size_t length = note->payload == NULL ? 0 : note->payload->length;
    struct ep_cell *cell;
    uint64_t block;

    int rc = ep_ring_reserve(&control->response, &cell);
    if (rc < 0)
        return rc;
    ep_cell_begin(cell, (enum ep_kind)note->kind, note->has_arrays ? EP_FLAG_ARRAYS : 0, note->aux,
                  note->call_id, note->subject);
    ep_cell_set_stamp(cell, note->lane);
    EP_CRASHPOINT("control.half_written");
    cell->length = (uint32_t)length;
    if (length > EP_INLINE_MAX) {
        rc = ep_reclaim_collect(&control->reclaim_rx, &control->slab);
        if (rc >= 0)
            rc = ep_slab_alloc(&control->slab, length, &block);
        if (rc < 0)
            return rc;
        memcpy(control->slab_mem + block, note->payload->data, length);
        ep_cell_set_block(cell, block);
    } else if (length > 0) {
        memcpy(cell->data, note->payload->data, length);
    }
    EP_CRASHPOINT("control.before_commit");
    uint64_t position = ep_ring_commit(&control->response);
    EP_CRASHPOINT("control.committed");
    if (note->kind == EP_KIND_SEND) {
        atomic_store_explicit(&worker->letters_until, position + 1, memory_order_relaxed);
        ep_worker_ring_for_letter(worker, control, &quiet);
    } else if (note->is_quiet) {
        ep_worker_ring_for_letter(worker, control, &quiet);
    } else {
        ep_worker_ring_doorbell(worker, control);
    }
    EP_CRASHPOINT("control.rung");
    return 0;
}

int ep_worker_note_try(struct ep_worker *worker, const struct ep_worker_note *note)
{
    if (pthread_mutex_trylock(&sending) != 0)
        return -EAGAIN;
    int rc = try_send(worker, note);
    (void)pthread_mutex_unlock(&sending);
    return rc;
}

/* Whether the VM has taken the messages before that position. */
static bool is_taken(struct ep_worker *worker, uint64_t position)
{
    (void)pthread_mutex_lock(&sending);
    bool is = (int64_t)(ep_ring_taken(&worker->control_lane.response) - position) >= 0;
    /* It may be looked at without a ring only later. */
    if (!is)
        ep_worker_ring_doorbell(worker, &worker->control_lane);
    else if (atomic_load_explicit(&worker->letters_until, memory_order_relaxed) == position)
        atomic_store_explicit(&worker->letters_until, 0, memory_order_relaxed);
    (void)pthread_mutex_unlock(&sending);
    return is;
}

void ep_worker_note_settle(struct ep_worker *worker)
{
    struct timespec pause = {.tv_nsec = SETTLE_PAUSE_NS};
    uint64_t position = atomic_load_explicit(&worker->letters_until, memory_order_relaxed);

    while (position != 0 && !is_taken(worker, position) && !ep_worker_is_stopping(worker))
        (void)nanosleep(&pause, NULL);
}

bool ep_worker_note_send(struct ep_worker *worker, const struct ep_worker_note *note)
{
    struct timespec pause = {.tv_nsec = FULL_PAUSE_NS};
    int rc;

    for (;;) {
        (void)pthread_mutex_lock(&sending);
        rc = try_send(worker, note);
        (void)pthread_mutex_unlock(&sending);
        if (rc != -EAGAIN || ep_worker_is_stopping(worker))
            break;
        (void)nanosleep(&pause, NULL);
    }
    if (rc == -EPROTO)
        ep_worker_die(EP_EXIT_PROTOCOL, "the VM took or gave back what it did not have");
    return rc == 0;
}

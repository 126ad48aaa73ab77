/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_note.h"

#include "ep_buf.h"
#include "ep_peer.h"
#include "ep_queue.h"
#include "ep_wake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A control thread that takes nothing for this long does not run. It has a CPU to wait
 * for, and nothing else. */
#define STOPPED_NS 200000000u

/* Puts the payload into the cell, or into a block. */
static int place_payload(struct ep_lane_vm *shm, struct ep_cell *cell, const uint8_t *bytes,
                         size_t length)
{
    uint64_t block;

    cell->length = (uint32_t)length;
    if (length <= EP_INLINE_MAX) {
        ep_copy(cell->data, bytes, length);
        return 0;
    }
    int rc = ep_reclaim_collect(&shm->reclaim_rx, &shm->slab);
    if (rc >= 0)
        rc = ep_slab_alloc(&shm->slab, length, &block);
    if (rc < 0)
        return rc;
    memcpy(shm->slab_mem + block, bytes, length);
    ep_cell_set_block(cell, block);
    return 0;
}

/* Under host->notes_lock, as all that follows. */
static int publish(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                   size_t length)
{
    struct ep_lane_vm *shm = &host->control_lane;
    struct ep_cell *cell;

    int rc = ep_ring_reserve(&shm->call, &cell);
    if (rc == 0) {
        ep_cell_begin(cell, (enum ep_kind)head->kind, (uint8_t)head->flags, (uint8_t)head->aux,
                      head->call_id, head->subject);
        ep_cell_set_stamp(cell, head->stamp);
        rc = place_payload(shm, cell, bytes, length);
    }
    if (rc == -EPROTO)
        (void)ep_peer_kill(host, EP_KILL_VIOLATION);
    if (rc < 0)
        return rc;
    (void)ep_ring_commit(&shm->call);
    if (ep_bell_must_ring(&shm->park))
        ep_futex_wake(shm->futex);
    return 0;
}

static int enqueue(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                   size_t length)
{
    bool is_interrupt = head->kind == EP_KIND_INTERRUPT;

    /* What is short is bounded by the number of notes: a word that somebody waits for has room. */
    if ((host->n_notes > 0 && length > EP_INLINE_MAX
         && host->note_bytes + length > EP_NOTE_BYTES_MAX)
        || (is_interrupt && host->n_interrupts == EP_NOTES_INTERRUPTS_MAX))
        return -EAGAIN;
    if (host->n_notes == EP_NOTES_MAX) {
        (void)ep_peer_kill(host, EP_KILL_VIOLATION);
        return 0;
    }
    struct ep_queued *queued = ep_queue_message(NULL, head, bytes, length);
    if (queued == NULL)
        return -ENOMEM;
    ep_queue_put(&host->notes, queued);
    host->n_notes++;
    host->n_interrupts += is_interrupt;
    host->note_bytes += length;
    return 0;
}

static void pop(struct ep_host *host)
{
    struct ep_queued *queued = host->notes.first;

    host->notes.first = queued->next;
    if (host->notes.first == NULL)
        host->notes.last = &host->notes.first;
    host->n_notes--;
    host->n_interrupts -= queued->head.kind == EP_KIND_INTERRUPT;
    host->note_bytes -= queued->length;
    free(queued);
}

static bool flush(struct ep_host *host)
{
    while (host->notes.first != NULL) {
        const struct ep_queued *queued = host->notes.first;
        if (publish(host, &queued->head, queued->bytes, queued->length) < 0)
            return true;
        pop(host);
    }
    return false;
}

/* --- all threads ------------------------------------------------------------------------ */

bool ep_note_flush(struct ep_host *host)
{
    if (host->dead)
        ep_note_clear(host);
    pthread_mutex_lock(&host->notes_lock);
    bool waits = flush(host);
    pthread_mutex_unlock(&host->notes_lock);
    return waits;
}

int ep_note_try(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                size_t length)
{
    if (host->dead)
        return -ESTALE;
    pthread_mutex_lock(&host->notes_lock);
    int rc = publish(host, head, bytes, length);
    pthread_mutex_unlock(&host->notes_lock);
    return rc;
}

int ep_note_send_attached(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                          size_t length)
{
    pthread_mutex_lock(&host->notes_lock);
    int rc = flush(host) ? -EAGAIN : publish(host, head, bytes, length);
    bool is_late = rc < 0;
    if (is_late)
        rc = enqueue(host, head, bytes, length);
    pthread_mutex_unlock(&host->notes_lock);
    if (is_late && rc == 0)
        ep_wake_for_round(host); /* no bell tells of room */
    return rc;
}

int ep_note_send(struct ep_host *host, const struct ep_msg *head, const uint8_t *bytes,
                 size_t length)
{
    return host->dead ? -ESTALE : ep_note_send_attached(host, head, bytes, length);
}

void ep_note_control(struct ep_host *host, enum ep_kind kind, uint32_t aux, uint64_t call_id,
                     uint64_t subject)
{
    struct ep_msg head = {.kind = (uint16_t)kind, .aux = aux, .call_id = call_id};

    head.subject = subject;
    /* An interrupt may be lost, after many others or without memory: the kill follows. */
    (void)ep_note_send(host, &head, NULL, 0);
}

void ep_note_clear(struct ep_host *host)
{
    pthread_mutex_lock(&host->notes_lock);
    while (host->notes.first != NULL)
        pop(host);
    pthread_mutex_unlock(&host->notes_lock);
}

/* What the control thread has taken; returns whether that is all. */
static bool has_taken_all(struct ep_host *host, uint64_t *ret_taken)
{
    const struct ep_ring_tx *ring = &host->control_lane.call;

    pthread_mutex_lock(&host->notes_lock);
    *ret_taken = ep_ring_taken(ring);
    bool is_all = *ret_taken == ring->tail;
    pthread_mutex_unlock(&host->notes_lock);
    return is_all;
}

bool ep_note_is_unread(struct ep_host *host)
{
    uint64_t unused;

    return !has_taken_all(host, &unused);
}

bool ep_note_is_stopped(struct ep_host *host)
{
    uint64_t now = ep_clock_ns(), taken;

    if (has_taken_all(host, &taken)) {
        host->still_ns = 0;
        return false;
    }
    if (host->still_ns == 0 || host->still_at != taken) {
        host->still_ns = now;
        host->still_at = taken;
    }
    return now - host->still_ns >= STOPPED_NS;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_drops.h"

#include "ep_arrays.h"
#include "ep_inbox.h"
#include "ep_lanes.h"
#include "ep_note.h"
#include "ep_outbox.h"
#include "ep_peer.h"

#include <string.h>

#define LANE_BITS 64u

static bool is_unripe(const struct ep_host_arrays *h, uint32_t lane)
{
    return (h->unripe_lanes[lane / LANE_BITS] >> (lane % LANE_BITS) & 1) != 0;
}

/* Whether what the lane had said before is taken. */
static bool has_caught_up(struct ep_lane *lane, struct ep_host *host)
{
    const struct ep_cell *cell;

    if (!ep_inbox_try(lane))
        return false;
    bool is_empty = lane->host != host;
    for (unsigned n = 0; n <= EP_RESPONSE_CELLS / EP_INBOX_BATCH && !is_empty; n++) {
        is_empty = ep_ring_peek(&lane->shm.response, &cell) != 0;
        if (!is_empty && ep_inbox_drain(lane, NULL, NULL, NULL) < 0)
            break;
    }
    ep_inbox_leave(lane, NULL);
    return is_empty;
}

/* Under host->lock. */
static bool look_at_lanes(struct ep_host *host)
{
    struct ep_host_arrays *h = host->arrays;
    bool is_ripe = true;

    for (uint32_t i = 1; i < host->n_lanes; i++) {
        if (!is_unripe(h, i))
            continue;
        if (host->lanes[i] == NULL || has_caught_up(host->lanes[i], host))
            h->unripe_lanes[i / LANE_BITS] &= ~(UINT64_C(1) << (i % LANE_BITS));
        else
            is_ripe = false;
    }
    return is_ripe;
}

/* Sends requests that wait until the process has read its news. Returns whether some still do. */
static bool send_waiting(struct ep_host *host)
{
    bool waits = false;

    pthread_mutex_lock(&host->lock);
    for (uint32_t i = 1; i < host->n_lanes && !host->dead; i++) {
        struct ep_lane *lane = host->lanes[i];
        if (lane == NULL || atomic_load_explicit(&lane->common.n_queued, memory_order_relaxed) == 0)
            continue;
        ep_outbox_flush(lane);
        waits = true;
    }
    pthread_mutex_unlock(&host->lock);
    return waits && atomic_load_explicit(&host->arrays->is_full, memory_order_relaxed);
}

bool ep_drops_ripen(struct ep_host *host)
{
    struct ep_host_arrays *h = host->arrays;
    bool has_broken = false;

    if (ep_arrays_wants_tend(host)) {
        pthread_mutex_lock(&host->lock);
        ep_note_control(host, EP_KIND_TEND, 0, 0, 0);
        pthread_mutex_unlock(&host->lock);
    }
    bool waits =
        atomic_load_explicit(&h->is_full, memory_order_relaxed) ? send_waiting(host) : false;
    if (h->ripe.n == 0 && h->drops.n == 0)
        return waits;
    pthread_mutex_lock(&host->lock);
    if (host->dead) {
        h->ripe.n = h->drops.n = 0;
    } else {
        if (h->ripe.n == 0) {
            struct ep_drops empty = h->ripe;
            h->ripe = h->drops;
            h->drops = empty;
            memset(h->unripe_lanes, 0xFF, sizeof(h->unripe_lanes));
        }
        if (look_at_lanes(host)) {
            has_broken = ep_arrays_drop(host, &h->ripe) < 0;
            h->ripe.n = 0;
        }
    }
    pthread_mutex_unlock(&host->lock);
    if (has_broken)
        (void)ep_peer_kill(host, EP_KILL_VIOLATION);
    return waits || h->ripe.n > 0 || h->drops.n > 0;
}

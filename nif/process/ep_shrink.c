/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_shrink.h"

#include "ep_host.h"
#include "ep_lanes.h"

/* What is given back while the lock of the lane is held: a fraction of a millisecond. */
#define PIECE (UINT64_C(2) << 20)

/* Gives one piece back. Returns whether there may be more at once. */
static bool shrink_piece(struct ep_lane *lane, const struct ep_host *host, bool *has_spike)
{
    struct ep_lane_vm *shm = &lane->shm;
    uint64_t offset, size = 0;

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->host == host && ep_slab_has_spike(&shm->slab)) {
        if (ep_reclaim_collect(&shm->reclaim_rx, &shm->slab) >= 0)
            size = ep_slab_shrink(&shm->slab, PIECE, &offset);
        if (size > 0)
            ep_seg_give_back(shm->slab_mem + offset, size);
        *has_spike |= ep_slab_has_spike(&shm->slab);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return size > 0;
}

static bool shrink_host(struct ep_host *host)
{
    bool has_spike = false;

    for (uint32_t i = 1; i < host->n_lanes; i++) {
        pthread_mutex_lock(&host->lock);
        struct ep_lane *lane = host->lanes[i];
        if (lane != NULL)
            enif_keep_resource(lane);
        pthread_mutex_unlock(&host->lock);
        if (lane == NULL)
            continue;
        bool remains = false;
        do {
            remains = false;
        } while (shrink_piece(lane, host, &remains));
        has_spike |= remains;
        enif_release_resource(lane);
    }
    return has_spike;
}

int ep_shrink_run(struct ep_vm *vm)
{
    if (atomic_load_explicit(&vm->has_spike, memory_order_relaxed) == 0)
        return -1;
    uint64_t now = ep_clock_ns();
    if (vm->shrink_ns == 0)
        vm->shrink_ns = now; /* of a spike that has just been noted */
    uint64_t passed_ms = (now - vm->shrink_ns) / 1000000;
    if (passed_ms < EP_SHRINK_MS)
        return (int)(EP_SHRINK_MS - passed_ms);

    /* Cleared first, so that a spike noted meanwhile is not forgotten. */
    atomic_store(&vm->has_spike, 0);
    bool has_spike = false;
    for (struct ep_host *host = ep_host_next(vm, NULL); host != NULL; host = ep_host_next(vm, host))
        has_spike |= shrink_host(host);
    if (has_spike)
        atomic_store(&vm->has_spike, 1);
    vm->shrink_ns = has_spike ? ep_clock_ns() : 0;
    return has_spike ? EP_SHRINK_MS : -1;
}

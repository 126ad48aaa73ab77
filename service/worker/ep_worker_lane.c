/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_lane.h"

#include "ep_py_context.h"
#include "ep_py_interrupt.h"

#include <stdlib.h>

struct ep_worker_lane *ep_worker_lane_create(struct ep_worker *worker, uint32_t index)
{
    struct ep_worker_lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL)
        return NULL;
    lane->scratch = malloc(EP_WORKER_SCRATCH_SIZE);
    if (lane->scratch == NULL) {
        free(lane);
        return NULL;
    }
    ep_lane_worker_attach(&lane->shm, worker->a.mem, worker->b.mem, worker->c.mem, worker->n_lanes,
                          index);
    ep_idle_init(&lane->idle, worker->spin_min_ns, worker->spin_max_ns);
    ep_py_interrupt_init(&lane->interrupt, lane->shm.running);
    lane->worker = worker;
    lane->index = index;
    lane->is_main = index == 1;
    (void)pthread_mutex_lock(&worker->mutex);
    worker->lanes[index] = lane;
    (void)pthread_mutex_unlock(&worker->mutex);
    return lane;
}

void ep_worker_lane_attach(struct ep_worker_lane *lane)
{
    if (lane->attached)
        return;
    ep_py_context_attach(lane->context);
    lane->attached = true;
    lane->streak = 0;
}

void ep_worker_lane_detach(struct ep_worker_lane *lane)
{
    if (!lane->attached)
        return;
    ep_py_context_detach(lane->context);
    lane->attached = false;
}

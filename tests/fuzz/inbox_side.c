/* SPDX-License-Identifier: Apache-2.0 */
#include "inbox_side.h"

#include "ep_arrays.h"
#include "ep_outbox.h"
#include "ep_reaper.h"
#include "fake_erl_nif.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct ep_seg a, b, c, worker_b;
static struct ep_layout_header header;

static void must(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "inbox_side: %s\n", what);
    abort();
}

void side_init(void)
{
    ep_layout_init(&header, SIDE_LANES);
    must(ep_seg_create_own(&a, header.size_a, 0) == 0 && ep_seg_create_peer(&b, header.size_b) == 0
             && ep_seg_create_slabs(&c, ep_layout_size_c(SIDE_LANES)) == 0,
         "no segments");
    must(ep_seg_open(&worker_b, fcntl(b.fd, F_DUPFD_CLOEXEC, 3), true) == 0, "no second mapping");
}

/* What the run before has written. */
static void clear(void)
{
    memset(a.mem, 0, ep_layout_ring_bytes_a(SIDE_LANES));
    memcpy(a.mem, &header, sizeof(header));
    memset(worker_b.mem, 0, ep_layout_ring_bytes_b(SIDE_LANES));
    for (uint32_t i = 0; i < SIDE_LANES; i++)
        memset((uint8_t *)worker_b.mem + ep_layout_ring_bytes_b(SIDE_LANES) + i * EP_SLAB_SIZE, 0,
               SIDE_SLAB_BYTES);
}

void side_start(struct side *side, struct ep_vm *vm, ErlNifPid owner)
{
    struct ep_host *host = enif_alloc_resource(ep_host_type, sizeof(*host));

    clear();
    must(host != NULL, "no memory");
    memset(host, 0, sizeof(*host));
    host->vm = vm;
    host->owner = owner;
    host->n_lanes = SIDE_LANES;
    host->doorbell = host->pidfd = -1;
    host->a = a;
    host->b = b;
    host->c = c;
    atomic_init(&host->kill_pidfd, -1);
    atomic_init(&host->os_pid, 4242);
    (void)pthread_mutex_init(&host->lock, NULL);
    (void)pthread_mutex_init(&host->reclaim, NULL);
    ep_queue_init(&host->notes);
    ep_lane_vm_attach(&host->control_lane, a.mem, b.mem, c.mem, SIDE_LANES, 0);
    ep_bell_arm(&host->control_lane.response_bell);
    must(ep_arrays_add_host(host, -1) == 0, "no memory");
    pthread_mutex_lock(&vm->lock);
    host->id = vm->next_id++;
    host->next = vm->hosts;
    vm->hosts = host;
    pthread_mutex_unlock(&vm->lock);
    enif_keep_resource(host);

    side->host = host;
    side->rings = worker_b.mem;
    side->rings_size = ep_layout_ring_bytes_b(SIDE_LANES);
    for (uint32_t i = 0; i < SIDE_LANES; i++)
        ep_lane_worker_attach(&side->lanes[i], a.mem, worker_b.mem, c.mem, SIDE_LANES, i);
}

void side_die(struct side *side)
{
    ep_reaper_bury(side->host->vm, side->host);
}

void side_finish(struct side *side)
{
    must(fake_references(side->host) == 1, "somebody still holds the host");
    /* The mappings stay. */
    side->host->a = side->host->b = side->host->c = (struct ep_seg){.fd = -1};
    enif_release_resource(side->host);
    for (uint32_t i = 0; i < SIDE_LANES; i++)
        ep_lane_worker_finish(&side->lanes[i]);
}

void side_add_to_word(struct side *side, uint32_t lane, enum side_word word, uint64_t n)
{
    struct ep_lane_worker *worker = &side->lanes[lane];
    ep_atomic_u64 *const words[] = {
        [SIDE_CALL_HEAD] = worker->call.shared_head,
        [SIDE_URGENT_HEAD] = worker->urgent.shared_head,
        [SIDE_RUNNING] = worker->running,
        [SIDE_PARK_BELL] = worker->park.word,
        [SIDE_SPACE_BELL] = worker->space.word,
        [SIDE_RECLAIM_TAIL] = worker->reclaim_tx.tail,
    };

    if (word == SIDE_CPU || word == SIDE_WAKE_NS)
        atomic_store(word == SIDE_CPU ? worker->cpu : worker->wake_ns, (uint32_t)n);
    else
        atomic_fetch_add(words[word], n);
}

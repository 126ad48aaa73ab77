/* SPDX-License-Identifier: Apache-2.0 */
#ifndef INBOX_SIDE_H
#define INBOX_SIDE_H

/*
 * inbox_side - a worker process that is not there, for the fuzz target of the inbox.
 *
 * The segments are made once and zeroed for each run, for making them costs more than a
 * run. The host is filled here as ep_host_start() fills it, but for its fds: there is no
 * launcher, no doorbell to hear and no process to kill. Who plays the worker may write any
 * byte of B.
 *
 * Threads  one.
 */

#include "ep_host.h"
#include "ep_lane.h"

#define SIDE_LANES 3u /* the control lane included */

/* Bytes at the start of each slab of B that a run may write. */
#define SIDE_SLAB_BYTES (64u << 10)

struct side {
    struct ep_host *host; /* kept */
    struct ep_lane_worker lanes[SIDE_LANES];
    uint8_t *rings; /* of B: what is not slab, all lanes */
    size_t rings_size;
};

/* Makes the segments. Once. */
void side_init(void);

/* Starts a worker process for owner: the host is in the list of the VM. */
void side_start(struct side *side, struct ep_vm *vm, ErlNifPid owner);

/* Ends it: the reaper's part is done here. */
void side_die(struct side *side);

/* Gives the host up, after side_die(). Ends the program if somebody else holds it. */
void side_finish(struct side *side);

/* Words of a lane that the worker writes. */
enum side_word {
    SIDE_CALL_HEAD,
    SIDE_URGENT_HEAD,
    SIDE_RUNNING,
    SIDE_PARK_BELL,
    SIDE_SPACE_BELL,
    SIDE_RECLAIM_TAIL,
    SIDE_CPU,
    SIDE_WAKE_NS,
    SIDE_WORDS,
};
void side_add_to_word(struct side *side, uint32_t lane, enum side_word word, uint64_t n);

#endif

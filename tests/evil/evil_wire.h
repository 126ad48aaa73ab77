/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVIL_WIRE_H
#define EVIL_WIRE_H

/*
 * evil_wire - the worker's side of the wire, without Python: what behaves, and the one way to
 * publish what does not.
 *
 * One thread polls the rings of all lanes, so an attack may do to any of them what it likes.
 * The calls of a lane that stand in a state worth lying about are remembered by that state.
 *
 * Units      bytes; ms where a name says so.
 * Ownership  everything lives until the process ends.
 * Errors     none are returned: a worker that cannot go on exits.
 * Threads    the main thread, unless a function says otherwise.
 */

#include "ep_control.h"
#include "ep_lane.h"
#include "ep_seg.h"
#include "evil_random.h"

#include <stdbool.h>

/* What a call is that an attack is about. The numbers are those of evil_scene.erl. */
enum evil_target {
    EVIL_OWN = 0,      /* the call that ordered the attack */
    EVIL_HELD = 1,     /* parked, or abandoned after its time-out */
    EVIL_ASKED = 2,    /* its caller runs a callback */
    EVIL_LATER = 3,    /* a callback lies in its entry, uncollected */
    EVIL_ENDED = 4,    /* answered; its entry is free, or another call's */
    EVIL_IN_RING = 5,  /* published by the VM, not taken */
    EVIL_IN_QUEUE = 6, /* still in private memory of the VM: a guess */
    EVIL_UNKNOWN = 7,  /* no call of the lane */
    EVIL_TASK = 8,     /* a task, parked or given up, and not answered */
    EVIL_TARGETS
};

struct evil_lane {
    struct ep_lane_worker shm;
    uint32_t index;
    bool is_stalled;  /* takes nothing from its call ring */
    uint64_t highest; /* index of a call seen so far, from 1 */
    uint64_t number;  /* of the last callback */
    uint64_t ids[EVIL_TARGETS];
    uint64_t numbers[EVIL_TARGETS]; /* of the callback that the call waits for */
};

#define EVIL_HANDLES 4

struct evil_worker {
    struct ep_seg a, b, c;
    int doorbell;
    int control;
    uint32_t n_lanes;
    bool is_silent; /* answers no STOP and no SHUTDOWN */
    struct evil_handle {
        uint8_t bytes[128];
        size_t size;
    } handles[EVIL_HANDLES]; /* of the last attack, see evil_letter.c */
    uint64_t paid, limit;    /* of SENDs */
    uint64_t asked, answers; /* questions in the name of threads */
    struct evil_lane lanes[EP_LANES_MAX];
};

/* A message as it will stand in the cell; nothing in it is checked. */
struct evil_message {
    uint64_t call_id, subject, block, stamp;
    uint32_t length;
    uint8_t kind, flags, aux, cancelled;
    const void *data; /* EP_INLINE_MAX bytes, or NULL */
};

/* Maps the segments and says HELLO. */
void evil_open(struct evil_worker *worker);
void evil_hello(struct evil_worker *worker);

_Noreturn void evil_die(const char *sentence);

void evil_pause_us(unsigned us);
uint64_t evil_now_ms(void);

/* Fills in what a message of that kind should be, payload of length bytes included, which goes
 * into a block if it has to. False: no room for the block. */
bool evil_fill(struct evil_lane *lane, struct evil_message *ret_message, uint8_t inline_data[],
               enum ep_kind kind, uint64_t call_id, const void *payload, size_t length);

/* Publishes, whether there is room or not, and rings if the VM asked for it. */
void evil_publish(struct evil_worker *worker, struct evil_lane *lane,
                  const struct evil_message *message);

/* Whether the response ring has room. */
bool evil_has_room(struct evil_lane *lane);

/* Rings the doorbell, whether the VM asked for it or not. Any thread. */
void evil_ring(struct evil_worker *worker);

/* An honest message: waits for room, at most two seconds. */
bool evil_send(struct evil_worker *worker, struct evil_lane *lane, enum ep_kind kind, uint8_t aux,
               uint64_t call_id, uint64_t subject, const void *payload, size_t length);

/* The call that an attack is about. */
uint64_t evil_target_id(struct evil_lane *lane, enum evil_target target,
                        struct evil_random *random);

#endif

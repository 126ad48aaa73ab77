/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVIL_ATTACK_H
#define EVIL_ATTACK_H

/*
 * evil_attack - the ways to break the protocol, by name. evil_attacks.erl has the same names,
 * with what has to come of each.
 *
 * Threads    the main thread.
 */

#include "evil_wire.h"

/* What an attack is given. */
struct evil_order {
    struct evil_worker *worker;
    struct evil_lane *lane; /* whose calls it is about: lane 1 */
    struct evil_lane *via;  /* where the lies are told: that lane, or the control lane */
    uint64_t id;            /* of one of the calls */
    uint64_t number;        /* of the callback that this one waits for */
    uint64_t seed;
    unsigned ms; /* how long one that goes on goes on */
    struct evil_random random;
};

typedef void evil_attack_fn(struct evil_order *order);

struct evil_attack {
    const char *name;
    evil_attack_fn *run;
};

/* Each ends with an entry without a name. */
extern const struct evil_attack evil_message_attacks[], evil_word_attacks[], evil_flood_attacks[],
    evil_term_attacks[], evil_fd_attacks[], evil_death_attacks[], evil_mutator_attacks[],
    evil_letter_attacks[], evil_array_attacks[], evil_object_attacks[];

/* NULL: there is none of that name. */
const struct evil_attack *evil_attack_find(const char *name, size_t length);

/* Writes all names, one a line. */
void evil_attack_list(void);

#endif

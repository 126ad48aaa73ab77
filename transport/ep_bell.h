/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_BELL_H
#define EP_BELL_H

/*
 * ep_bell - who sleeps, and who has to wake whom.
 *
 * The side that wants to sleep owns a word in its own segment. It arms the
 * bell, looks at every source once more, and sleeps only when all are empty.
 * The other side publishes, then asks ep_bell_must_ring(): true exactly once per
 * arming, for whoever published after it. How to wake is the caller's affair:
 * a futex (VM to worker) or an eventfd (worker to VM).
 *
 * The argument for "no wake-up is lost": arming and publishing are stores, the
 * two looks are loads, all four sequentially consistent. In their single order
 * either the arming precedes the publisher's look, which then returns true, or
 * the publishing precedes the sleeper's look, which then finds the message.
 * tests/model holds the SPIN model; dropping one look makes it fail.
 *
 * Threads    one thread at a time per handle; both handles at the same time.
 * Trust      a peer that lies gets too many or too few wake-ups of its own.
 */

#include "ep_layout.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_bell_rx {
    ep_atomic_u64 *word;
    uint64_t generation; /* odd: armed */
};

struct ep_bell_tx {
    const ep_atomic_u64 *word;
    uint64_t answered; /* the last arming that was answered */
};

void ep_bell_rx_attach(struct ep_bell_rx *rx, ep_atomic_u64 *word);
void ep_bell_tx_attach(struct ep_bell_tx *tx, const ep_atomic_u64 *word);

/* Announces that the caller is about to sleep (W2). Look again after this. An
 * armed bell stays armed, under the same generation. */
void ep_bell_arm(struct ep_bell_rx *rx);

/* Takes the announcement back. A ring that is on its way still comes. */
void ep_bell_disarm(struct ep_bell_rx *rx);

bool ep_bell_is_armed(const struct ep_bell_rx *rx);

/* Arms anew even if armed, for the sleeper that has just been rung awake. */
void ep_bell_rearm(struct ep_bell_rx *rx);

/* Returns whether the caller has to wake the other side now (W1). */
bool ep_bell_must_ring(struct ep_bell_tx *tx);

/* Sleeps while *word == value, at most timeout_ns (negative: for ever). Spurious
 * returns happen. */
void ep_futex_wait(const ep_atomic_u32 *word, uint32_t value, int64_t timeout_ns);

/* Changes *word and wakes who sleeps on it. Never blocks. */
void ep_futex_wake(ep_atomic_u32 *word);

/* Reads a futex word, before arming. */
uint32_t ep_futex_value(const ep_atomic_u32 *word);

#ifdef __cplusplus
}
#endif

#endif

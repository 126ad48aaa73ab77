/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_bell.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void ep_bell_rx_attach(struct ep_bell_rx *rx, ep_atomic_u64 *word)
{
    *rx = (struct ep_bell_rx){.word = word};
}

void ep_bell_tx_attach(struct ep_bell_tx *tx, const ep_atomic_u64 *word)
{
    *tx = (struct ep_bell_tx){.word = word};
}

static void announce(struct ep_bell_rx *rx)
{
    /* W2 (or S2), first half: the look at the sources comes after it. */
    atomic_store_explicit(rx->word, rx->generation, memory_order_seq_cst);
}

void ep_bell_arm(struct ep_bell_rx *rx)
{
    if (ep_bell_is_armed(rx))
        return;
    rx->generation++;
    announce(rx);
}

void ep_bell_rearm(struct ep_bell_rx *rx)
{
    rx->generation += ep_bell_is_armed(rx) ? 2 : 1;
    announce(rx);
}

void ep_bell_disarm(struct ep_bell_rx *rx)
{
    if (!ep_bell_is_armed(rx))
        return;
    rx->generation++;
    /* Relaxed: late news of it costs one ring too many, nothing else. */
    atomic_store_explicit(rx->word, rx->generation, memory_order_relaxed);
}

bool ep_bell_is_armed(const struct ep_bell_rx *rx)
{
    return (rx->generation & 1) != 0;
}

bool ep_bell_must_ring(struct ep_bell_tx *tx)
{
    /* W1 (or S1), second half: the publishing store came before it. */
    uint64_t word = atomic_load_explicit(tx->word, memory_order_seq_cst);

    if ((word & 1) == 0 || word == tx->answered)
        return false;
    tx->answered = word;
    return true;
}

uint32_t ep_futex_value(const ep_atomic_u32 *word)
{
    /* Acquire: the arming that follows must not move up before it. */
    return atomic_load_explicit(word, memory_order_acquire);
}

void ep_futex_wait(const ep_atomic_u32 *word, uint32_t value, int64_t timeout_ns)
{
    struct timespec limit = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};

    /* Not FUTEX_PRIVATE: the word is shared between processes, and mapped
     * read-only on this side. Errors mean "look again", as a wake-up does. */
    (void)syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns < 0 ? NULL : &limit, NULL, 0);
}

void ep_futex_wake(ep_atomic_u32 *word)
{
    atomic_fetch_add_explicit(word, 1, memory_order_seq_cst);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "evil_message.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* Ends, and those that do not come, at every step of a message. */

static _Noreturn void end(struct evil_order *order)
{
    static const int signals[] = {SIGKILL, SIGSEGV, SIGABRT, SIGTERM};
    uint64_t how = evil_below(&order->random, 7);

    if (how < 4)
        (void)raise(signals[how]);
    _exit(how == 4 ? 0 : how == 5 ? EP_EXIT_CANNOT_START : 72);
}

static void death_now(struct evil_order *order)
{
    end(order);
}

/* The cell is written and not published. */
static void death_unpublished(struct evil_order *order)
{
    struct ep_ring_tx *ring = &order->via->shm.response;
    struct ep_cell *cell = &ring->cells[ring->tail & ring->mask];

    cell->call_id = order->id;
    cell->kind = EP_KIND_RESULT;
    cell->length = EP_INLINE_MAX;
    end(order);
}

/* Published, and nobody was rung for. */
static void death_unrung(struct evil_order *order)
{
    struct ep_cell *cell;

    if (ep_ring_reserve(&order->via->shm.response, &cell) == 0) {
        ep_cell_begin(cell, EP_KIND_DROPPED, 0, 0, order->id, 0);
        (void)ep_ring_commit(&order->via->shm.response);
    }
    end(order);
}

static void death_after_message(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_make(order, &message, data);
    evil_publish(order->worker, order->via, &message);
    end(order);
}

/* Just after a question, whose answer nobody will take. */
static void death_after_question(struct evil_order *order)
{
    struct evil_message message;
    uint8_t data[EP_INLINE_MAX];

    evil_message_question(order, &message, data, "evil_now", ++order->lane->number);
    evil_publish(order->worker, order->via, &message);
    evil_pause_us((unsigned)evil_below(&order->random, 3000));
    end(order);
}

/* Soon, from a thread, while everything else goes on as it should. */
static void death_later(struct evil_order *order)
{
    (void)order;
    (void)ualarm((useconds_t)(1000 + evil_below(&order->random, 20000)), 0);
}

static void death_stop(struct evil_order *order)
{
    (void)order;
    (void)raise(SIGSTOP);
}

/* Lives, serves, and answers neither STOP nor SHUTDOWN. */
static void death_refused(struct evil_order *order)
{
    order->worker->is_silent = true;
    (void)signal(SIGTERM, SIG_IGN);
}

/* Serves nothing any more; the calls that it has are not answered. */
static void death_deaf(struct evil_order *order)
{
    atomic_store_explicit(order->lane->shm.running, order->id, memory_order_seq_cst);
    for (;;)
        evil_pause_us(1000000);
}

const struct evil_attack evil_death_attacks[] = {
    {"death_now", death_now},
    {"death_unpublished", death_unpublished},
    {"death_unrung", death_unrung},
    {"death_after_message", death_after_message},
    {"death_after_question", death_after_question},
    {"death_later", death_later},
    {"death_stop", death_stop},
    {"death_refused", death_refused},
    {"death_deaf", death_deaf},
    {NULL, NULL},
};

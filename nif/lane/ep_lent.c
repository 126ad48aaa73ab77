/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_lent.h"

#include "ep_etf.h"
#include "ep_lease.h"

/* Under vm->objects->lock: what is left to be known of a lease is how many items were read. */
static void finish(struct ep_lent *lent)
{
    struct ep_host *host = lent->host;

    if (host == NULL)
        return;
    lent->n_read =
        ep_lease_revoke(ep_lease_limit(host->a.mem, lent->number),
                        ep_lease_claimed(host->b.mem, lent->number), lent->position, lent->n);
    host->leases[lent->number] = NULL;
    lent->host = NULL;
}

static uint32_t count(struct ep_pipe *pipe, bool is_last)
{
    struct ep_objects *all = pipe->object->vm->objects;
    struct ep_lent *lent = &pipe->lent;

    pthread_mutex_lock(&all->lock);
    if (is_last)
        finish(lent);
    uint32_t n = lent->host == NULL
                     ? lent->n_read
                     : ep_lease_count(ep_lease_claimed(lent->host->b.mem, lent->number),
                                      lent->position, lent->n);
    pthread_mutex_unlock(&all->lock);
    return n;
}

/* A worker that lies may have read fewer than it had before. */
static void let_go(struct ep_pipe *pipe, uint32_t n_read, struct ep_item **done)
{
    struct ep_lent *lent = &pipe->lent;

    while (lent->n_gone < n_read) {
        struct ep_item *item = lent->first;
        lent->first = item->next;
        lent->n_gone++;
        pipe->n--;
        pipe->size -= item->size;
        item->next = *done;
        *done = item;
    }
}

void ep_lent_sync(struct ep_pipe *pipe, struct ep_item **done)
{
    if (pipe->lent.n > 0)
        let_go(pipe, count(pipe, false), done);
}

void ep_lent_end(struct ep_pipe *pipe, struct ep_item **done)
{
    struct ep_lent *lent = &pipe->lent;

    if (lent->n == 0)
        return;
    let_go(pipe, count(pipe, true), done);
    if (lent->n_gone < lent->n) {
        /* Somebody else wants them: one by one, then. */
        lent->batch = 0;
        *lent->last = pipe->first;
        if (pipe->first == NULL)
            pipe->last = lent->last;
        pipe->first = lent->first;
    }
    lent->first = NULL;
    lent->n = lent->n_gone = 0;
}

void ep_lent_free(struct ep_item *done)
{
    while (done != NULL) {
        struct ep_item *next = done->next;
        ep_item_free(done);
        done = next;
    }
}

/* How many items the next answer may have: the more, the longer the same reader asks, and no other
 * has asked for what it had. So two readers share items one by one. */
static uint32_t next_batch(struct ep_lent *lent, const struct ep_host *host, uint32_t number)
{
    uint64_t taker = host->id * EP_LEASES_MAX + number + 1;

    if (lent->taker != taker)
        lent->batch = 0;
    lent->taker = taker;
    lent->batch = lent->batch == 0 ? 1 : lent->batch * 2;
    if (lent->batch > EP_LEASE_ITEMS)
        lent->batch = EP_LEASE_ITEMS;
    return lent->batch;
}

/* What others have to have is not lent: arrays, and what is not copied. */
static bool can_be_lent(const struct ep_item *item)
{
    return item != NULL && item->cargo == NULL && item->n_tail == 0;
}

/* How many of the first items there are room for. */
static uint32_t count_short(const struct ep_pipe *pipe, uint32_t most)
{
    const struct ep_item *item = pipe->first;
    size_t bytes = 0;
    uint32_t n = 0;

    while (n < most && can_be_lent(item) && ep_item_length(item) <= EP_LEASE_BYTES - bytes) {
        bytes += ep_item_length(item);
        item = item->next;
        n++;
    }
    return n;
}

static void lend(struct ep_pipe *pipe, struct ep_host *host, uint32_t n, uint32_t number,
                 uint64_t position)
{
    struct ep_objects *all = pipe->object->vm->objects;
    struct ep_lent *lent = &pipe->lent;

    pthread_mutex_lock(&all->lock);
    if (host->leases[number] != NULL)
        finish(&host->leases[number]->lent);
    host->leases[number] = pipe;
    lent->host = host;
    lent->number = number;
    lent->position = position;
    lent->n = n;
    lent->n_gone = lent->n_read = 0;
    ep_lease_grant(ep_lease_limit(host->a.mem, number), position, n);
    pthread_mutex_unlock(&all->lock);
}

static void take_first(struct ep_pipe *pipe, uint32_t n, struct ep_buf *buf)
{
    struct ep_lent *lent = &pipe->lent;

    lent->first = pipe->first;
    for (uint32_t i = 0; i < n; i++) {
        ep_item_put(pipe->first, buf);
        lent->last = &pipe->first->next;
        pipe->first = pipe->first->next;
    }
    *lent->last = NULL;
    if (pipe->first == NULL)
        pipe->last = &pipe->first;
}

bool ep_lent_offer(struct ep_object *object, enum ep_side side, struct ep_host *host,
                   uint32_t number, uint64_t position, struct ep_buf *buf)
{
    struct ep_pipe *pipe = &object->pipes[side];
    struct ep_item *done = NULL;

    pthread_mutex_lock(&object->lock);
    ep_lent_end(pipe, &done);
    uint32_t n = count_short(pipe, next_batch(&pipe->lent, host, number));
    bool is_worth_it = n > 1;
    if (is_worth_it) {
        ep_etf_put_int(buf, number);
        take_first(pipe, n, buf);
        lend(pipe, host, n, number, position);
    }
    ep_object_recount(object);
    pthread_mutex_unlock(&object->lock);
    ep_lent_free(done);
    return is_worth_it;
}

void ep_lent_forget_host(struct ep_host *host)
{
    struct ep_objects *all = host->vm->objects;

    pthread_mutex_lock(&all->lock);
    for (uint32_t i = 0; i < EP_LEASES_MAX; i++)
        if (host->leases[i] != NULL)
            finish(&host->leases[i]->lent);
    pthread_mutex_unlock(&all->lock);
}

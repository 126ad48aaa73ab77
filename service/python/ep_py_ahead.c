/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_ahead.h"

#include "ep_etf.h"
#include "ep_lease.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The items of one object. */
struct ahead {
    uint64_t id;
    const ep_atomic_u64 *limit;
    ep_atomic_u64 *claimed;
    uint64_t position; /* of the next item: claimed is as far */
    uint64_t used;     /* when; the longest ago goes first */
    bool is_asking;
    uint8_t *bytes; /* EP_LEASE_BYTES, from the first use on */
    size_t at, end;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* for all of it */
static struct ahead all[EP_LEASES_MAX];
static uint64_t uses;

void ep_py_ahead_init(const void *mem_a, void *mem_b)
{
    for (uint32_t i = 0; i < EP_LEASES_MAX; i++) {
        all[i].limit = ep_lease_limit(mem_a, i);
        all[i].claimed = ep_lease_claimed(mem_b, i);
    }
}

/* Under the mutex, as all that follows. */
static void set_end(struct ahead *ahead, size_t end)
{
    ahead->at = 0;
    ahead->end = end;
}

/* Takes the next item, unless the VM has taken all that is left. */
static bool take(struct ahead *ahead, struct ep_buf *buf)
{
    struct ep_etf_cursor cursor;

    if (ahead->at == ahead->end)
        return false;
    const uint8_t *item = ahead->bytes + ahead->at;
    if (!ep_lease_claim(ahead->limit, ahead->claimed, ahead->position++)) {
        set_end(ahead, 0);
        return false;
    }
    ep_etf_cursor_init(&cursor, item, ahead->end - ahead->at);
    if (ep_etf_skip(&cursor) < 0)
        abort(); /* the VM has sent what is no term */
    ep_buf_put(buf, item, (size_t)(cursor.at - item));
    ahead->at += (size_t)(cursor.at - item);
    if (ahead->at == ahead->end)
        set_end(ahead, 0);
    return true;
}

static struct ahead *find(uint64_t id)
{
    for (uint32_t i = 0; i < EP_LEASES_MAX; i++)
        if (all[i].used > 0 && all[i].id == id)
            return &all[i];
    return NULL;
}

static bool is_before(const struct ahead *a, const struct ahead *b)
{
    bool a_has = a->at < a->end, b_has = b->at < b->end;

    return a_has != b_has ? b_has : a->used < b->used;
}

/* One that nobody asks with; rather one that has nothing. What it has goes back when the VM is asked
 * for it. */
static struct ahead *find_oldest(void)
{
    struct ahead *oldest = NULL;

    for (uint32_t i = 0; i < EP_LEASES_MAX; i++)
        if (!all[i].is_asking && (oldest == NULL || is_before(&all[i], oldest)))
            oldest = &all[i];
    return oldest;
}

/* The lease for an object, to ask with. NULL: another thread does, or there is none left. */
static struct ahead *choose(uint64_t id, struct ahead *ahead)
{
    if (ahead == NULL) {
        ahead = find_oldest();
        if (ahead != NULL)
            set_end(ahead, 0);
    }
    if (ahead == NULL || ahead->is_asking)
        return NULL;
    if (ahead->bytes == NULL)
        ahead->bytes = malloc(EP_LEASE_BYTES);
    if (ahead->bytes == NULL)
        return NULL;
    ahead->id = id;
    ahead->used = ++uses;
    ahead->is_asking = true;
    return ahead;
}

enum ep_ahead ep_py_ahead_next(uint64_t id, struct ep_buf *buf, uint32_t *ret_number,
                               uint64_t *ret_position)
{
    enum ep_ahead result = EP_AHEAD_NONE;

    (void)pthread_mutex_lock(&mutex);
    /* SUBTLE: the look and the choice are one step. A thread that came between them could read on,
     * beyond the position that this one tells the VM. */
    struct ahead *ahead = find(id);
    if (ahead != NULL && take(ahead, buf)) {
        result = EP_AHEAD_ITEM;
    } else if ((ahead = choose(id, ahead)) != NULL) {
        *ret_number = (uint32_t)(ahead - all);
        *ret_position = ahead->position;
        result = EP_AHEAD_ASK;
    }
    (void)pthread_mutex_unlock(&mutex);
    return result;
}

void ep_py_ahead_end(uint32_t number)
{
    (void)pthread_mutex_lock(&mutex);
    all[number].is_asking = false;
    (void)pthread_mutex_unlock(&mutex);
}

bool ep_py_ahead_receive(const uint8_t *payload, size_t length, struct ep_buf *buf)
{
    struct ep_etf_cursor cursor;
    struct ep_etf_token number;

    ep_etf_cursor_init(&cursor, payload, length);
    if (ep_etf_next(&cursor, &number) < 0 || number.type != EP_ETF_INT || number.integer < 0
        || number.integer >= EP_LEASES_MAX)
        return false;
    size_t n = (size_t)(cursor.end - cursor.at);
    struct ahead *ahead = &all[number.integer];
    (void)pthread_mutex_lock(&mutex);
    bool ok = ahead->is_asking && n > 0 && n <= EP_LEASE_BYTES;
    if (ok) {
        memcpy(ahead->bytes, cursor.at, n);
        set_end(ahead, n);
        (void)take(ahead, buf);
    }
    (void)pthread_mutex_unlock(&mutex);
    return ok;
}

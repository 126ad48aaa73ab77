/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_array_pool.h"

#include "ep_fdpass.h"
#include "ep_peer.h"
#include "ep_wake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How long a segment without arrays stays warm, and how often to look. */
#define IDLE_NS UINT64_C(2000000000)
#define LOOK_MS 500
/* A worker that keeps such a segment is asked less and less often. */
#define PAUSE_MAX_NS UINT64_C(60000000000)
/* What stays warm of our own, as long as there are worker processes. */
#define KEEP EP_SEGMENT_SIZE
/* News for which a message is worth while, and beyond which a worker is given up. */
#define NEWS_BATCH 16u
#define NEWS_MAX (1u << 20)
/* Messages after which an idle worker is told to read them. */
#define UNREAD_MAX 64u

void ep_array_pool_wake(struct ep_arrays *all)
{
    if (!atomic_exchange(&all->has_news, true))
        ep_wake_reaper(all->vm);
}

/* --- news ----------------------------------------------------------------------------- */

static int tell(struct ep_host_arrays *h, const struct ep_array_message *message, int fd)
{
    if (h->socket < 0)
        return -EPIPE;
    int rc = ep_fdpass_send(h->socket, message, ep_array_message_size(message->n), &fd, fd >= 0);
    h->is_full = rc == -EAGAIN;
    if (rc == -EAGAIN || (rc == 0 && ++h->unread >= UNREAD_MAX)) {
        h->wants_tend = true;
        ep_array_pool_wake(h->all);
    }
    return rc;
}

/* Puts the first news into a message. Returns how many. */
static size_t fill(const struct ep_host_arrays *h, struct ep_array_message *message)
{
    size_t n = 0;

    *message = (struct ep_array_message){.what = (uint32_t)h->news[0].what};
    if (message->what == EP_NEWS_RETIRED) {
        message->segment = h->news[0].id;
        return 1;
    }
    while (n < h->n_news && n < EP_NEWS_IDS && h->news[n].what == EP_NEWS_FREED) {
        message->ids[n] = h->news[n].id;
        n++;
    }
    message->n = (uint32_t)n;
    return n;
}

/* Returns whether something was told. */
static bool flush_news(struct ep_host_arrays *h)
{
    struct ep_array_message message;
    bool has_told = false;

    while (h->n_news > 0) {
        size_t n = fill(h, &message);
        int rc = tell(h, &message, -1);
        if (rc == -EAGAIN)
            break;
        if (rc < 0)
            n = h->n_news; /* the process is gone */
        has_told = true;
        h->n_news -= n;
        memmove(h->news, h->news + n, h->n_news * sizeof(*h->news));
    }
    return has_told;
}

static void add_news(struct ep_host_arrays *h, enum ep_array_news what, uint64_t id)
{
    if (h->n_news == h->max_news) {
        size_t max = h->max_news == 0 ? 64 : 2 * h->max_news;
        struct ep_news *news = max > NEWS_MAX ? NULL : realloc(h->news, max * sizeof(*news));
        if (news == NULL) { /* it reads nothing, or nobody has memory */
            (void)ep_peer_kill(h->host, EP_KILL_VIOLATION);
            return;
        }
        h->news = news;
        h->max_news = max;
    }
    h->news[h->n_news++] = (struct ep_news){.what = what, .id = id};
    if (h->n_news >= NEWS_BATCH)
        (void)flush_news(h);
    else
        ep_array_pool_wake(h->all);
}

/* --- segments --------------------------------------------------------------------------- */

struct ep_segment *ep_array_pool_find(struct ep_arrays *all, uint64_t id)
{
    struct ep_segment *segment = all->segments;

    while (segment != NULL && segment->id != id)
        segment = segment->next;
    return segment;
}

/* Nobody uses it any more. */
static void destroy(struct ep_arrays *all, struct ep_segment *segment)
{
    struct ep_segment **at = &all->segments;

    while (*at != segment)
        at = &(*at)->next;
    *at = segment->next;
    for (struct ep_host_arrays *h = all->hosts; h != NULL; h = h->next) {
        if (ep_map_remove(&h->shown, segment->id) == NULL || segment->is_given)
            continue;
        add_news(h, EP_NEWS_RETIRED, segment->id);
        h->wants_tend = true;
    }
    if (segment->writer != NULL)
        segment->writer->segments--;
    all->bytes -= segment->seg.size;
    if (segment->is_ours)
        ep_arena_finish(&segment->arena);
    ep_seg_finish(&segment->seg);
    free(segment);
}

static bool is_idle(const struct ep_segment *segment)
{
    return segment->arrays == 0 && segment->writer == NULL;
}

/* Makes room for size more bytes under the limit. */
static int make_room(struct ep_arrays *all, uint64_t size)
{
    struct ep_segment *segment = all->segments;

    while (segment != NULL && (size > all->most || all->bytes > all->most - size)) {
        struct ep_segment *next = segment->next;
        if (is_idle(segment))
            destroy(all, segment);
        segment = next;
    }
    return size > all->most || all->bytes > all->most - size ? -ENOMEM : 0;
}

static int add_segment(struct ep_arrays *all, struct ep_host_arrays *writer, uint64_t size,
                       struct ep_segment **ret_segment)
{
    int rc = make_room(all, size);
    if (rc < 0)
        return rc;
    struct ep_segment *segment = calloc(1, sizeof(*segment));
    if (segment == NULL)
        return -ENOMEM;
    rc = writer == NULL ? ep_seg_create_own(&segment->seg, size, 0)
                        : ep_seg_create_lent(&segment->seg, size);
    if (rc < 0) {
        free(segment);
        return -ENOMEM;
    }
    segment->id = all->next_segment++;
    segment->writer = writer;
    segment->is_ours = writer == NULL;
    segment->is_own = segment->is_ours && ep_seg_is_own(&segment->seg);
    segment->idle_ns = ep_clock_ns();
    segment->pause_ns = IDLE_NS;
    if (segment->is_ours)
        ep_arena_init(&segment->arena, size);
    else
        writer->segments++;
    struct ep_segment **at = &all->segments;
    while (*at != NULL)
        at = &(*at)->next;
    *at = segment;
    all->bytes += size;
    if (all->bytes > all->high)
        all->high = all->bytes;
    ep_array_pool_wake(all);
    *ret_segment = segment;
    return 0;
}

int ep_array_pool_take(struct ep_arrays *all, uint64_t bytes, struct ep_segment **ret_segment,
                       uint64_t *ret_offset)
{
    struct ep_segment *segment;
    unsigned n = 0;

    for (segment = all->segments; segment != NULL; segment = segment->next) {
        if (!segment->is_ours)
            continue;
        n++;
        if (ep_arena_alloc(&segment->arena, bytes, ret_offset) == 0)
            goto taken;
    }
    int rc = add_segment(all, NULL, ep_arena_segment_size(bytes, n), &segment);
    if (rc < 0)
        return rc;
    if (ep_arena_alloc(&segment->arena, bytes, ret_offset) < 0) {
        destroy(all, segment);
        return -ENOMEM;
    }
taken:
    segment->arrays++;
    *ret_segment = segment;
    return 0;
}

void ep_array_pool_put(struct ep_arrays *all, struct ep_segment *segment, uint64_t block,
                       uint64_t id)
{
    segment->arrays--;
    if (segment->is_ours)
        (void)ep_arena_free(&segment->arena, block);
    else if (segment->writer != NULL)
        add_news(segment->writer, EP_NEWS_FREED, id);
    if (segment->arrays > 0)
        return;
    segment->idle_ns = ep_clock_ns();
    segment->pause_ns = IDLE_NS;
    if (!segment->is_ours && segment->writer == NULL)
        destroy(all, segment);
    else
        ep_array_pool_wake(all);
}

int ep_array_pool_show(struct ep_host_arrays *h, struct ep_segment *segment)
{
    struct ep_array_message message = {
        .what = EP_NEWS_SEGMENT, .segment = segment->id, .size = segment->seg.size};

    if (segment->writer == h || ep_map_get(&h->shown, segment->id) != NULL)
        return 0;
    if (ep_map_reserve(&h->shown) < 0)
        return -ENOMEM;
    (void)flush_news(h);
    if (h->n_news > 0) /* in order */
        return -EAGAIN;
    if (tell(h, &message, segment->seg.fd) < 0)
        return -EAGAIN;
    return ep_map_set(&h->shown, segment->id, segment);
}

int ep_array_pool_need(struct ep_host_arrays *h, uint64_t bytes)
{
    struct ep_array_message message = {.what = EP_NEWS_NONE};
    struct ep_segment *segment = NULL;

    /* What has come back may be enough. */
    bool has_told = flush_news(h);
    if (has_told)
        message.size = 1; /* look, and ask again */
    else if (bytes <= h->all->most
             && add_segment(h->all, h, ep_arena_segment_size(bytes, h->segments), &segment) == 0)
        message = (struct ep_array_message){.what = EP_NEWS_OWN,
                                            .segment = segment->id,
                                            .size = segment->seg.size,
                                            .prefix = ep_array_prefix(h->host->id)};
    int rc = tell(h, &message, segment == NULL ? -1 : segment->seg.fd);
    if (rc < 0 && segment != NULL) {
        segment->is_given = true;
        destroy(h->all, segment);
    }
    /* An honest worker reads before it asks again. */
    return rc == -EAGAIN ? -EPROTO : 0;
}

int ep_array_pool_give(struct ep_host_arrays *h, uint64_t id)
{
    struct ep_segment *segment = ep_array_pool_find(h->all, id);

    if (segment == NULL || segment->writer != h || segment->arrays > 0)
        return -EPROTO;
    segment->is_given = true;
    destroy(h->all, segment);
    return 0;
}

void ep_array_pool_end(struct ep_host_arrays *h)
{
    struct ep_segment *segment = h->all->segments;

    if (h->all->hosts == NULL)
        ep_array_pool_wake(h->all);
    while (segment != NULL) {
        struct ep_segment *next = segment->next;
        if (segment->writer == h) {
            segment->writer = NULL;
            if (segment->arrays == 0)
                destroy(h->all, segment);
        }
        segment = next;
    }
}

/* --- what the reaper does ------------------------------------------------------------------ */

int ep_array_pool_look(struct ep_arrays *all)
{
    uint64_t now = ep_clock_ns(), kept = 0, most = all->hosts != NULL ? KEEP : 0;
    bool has_idle = false;

    for (struct ep_host_arrays *h = all->hosts; h != NULL; h = h->next) {
        (void)flush_news(h);
        has_idle |= h->n_news > 0;
    }
    for (struct ep_segment *segment = all->segments, *next; segment != NULL; segment = next) {
        next = segment->next;
        if (segment->arrays > 0)
            continue;
        has_idle |= segment->writer != NULL || segment->seg.size + kept > most;
        if (now - segment->idle_ns < segment->pause_ns) {
            kept += segment->is_ours ? segment->seg.size : 0;
            continue;
        }
        if (segment->writer != NULL) {
            /* It knows whether it uses the segment. */
            segment->writer->wants_tend = true;
            segment->idle_ns = now;
            if (segment->pause_ns < PAUSE_MAX_NS)
                segment->pause_ns *= 2;
        } else if (segment->seg.size + kept > most) {
            destroy(all, segment);
        } else {
            kept += segment->seg.size;
        }
    }
    return has_idle ? LOOK_MS : -1;
}

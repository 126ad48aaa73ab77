/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_py_store.h"

#include "ep_arena.h"
#include "ep_control.h"
#include "ep_crashpoint.h"
#include "ep_fdpass.h"
#include "ep_map.h"
#include "ep_py_fork.h"
#include "ep_seg.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A segment of another writer, or of our own. */
struct segment {
    struct segment *next;
    uint64_t id;
    struct ep_seg seg;
    struct ep_arena arena;
    bool is_own;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;    /* all that follows */
static pthread_mutex_t needing = PTHREAD_MUTEX_INITIALIZER; /* one asks for a segment at a time */
static int news_socket = -1;
static void (*send_message)(uint8_t aux, uint64_t subject, const struct ep_buf *payload);
static struct segment *segments;
static struct ep_map entries;
static uint64_t prefix, next_id = 1;
static unsigned n_made; /* entries of our own */
static enum { NEED_OPEN, NEED_NONE, NEED_AGAIN, NEED_DONE } need;

void ep_py_store_init(int socket,
                      void (*send)(uint8_t aux, uint64_t subject, const struct ep_buf *payload))
{
    news_socket = socket;
    send_message = send;
}

_Noreturn static void die(const char *why)
{
    (void)fprintf(stderr, "ep_worker: arrays: %s\n", why);
    _exit(EP_EXIT_PROTOCOL);
}

static struct segment *find(uint64_t id)
{
    struct segment *segment = segments;

    while (segment != NULL && segment->id != id)
        segment = segment->next;
    return segment;
}

/* --- news -------------------------------------------------------------------------------- */

static void remove_segment(struct segment *segment)
{
    struct segment **at = &segments;

    while (*at != segment)
        at = &(*at)->next;
    *at = segment->next;
    if (segment->is_own)
        ep_arena_finish(&segment->arena);
    ep_seg_finish(&segment->seg);
    free(segment);
}

static int map_segment(const struct ep_array_message *message, int fd)
{
    bool is_own = message->what == EP_NEWS_OWN;
    struct segment *segment = calloc(1, sizeof(*segment));

    if (segment == NULL || fd < 0)
        goto fail;
    int rc = ep_seg_open(&segment->seg, fd, is_own);
    if (rc < 0)
        goto fail;
    ep_seg_close_fd(&segment->seg);
    segment->id = message->segment;
    segment->is_own = is_own;
    if (is_own) {
        prefix = message->prefix;
        ep_arena_init(&segment->arena, segment->seg.size);
    }
    segment->next = segments;
    segments = segment;
    return 0;

fail:
    if (fd >= 0)
        (void)close(fd);
    free(segment);
    return -ENOMEM;
}

/* Nobody holds an array of ours any more. */
static void free_made(uint64_t id)
{
    struct ep_py_entry *entry = ep_map_get(&entries, id);

    bool is_free = entry != NULL && entry->is_made && entry->refs == 0;
    struct segment *segment = is_free ? find(entry->info.segment) : NULL;
    if (!is_free)
        die("the VM has freed what is in use");
    if (segment == NULL || ep_arena_free(&segment->arena, entry->block) < 0)
        die("a block is not out");
    (void)ep_map_remove(&entries, id);
    free(entry);
    n_made--;
}

static void take_news(const struct ep_array_message *message, int fd)
{
    struct segment *segment;

    switch (message->what) {
    case EP_NEWS_SEGMENT:
        if (map_segment(message, fd) < 0)
            die("a segment cannot be mapped");
        break;
    case EP_NEWS_OWN:
        if (map_segment(message, fd) == 0) {
            need = NEED_DONE;
            break;
        }
        /* Unknown to us, it goes back when the VM sees that it is empty. */
        need = NEED_NONE;
        break;
    case EP_NEWS_NONE: need = message->size != 0 ? NEED_AGAIN : NEED_NONE; break;
    case EP_NEWS_FREED:
        for (uint32_t i = 0; i < message->n; i++)
            free_made(message->ids[i]);
        break;
    case EP_NEWS_RETIRED:
        segment = find(message->segment);
        if (segment != NULL)
            remove_segment(segment);
        break;
    default: die("unknown news");
    }
}

/* Under the lock. */
static void read_news(void)
{
    struct ep_array_message message;
    int fds[EP_FDPASS_MAX];
    ssize_t n;

    while ((n = ep_fdpass_receive(news_socket, &message, sizeof(message), fds)) > 0) {
        if (message.n > EP_NEWS_IDS || (size_t)n != ep_array_message_size(message.n))
            die("news of an unknown form");
        take_news(&message, fds[0]);
    }
}

/* --- references ---------------------------------------------------------------------------- */

static void drop(uint64_t id, uint64_t claims)
{
    struct ep_array_drop drop = {.id = id, .claims = claims};
    struct ep_buf buf;
    uint8_t lent[sizeof(drop)];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_buf_put(&buf, &drop, sizeof(drop));
    EP_CRASHPOINT("array.before_drop");
    send_message(EP_ARRAYS_DROP, 0, &buf);
}

void ep_py_entry_ref(struct ep_py_entry *entry)
{
    (void)pthread_mutex_lock(&lock);
    entry->refs++;
    (void)pthread_mutex_unlock(&lock);
}

void ep_py_entry_unref(struct ep_py_entry *entry)
{
    if (ep_py_fork_is_child())
        return; /* another process has it */
    (void)pthread_mutex_lock(&lock);
    uint64_t id = entry->info.id, claims = 0;
    if (--entry->refs == 0) {
        claims = entry->claims;
        entry->claims = 0;
        if (entry->is_made && !entry->is_known) {
            free_made(id);
        } else if (!entry->is_made) {
            (void)ep_map_remove(&entries, id);
            free(entry);
        }
    }
    (void)pthread_mutex_unlock(&lock);
    if (claims > 0)
        drop(id, claims);
}

int64_t ep_py_cargo_put(struct ep_py_cargo *cargo, struct ep_py_entry *entry)
{
    if (cargo->n == cargo->max) {
        uint32_t max = cargo->max == 0 ? 4 : 2 * cargo->max;
        struct ep_py_entry **larger =
            max > 65536 ? NULL : realloc(cargo->entries, max * sizeof(*larger));
        if (larger == NULL)
            return -1;
        cargo->entries = larger;
        cargo->max = max;
    }
    ep_py_entry_ref(entry);
    cargo->entries[cargo->n] = entry;
    return cargo->n++;
}

void ep_py_cargo_finish(struct ep_py_cargo *cargo)
{
    if (cargo->max == 0)
        return;
    for (uint32_t i = 0; i < cargo->n; i++)
        ep_py_entry_unref(cargo->entries[i]);
    free(cargo->entries);
    *cargo = (struct ep_py_cargo){.n = 0};
}

/* --- messages -------------------------------------------------------------------------------- */

static struct ep_py_entry *new_entry(const struct ep_array_info *info)
{
    struct ep_py_entry *entry = calloc(1, sizeof(*entry));

    if (entry == NULL || ep_map_set(&entries, info->id, entry) < 0) {
        free(entry);
        return NULL;
    }
    entry->info = *info;
    return entry;
}

/* The entry of a record, perhaps a new one. Under the lock. */
static struct ep_py_entry *arrived(const struct ep_array_info *info)
{
    struct ep_py_entry *entry = ep_map_get(&entries, info->id);

    if (entry != NULL)
        return entry;
    bool is_object = (info->what & EP_ARRAY_OBJECT) != 0;
    struct segment *segment = is_object ? NULL : find(info->segment);
    if (segment == NULL && !is_object) {
        read_news();
        segment = find(info->segment);
    }
    if (!is_object
        && (segment == NULL || info->offset > segment->seg.size
            || info->nbytes > segment->seg.size - info->offset))
        die("an array lies in no segment");
    entry = new_entry(info);
    if (entry == NULL)
        return NULL;
    entry->is_sealed = true;
    if (!is_object)
        entry->mem = (uint8_t *)segment->seg.mem + info->offset;
    return entry;
}

int ep_py_store_arrive(const uint8_t *payload, size_t length, struct ep_py_cargo *cargo,
                       size_t *ret_length, bool *ret_shares)
{
    struct ep_array_reader reader;
    struct ep_array_info info;

    int rc = ep_array_read(&reader, payload, length, ret_length);
    if (rc < 0)
        return rc;
    *ret_shares = reader.shares;
    while ((rc = ep_array_next(&reader, &info)) == 1) {
        (void)pthread_mutex_lock(&lock);
        struct ep_py_entry *entry = arrived(&info);
        (void)pthread_mutex_unlock(&lock);
        if (entry == NULL || ep_py_cargo_put(cargo, entry) < 0)
            return -ENOMEM;
        EP_CRASHPOINT("array.arrived");
    }
    return rc;
}

/* Counts the references of a cargo in its entries. */
static void mark(const struct ep_py_cargo *cargo)
{
    for (uint32_t i = 0; cargo != NULL && i < cargo->n; i++)
        cargo->entries[i]->mark++;
}

static void unmark(const struct ep_py_cargo *cargo)
{
    for (uint32_t i = 0; cargo != NULL && i < cargo->n; i++) {
        cargo->entries[i]->mark = 0;
        cargo->entries[i]->is_brought = false;
    }
}

static void put(struct ep_buf *buf, struct ep_py_entry *entry, uint8_t what)
{
    struct ep_array_info info = entry->info;

    if (entry->is_made)
        what |= EP_ARRAY_MADE;
    what |= info.what & EP_ARRAY_OBJECT;
    if ((what & EP_ARRAY_CLAIMED) != 0)
        entry->claims++;
    info.what = what;
    ep_array_put(buf, &info);
    entry->is_known = true;
}

bool ep_py_store_describe(const struct ep_py_cargo *named, const struct ep_py_cargo *brought,
                          struct ep_buf *buf)
{
    size_t start = buf->length;
    uint32_t n = 0;

    (void)pthread_mutex_lock(&lock);
    /* References that end with the message. */
    mark(brought);
    for (uint32_t i = 0; brought != NULL && i < brought->n; i++)
        brought->entries[i]->is_brought = true;
    mark(named);
    for (uint32_t i = 0; named != NULL && i < named->n; i++, n++) {
        struct ep_py_entry *entry = named->entries[i];
        /* The VM knows of one that this message's own request has brought. One that is made here
         * and not in use any more is given away. Others it may hear of in any order. */
        bool is_given = entry->is_made && entry->refs == entry->mark && entry->claims == 0;
        put(buf, entry, EP_ARRAY_NAMED | (entry->is_brought || is_given ? 0 : EP_ARRAY_CLAIMED));
    }
    for (uint32_t i = 0; brought != NULL && i < brought->n; i++) {
        struct ep_py_entry *entry = brought->entries[i];
        /* In use, or named by a message that the VM may not have read yet. */
        if (entry->refs > entry->mark || entry->claims > 0) {
            put(buf, entry, EP_ARRAY_CLAIMED);
            n++;
        }
    }
    unmark(named);
    unmark(brought);
    (void)pthread_mutex_unlock(&lock);
    if (n > 0) {
        EP_CRASHPOINT("array.described");
        ep_array_put_tail(buf, start, n, false);
    }
    return n > 0;
}

/* --- making -------------------------------------------------------------------------------------- */

static size_t page_round(uint64_t nbytes)
{
    return (size_t)((nbytes + EP_PAGE - 1) / EP_PAGE * EP_PAGE);
}

/* Makes an entry in a segment that has room. 0, -EAGAIN, -ENOMEM. Under the lock. */
static int make_here(const struct ep_array_info *wanted, struct ep_py_entry **ret_entry)
{
    struct ep_array_info info = *wanted;
    struct segment *segment;
    uint64_t block = 0;
    int rc = -EAGAIN;

    for (segment = segments; segment != NULL; segment = segment->next) {
        if (segment->is_own)
            rc = ep_arena_alloc(&segment->arena, info.nbytes, &block);
        if (rc == 0)
            break;
        rc = -EAGAIN;
    }
    if (rc < 0)
        return rc;
    uint8_t *mem = (uint8_t *)segment->seg.mem + block;
    info.id = prefix | next_id;
    info.segment = segment->id;
    info.offset = block;
    /* What was sealed there before is not to be written yet. */
    struct ep_py_entry *entry = mprotect(mem, page_round(info.nbytes), PROT_READ | PROT_WRITE) < 0
                                    ? NULL
                                    : new_entry(&info);
    if (entry == NULL) {
        (void)ep_arena_free(&segment->arena, block);
        return -ENOMEM;
    }
    next_id++;
    n_made++;
    entry->mem = mem;
    entry->block = block;
    entry->is_made = true;
    entry->refs = 1;
    *ret_entry = entry;
    return 0;
}

/* Asks the VM for a segment and waits for it. 0: look again. Under needing. */
static int need_segment(uint64_t nbytes)
{
    struct pollfd p = {.fd = news_socket, .events = POLLIN};

    (void)pthread_mutex_lock(&lock);
    need = NEED_OPEN;
    (void)pthread_mutex_unlock(&lock);
    send_message(EP_ARRAYS_NEED, nbytes > 0 ? nbytes : 1, NULL);
    EP_CRASHPOINT("array.needed");
    for (;;) {
        (void)pthread_mutex_lock(&lock);
        read_news();
        int now = need;
        (void)pthread_mutex_unlock(&lock);
        if (now != NEED_OPEN)
            return now == NEED_NONE ? -ENOMEM : 0;
        /* Another thread may have read the answer just now. */
        if (poll(&p, 1, 100) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
            return -ENOMEM;
    }
}

int ep_py_store_make(const struct ep_array_info *info, struct ep_py_entry **ret_entry)
{
    int rc = -ENOMEM;

    for (bool is_first = true;; is_first = false) {
        (void)pthread_mutex_lock(&lock);
        if (is_first && n_made > 0)
            read_news();
        rc = make_here(info, ret_entry);
        (void)pthread_mutex_unlock(&lock);
        if (rc == 0)
            EP_CRASHPOINT("array.made");
        if (rc != -EAGAIN)
            return rc;
        (void)pthread_mutex_lock(&needing);
        rc = need_segment(info->nbytes);
        (void)pthread_mutex_unlock(&needing);
        if (rc < 0)
            return rc;
    }
}

int ep_py_store_seal(struct ep_py_entry *entry)
{
    int rc = 0;

    (void)pthread_mutex_lock(&lock);
    if (!entry->is_sealed && mprotect(entry->mem, page_round(entry->info.nbytes), PROT_READ) < 0)
        rc = -ENOMEM;
    else
        entry->is_sealed = true;
    (void)pthread_mutex_unlock(&lock);
    EP_CRASHPOINT("array.sealed");
    return rc;
}

void ep_py_store_tend(void)
{
    uint64_t given[64];
    size_t n = 0;

    (void)pthread_mutex_lock(&lock);
    read_news();
    for (struct segment *segment = segments, *next; segment != NULL && n < 64; segment = next) {
        next = segment->next;
        if (!segment->is_own || !ep_arena_is_empty(&segment->arena))
            continue;
        given[n++] = segment->id;
        remove_segment(segment);
    }
    (void)pthread_mutex_unlock(&lock);
    while (n > 0)
        send_message(EP_ARRAYS_GIVE, given[--n], NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_MAP_H
#define EP_MAP_H

/*
 * ep_map - a hash table from numbers to pointers, by open addressing.
 *
 * Ownership  what the pointers point to is the caller's.
 * Errors     0 or -ENOMEM.
 * Threads    one at a time.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_map_entry {
    uint64_t key; /* 0: free */
    void *value;
};

/* Zeroed means empty. Treat the fields as private. */
struct ep_map {
    struct ep_map_entry *entries;
    size_t n, capacity;
};

void *ep_map_get(const struct ep_map *map, uint64_t key); /* NULL: none */
/* Makes room for one more, so that the next ep_map_set() cannot fail. */
int ep_map_reserve(struct ep_map *map);
int ep_map_set(struct ep_map *map, uint64_t key, void *value); /* key > 0, value not NULL */
void *ep_map_remove(struct ep_map *map, uint64_t key);         /* returns what was there */
/* The entry at *at or after it, for walks; NULL: none. The table must not change meanwhile. */
const struct ep_map_entry *ep_map_walk(const struct ep_map *map, size_t *at);
void ep_map_finish(struct ep_map *map);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_map.h"

#include "ep_hash.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 32u

static size_t home(const struct ep_map *map, uint64_t key)
{
    return (size_t)(ep_hash_number(key) >> 32) & (map->capacity - 1);
}

static struct ep_map_entry *find(const struct ep_map *map, uint64_t key)
{
    size_t at = home(map, key);

    while (map->entries[at].key != 0 && map->entries[at].key != key)
        at = (at + 1) & (map->capacity - 1);
    return &map->entries[at];
}

void *ep_map_get(const struct ep_map *map, uint64_t key)
{
    return map->n == 0 ? NULL : find(map, key)->value;
}

static int resize(struct ep_map *map, size_t capacity)
{
    struct ep_map larger = {.n = map->n, .capacity = capacity};

    larger.entries = calloc(capacity, sizeof(*larger.entries));
    if (larger.entries == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < map->capacity; i++)
        if (map->entries[i].key != 0)
            *find(&larger, map->entries[i].key) = map->entries[i];
    free(map->entries);
    *map = larger;
    return 0;
}

int ep_map_reserve(struct ep_map *map)
{
    if (2 * (map->n + 1) <= map->capacity)
        return 0;
    return resize(map, map->capacity == 0 ? CAPACITY_MIN : 2 * map->capacity);
}

int ep_map_set(struct ep_map *map, uint64_t key, void *value)
{
    int rc = ep_map_reserve(map);
    if (rc < 0)
        return rc;
    struct ep_map_entry *entry = find(map, key);
    map->n += entry->key == 0;
    *entry = (struct ep_map_entry){.key = key, .value = value};
    return 0;
}

void *ep_map_remove(struct ep_map *map, uint64_t key)
{
    if (map->n == 0)
        return NULL;
    struct ep_map_entry *entry = find(map, key);
    void *value = entry->value;
    if (entry->key == 0)
        return NULL;
    map->n--;
    /* Those behind it move up, unless they would come before their home. */
    size_t hole = (size_t)(entry - map->entries), mask = map->capacity - 1;
    for (size_t at = (hole + 1) & mask; map->entries[at].key != 0; at = (at + 1) & mask) {
        size_t from_home = (at - home(map, map->entries[at].key)) & mask;
        if (from_home >= ((at - hole) & mask)) {
            map->entries[hole] = map->entries[at];
            hole = at;
        }
    }
    map->entries[hole] = (struct ep_map_entry){.key = 0};
    if (map->capacity > CAPACITY_MIN && map->n < map->capacity / 8)
        (void)resize(map, map->capacity / 2);
    return value;
}

const struct ep_map_entry *ep_map_walk(const struct ep_map *map, size_t *at)
{
    while (*at < map->capacity) {
        const struct ep_map_entry *entry = &map->entries[(*at)++];
        if (entry->key != 0)
            return entry;
    }
    return NULL;
}

void ep_map_finish(struct ep_map *map)
{
    free(map->entries);
    *map = (struct ep_map){.n = 0};
}

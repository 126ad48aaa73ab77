/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_HASH_H
#define EP_HASH_H

/*
 * ep_hash - hashes for tables whose keys nobody chooses to do harm. For others: ep_seal().
 *
 * Threads  any.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Spreads numbers, also those that follow each other, by 2^64 divided by the golden ratio. The
 * upper bits are the good ones. */
static inline uint64_t ep_hash_number(uint64_t number)
{
    return number * UINT64_C(0x9E3779B97F4A7C15);
}

/* FNV-1a. Any bits will do. */
static inline uint64_t ep_hash_bytes(const uint8_t *data, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ data[i]) * UINT64_C(1099511628211);
    return hash;
}

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SEAL_H
#define EP_SEAL_H

/*
 * ep_seal - keyed hash that proves that bytes come from this VM.
 *
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012).
 * Used for pids and references that workers hold: docs/decisions/0001.
 *
 * Threads  pure.
 */

#include <stddef.h>
#include <stdint.h>

uint64_t ep_seal(const uint8_t key[16], const uint8_t *data, size_t size);

#endif

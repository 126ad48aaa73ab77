/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_ARRAYS_H
#define EP_NIF_ARRAYS_H

/*
 * ep_nif_arrays - what ep_nif_arrays_test does with arrays, in C: the NIF's headers are not C++.
 *
 * Threads  the calling thread starts and joins its own.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lends arrays that all threads share to one process for each thread, claims, drops and releases
 * them, makes arrays in segments of the processes, and ends the processes, so many rounds long.
 * NULL, or what went wrong. */
const char *arrays_stress(unsigned threads, unsigned rounds);

/* What is left of arrays, and of their memory in use. */
uint64_t arrays_left(void);

/* Makes arrays up to a limit, and lets them go. */
const char *arrays_limit(void);

#ifdef __cplusplus
}
#endif

#endif

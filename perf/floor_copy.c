/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What bytes there and back cannot avoid: into shared memory, into the Python object,
 * back into shared memory. Three copies, into memory that was touched before.
 */
#include "floor.h"

#include <string.h>

static unsigned char buffers[4][16u << 20];

int main(void)
{
    static const size_t sizes[] = {64u << 10, 1u << 20, 16u << 20};
    double rounds[FLOOR_ROUNDS];
    char name[32];

    for (int i = 0; i < 4; i++)
        memset(buffers[i], i + 1, sizeof(buffers[i]));
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (int r = 0; r < FLOOR_ROUNDS; r++) {
            uint64_t start = ep_clock_ns();
            for (int i = 0; i < 3; i++) {
                memcpy(buffers[i + 1], buffers[i], sizes[s]);
                /* The compiler must not see through the copies. */
                __asm__ volatile("" ::"r"(buffers[i + 1]) : "memory");
            }
            rounds[r] = (double)(ep_clock_ns() - start);
        }
        (void)snprintf(name, sizeof(name), "%zu", sizes[s]);
        floor_print(name, rounds);
    }
    return 0;
}

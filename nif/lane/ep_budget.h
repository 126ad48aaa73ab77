/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_BUDGET_H
#define EP_BUDGET_H

/*
 * ep_budget - how much memory may be freed in one go.
 *
 * Units    pieces: one for each piece of memory, some 0.1 us, and one for each page of it, which
 *          the system takes back.
 * Threads  one at a time.
 */

#include "ep_layout.h"

#include <stdbool.h>

struct ep_budget {
    size_t left;
    bool is_strict; /* what costs more than is left stays; else the last one may */
    uint64_t paid;  /* for memory, in all */
};

static inline size_t ep_budget_cost(uint64_t bytes)
{
    return 1 + (size_t)(bytes / EP_PAGE);
}

/* Pays for a piece of memory of so many bytes. False: it is to be freed another time. */
static inline bool ep_budget_pay(struct ep_budget *budget, uint64_t bytes)
{
    size_t cost = ep_budget_cost(bytes);

    if (budget->left == 0 || (budget->is_strict && cost > budget->left))
        return false;
    budget->paid += cost;
    budget->left -= cost < budget->left ? cost : budget->left;
    return true;
}

#endif

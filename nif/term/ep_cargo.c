/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_cargo.h"

#include <errno.h>

ErlNifResourceType *ep_array_type, *ep_object_type;

void (*ep_cargo_unlend)(struct ep_cargo *cargo);

#define CARGO_FIRST 4u

int64_t ep_cargo_put(struct ep_cargo **cargo, struct ep_array *array)
{
    struct ep_cargo *old = *cargo;

    if (old == NULL || old->n == old->max) {
        uint32_t max = old == NULL ? CARGO_FIRST : 4 * old->max;
        if (max > EP_CARGO_MAX)
            return -EMSGSIZE;
        struct ep_cargo *larger =
            enif_realloc(old, sizeof(*larger) + max * sizeof(struct ep_array *));
        if (larger == NULL)
            return -ENOMEM;
        if (old == NULL) {
            larger->host = NULL;
            larger->n = 0;
        }
        larger->max = max;
        *cargo = larger;
    }
    enif_keep_resource(array);
    /* Relaxed: a hint for who asks later. */
    if (!atomic_load_explicit(&array->is_shown, memory_order_relaxed))
        atomic_store_explicit(&array->is_shown, true, memory_order_relaxed);
    (*cargo)->arrays[(*cargo)->n] = array;
    return (*cargo)->n++;
}

void ep_cargo_describe(const struct ep_cargo *cargo, bool shares, struct ep_buf *buf)
{
    uint32_t n = cargo == NULL ? 0 : cargo->n;
    size_t start = buf->length;

    for (uint32_t i = 0; i < n; i++)
        ep_array_put(buf, &cargo->arrays[i]->info);
    ep_array_put_tail(buf, start, n, shares);
}

bool ep_cargo_free_some(struct ep_cargo *cargo, size_t *budget)
{
    if (cargo->host != NULL)
        ep_cargo_unlend(cargo);
    while (cargo->n > 0) {
        if (*budget == 0)
            return false;
        --*budget;
        enif_release_resource(cargo->arrays[--cargo->n]);
    }
    enif_free(cargo);
    return true;
}

void ep_cargo_free(struct ep_cargo *cargo)
{
    size_t budget = SIZE_MAX;

    if (cargo != NULL)
        (void)ep_cargo_free_some(cargo, &budget);
}

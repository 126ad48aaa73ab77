/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_cargo.h"

#include <errno.h>

ErlNifResourceType *ep_array_type;

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

void ep_cargo_free(struct ep_cargo *cargo)
{
    if (cargo == NULL)
        return;
    if (cargo->host != NULL)
        ep_cargo_unlend(cargo);
    for (uint32_t i = 0; i < cargo->n; i++)
        enif_release_resource(cargo->arrays[i]);
    enif_free(cargo);
}

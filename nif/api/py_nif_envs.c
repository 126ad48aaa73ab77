/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_envs.h"

#include "ep_atoms.h"
#include "ep_lanes.h"
#include "ep_outbox.h"

#include <errno.h>

ErlNifResourceType *ep_env_type;

/* Namespaces as resources. */

void py_nif_env_destroy(ErlNifEnv *env, void *object)
{
    struct ep_env *namespace = object;

    (void)env;
    if (namespace->lane == NULL)
        return;
    if (!namespace->is_borrowed)
        ep_outbox_drop_env(namespace->lane, namespace->id);
    enif_release_resource(namespace->lane);
}

static ERL_NIF_TERM make_env(ErlNifEnv *env, struct ep_lane *lane, uint64_t id, bool is_borrowed)
{
    struct ep_env *namespace = enif_alloc_resource(ep_env_type, sizeof(*namespace));

    enif_keep_resource(lane);
    *namespace = (struct ep_env){.lane = lane, .id = id, .is_borrowed = is_borrowed};
    ERL_NIF_TERM term = enif_make_resource(env, namespace);
    enif_release_resource(namespace);
    return term;
}

ERL_NIF_TERM py_nif_make_borrowed_env(ErlNifEnv *env, struct ep_lane *lane, uint64_t id)
{
    return make_env(env, lane, id, true);
}

/* env_new(Lane) -> Env */
PY_NIF(env_new_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_lane_type, (void **)&lane))
        return enif_make_badarg(env);
    return make_env(env, lane, atomic_fetch_add(&lane->common.next_env_id, 1), false);
}

int py_nif_get_env_id(ErlNifEnv *env, ERL_NIF_TERM term, const struct ep_lane *lane,
                      uint64_t *ret_id)
{
    struct ep_env *namespace;

    *ret_id = 0;
    if (enif_is_identical(term, am_undefined))
        return 0;
    if (!enif_get_resource(env, term, ep_env_type, (void **)&namespace))
        return -EINVAL;
    *ret_id = namespace->id;
    return namespace->lane == lane ? 0 : -EXDEV;
}

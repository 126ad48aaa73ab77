/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_ENVS_H
#define PY_NIF_ENVS_H

/*
 * py_nif_envs - namespaces of processes.
 */

#include "py_nif_common.h"

/* A namespace of a process: dropped in the worker when collected. */
struct ep_env {
    struct ep_lane *lane; /* kept */
    uint64_t id;
    bool is_borrowed; /* somebody else's: not dropped with this */
};

PY_NIF(env_new_nif);

void py_nif_env_destroy(ErlNifEnv *env, void *object);

/* Env | undefined -> number of the namespace; -EINVAL, -EXDEV: of another lane. */
int py_nif_get_env_id(ErlNifEnv *env, ERL_NIF_TERM term, const struct ep_lane *lane,
                      uint64_t *ret_id);

/* A term for a namespace that belongs to somebody else. */
ERL_NIF_TERM py_nif_make_borrowed_env(ErlNifEnv *env, struct ep_lane *lane, uint64_t id);

#endif

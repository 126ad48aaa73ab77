/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_common.h"

#include "ep_atoms.h"

struct ep_vm *py_nif_vm(ErlNifEnv *env)
{
    return enif_priv_data(env);
}

ERL_NIF_TERM py_nif_posix_error(ErlNifEnv *env, int rc)
{
    return enif_make_tuple2(env, am_error, ep_atom_of_errno(env, -rc));
}

ERL_NIF_TERM py_nif_take_resource(ErlNifEnv *env, void *object)
{
    ERL_NIF_TERM term = enif_make_resource(env, object);
    enif_release_resource(object);
    return term;
}

bool py_nif_get_spin(ErlNifEnv *env, ERL_NIF_TERM term, uint32_t *ret_min_ns, uint32_t *ret_max_ns)
{
    const ERL_NIF_TERM *pair;
    int arity;

    return enif_get_tuple(env, term, &arity, &pair) && arity == 2
           && enif_get_uint(env, pair[0], ret_min_ns) && enif_get_uint(env, pair[1], ret_max_ns);
}

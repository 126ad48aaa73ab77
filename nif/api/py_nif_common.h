/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_COMMON_H
#define PY_NIF_COMMON_H

/*
 * py_nif_common - what the functions of ep_nif.erl share; py_nif.c has their table.
 *
 * Wrong types raise badarg; what correct code can meet is {error, Posix}, from one helper.
 * 
 * Threads  any.
 */

#include "ep_vm.h"

#define PY_NIF(name) ERL_NIF_TERM name(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])

/* The one ep_vm of this Erlang VM. */
struct ep_vm *py_nif_vm(ErlNifEnv *env);

ERL_NIF_TERM py_nif_posix_error(ErlNifEnv *env, int rc);

/* A term for an object of a resource type. Takes the caller's reference. */
ERL_NIF_TERM py_nif_take_resource(ErlNifEnv *env, void *object);

/* {MinNs, MaxNs}, as for ep_idle_init(). */
bool py_nif_get_spin(ErlNifEnv *env, ERL_NIF_TERM term, uint32_t *ret_min_ns, uint32_t *ret_max_ns);

#endif

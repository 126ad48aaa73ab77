/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the VM's side of a conversion cannot avoid: making the terms. Each function
 * returns the nanoseconds that took, so that neither the call nor the collection of
 * the terms is part of it.
 */
#include "ep_cpu.h"

#include <erl_nif.h>

#include <stdio.h>
#include <string.h>

#define KEY_SIZE 8

/* ints(N) -> Ns */
static ERL_NIF_TERM ints(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    unsigned n;

    (void)argc;
    if (!enif_get_uint(env, argv[0], &n))
        return enif_make_badarg(env);
    uint64_t start = ep_clock_ns();
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (unsigned i = n; i > 0; i--)
        list = enif_make_list_cell(env, enif_make_uint(env, i), list);
    uint64_t end = ep_clock_ns();
    return enif_is_list(env, list) ? enif_make_double(env, (double)(end - start))
                                   : enif_make_badarg(env);
}

/* map(N) -> Ns */
static ERL_NIF_TERM map(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    char text[KEY_SIZE + 8];
    unsigned n;

    (void)argc;
    if (!enif_get_uint(env, argv[0], &n))
        return enif_make_badarg(env);
    char *texts = enif_alloc((size_t)n * KEY_SIZE);
    ERL_NIF_TERM *terms = enif_alloc(2 * sizeof(*terms) * n);
    for (unsigned i = 0; i < n; i++) {
        (void)snprintf(text, sizeof(text), "key_%04u", i % 10000);
        memcpy(texts + (size_t)i * KEY_SIZE, text, KEY_SIZE);
    }
    uint64_t start = ep_clock_ns();
    for (unsigned i = 0; i < n; i++) {
        memcpy(enif_make_new_binary(env, KEY_SIZE, &terms[i]), texts + (size_t)i * KEY_SIZE,
               KEY_SIZE);
        terms[n + i] = enif_make_uint(env, i);
    }
    ERL_NIF_TERM term;
    int made = enif_make_map_from_arrays(env, terms, terms + n, n, &term);
    uint64_t end = ep_clock_ns();
    enif_free(texts);
    enif_free(terms);
    return made ? enif_make_double(env, (double)(end - start)) : enif_make_badarg(env);
}

static ErlNifFunc functions[] = {{"ints", 1, ints, 0}, {"map", 1, map, 0}};

ERL_NIF_INIT(floor_nif, functions, NULL, NULL, NULL, NULL)

/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_vm.h"

#include "ep_atoms.h"
#include "ep_host.h"
#include "ep_object.h"

/* names_changed() -> ok. Every worker looks names of callbacks up again. */
PY_NIF(names_changed_nif)
{
    (void)argc;
    (void)argv;
    ep_host_publish_names(py_nif_vm(env));
    return am_ok;
}

/* set_max_atoms(N) -> ok */
PY_NIF(set_max_atoms_nif)
{
    unsigned n;

    (void)argc;
    if (!enif_get_uint(env, argv[0], &n))
        return enif_make_badarg(env);
    atomic_store(&py_nif_vm(env)->max_atoms, n);
    return am_ok;
}

/* empty() -> ok. The floor of every figure: what a NIF call costs. */
PY_NIF(empty_nif)
{
    (void)env;
    (void)argc;
    (void)argv;
    return am_ok;
}

/* counters() -> #{...} */
PY_NIF(counters_nif)
{
    struct ep_vm *vm = py_nif_vm(env);
    unsigned hosts = 0, launchers = 0;
    uint64_t objects = 0;
    ERL_NIF_TERM map;

    (void)argc;
    (void)argv;
    pthread_mutex_lock(&vm->lock);
    for (struct ep_host *h = vm->hosts; h != NULL; h = h->next)
        hosts++;
    for (struct ep_launcher *l = vm->launchers; l != NULL; l = l->next)
        launchers++;
    pthread_mutex_unlock(&vm->lock);
    for (unsigned kind = 0; kind < EP_OBJECTS; kind++)
        objects += atomic_load(&vm->objects->count[kind]);

    ERL_NIF_TERM keys[] = {am_lost_wake, am_violations, am_late_replies, am_kicks,
                           am_doorbells, am_hosts,      am_launchers,    am_wait_backend,
                           am_cpus,      am_atoms_made, am_max_atoms,    am_objects};
    ERL_NIF_TERM values[] = {
        enif_make_uint64(env, atomic_load(&vm->lost_wake)),
        enif_make_uint64(env, atomic_load(&vm->violations)),
        enif_make_uint64(env, atomic_load(&vm->late_replies)),
        enif_make_uint64(env, atomic_load(&vm->kicks)),
        enif_make_uint64(env, atomic_load(&vm->doorbells)),
        enif_make_uint(env, hosts),
        enif_make_uint(env, launchers),
        ep_wait_which(vm->wait) == EP_WAIT_IO_URING ? am_io_uring : am_epoll,
        enif_make_uint(env, vm->cpus),
        enif_make_uint(env, atomic_load(&vm->atoms_made)),
        enif_make_uint(env, atomic_load(&vm->max_atoms)),
        enif_make_uint64(env, objects),
    };
    (void)enif_make_map_from_arrays(env, keys, values, sizeof(keys) / sizeof(keys[0]), &map);
    return map;
}

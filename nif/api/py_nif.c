/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The table of functions and the life of the library.
 *
 * Several instances of the library can be loaded at once while code is upgraded;
 * they share one struct ep_vm, which the first creates and the last frees. The
 * reaper thread runs the code of one instance, so an upgrade stops it and starts
 * its own; rings and calls do not notice.
 */
#include "ep_arrays.h"
#include "ep_asker.h"
#include "ep_atoms.h"
#include "ep_attach.h"
#include "ep_calls.h"
#include "ep_host.h"
#include "ep_lanes.h"
#include "ep_launcher.h"
#include "ep_object.h"
#include "ep_peer.h"
#include "ep_reaper.h"
#include "ep_slots.h"
#include "ep_term_encode.h"
#include "py_nif_answers.h"
#include "py_nif_arrays.h"
#include "py_nif_askers.h"
#include "py_nif_calls.h"
#include "py_nif_check.h"
#include "py_nif_dicts.h"
#include "py_nif_envs.h"
#include "py_nif_hosts.h"
#include "py_nif_lanes.h"
#include "py_nif_letters.h"
#include "py_nif_numbers.h"
#include "py_nif_objects.h"
#include "py_nif_slots.h"
#include "py_nif_streams.h"
#include "py_nif_vm.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* What load and upgrade return; ep_nif:try_load/0 has a sentence for each. */
enum load_failure {
    LOAD_NO_TYPES = -1,
    LOAD_NO_VM = -2,
    LOAD_OTHER_VM = -3,
    LOAD_OTHER_NUMBERS = -4,
};

static bool open_types(ErlNifEnv *env, ErlNifResourceFlags flags)
{
    static const struct {
        ErlNifResourceType **type;
        const char *name;
        ErlNifResourceTypeInit init;
    } types[] = {
        {&ep_lane_type, "ep_lane", {.dtor = ep_lane_destroy, .down = ep_attach_owner_down}},
        {&ep_host_type, "ep_host", {.dtor = ep_host_destroy, .down = ep_host_down}},
        {&ep_launcher_type, "ep_launcher", {.dtor = ep_launcher_destroy}},
        {&ep_env_type, "ep_env", {.dtor = py_nif_env_destroy}},
        {&ep_call_type, "ep_call", {.dtor = py_nif_call_ref_destroy}},
        {&ep_asker_type, "ep_asker", {.dtor = ep_asker_destroy}},
        {&ep_array_type, "ep_array", {.dtor = ep_array_destroy, .down = ep_array_down}},
        {&ep_object_type, "ep_object", {.dtor = ep_object_destroy}},
        {&ep_slot_type, "ep_slot", {.dtor = ep_slot_ref_destroy, .down = ep_slot_ref_down}},
    };

    ep_arrays_open();
    ep_asker_open();
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        *types[i].type = enif_open_resource_type_x(env, types[i].name, &types[i].init, flags, NULL);
        if (*types[i].type == NULL)
            return false;
    }
    return true;
}

/* Both sides may come from different builds. */
static bool has_our_numbers(ErlNifEnv *env, ERL_NIF_TERM load_info)
{
    return enif_is_identical(load_info, py_nif_shared_numbers(env));
}

static struct ep_vm *create_vm(void)
{
    struct ep_vm *vm = enif_alloc(sizeof(*vm));

    if (vm == NULL)
        return NULL;
    memset(vm, 0, sizeof(*vm));
    vm->version = EP_VM_VERSION;
    vm->next_id = 1;
    vm->cpus = ep_cpu_count();
    atomic_init(&vm->refs, 1);
    atomic_init(&vm->max_atoms, PY_NIF_MAX_ATOMS);
    ep_slots_init(&vm->slots, PY_NIF_MAX_SLOTS);
    pthread_mutex_init(&vm->lock, NULL);
    pthread_mutex_init(&vm->runner_lock, NULL);
    pthread_mutex_init(&vm->wake_lock, NULL);
    if (getrandom(vm->seal_key, sizeof(vm->seal_key), 0) != sizeof(vm->seal_key)
        || ep_arrays_init(vm) < 0 || ep_objects_init(vm) < 0 || ep_reaper_start(vm) < 0) {
        pthread_mutex_destroy(&vm->lock);
        pthread_mutex_destroy(&vm->runner_lock);
        pthread_mutex_destroy(&vm->wake_lock);
        ep_objects_forget(vm);
        ep_arrays_forget(vm);
        enif_free(vm);
        return NULL;
    }
    ep_term_encode_open(vm);
    return vm;
}

static int load(ErlNifEnv *env, void **priv_data, ERL_NIF_TERM load_info)
{
    if (!has_our_numbers(env, load_info))
        return LOAD_OTHER_NUMBERS;
    ep_atoms_init(env);
    if (!open_types(env, ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER))
        return LOAD_NO_TYPES;
    *priv_data = create_vm();
    return *priv_data == NULL ? LOAD_NO_VM : 0;
}

static int upgrade(ErlNifEnv *env, void **priv_data, void **old_priv_data, ERL_NIF_TERM load_info)
{
    struct ep_vm *vm = *old_priv_data;

    if (!has_our_numbers(env, load_info))
        return LOAD_OTHER_NUMBERS;
    /* Other structures: the old instance goes on, and load_nif says so. */
    if (vm->version != EP_VM_VERSION)
        return LOAD_OTHER_VM;
    ep_atoms_init(env);
    if (!open_types(env, ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER))
        return LOAD_NO_TYPES;
    if (ep_reaper_hand_over(vm) < 0)
        return LOAD_NO_VM; /* the old instance goes on, with its reaper */
    atomic_fetch_add(&vm->refs, 1);
    *priv_data = vm;
    return 0;
}

static void unload(ErlNifEnv *env, void *priv_data)
{
    struct ep_vm *vm = priv_data;

    (void)env;
    if (atomic_fetch_sub(&vm->refs, 1) != 1)
        return;
    ep_reaper_stop(vm);
    ep_waiter_threads.release(vm);
    /* Whoever is left keeps a reference of the reaper's; processes that still run
     * are killed, for nobody would notice their end. */
    while (vm->hosts != NULL) {
        struct ep_host *host = vm->hosts;
        vm->hosts = host->next;
        (void)ep_peer_kill(host, EP_KILL_ASKED);
        enif_release_resource(host);
    }
    while (vm->orphans != NULL) {
        struct ep_asker *orphan = vm->orphans;
        vm->orphans = orphan->next_orphan;
        enif_release_resource(orphan);
    }
    while (vm->launchers != NULL) {
        struct ep_launcher *launcher = vm->launchers;
        vm->launchers = launcher->next;
        enif_release_resource(launcher);
    }
    ep_term_encode_close(vm);
    /* SUBTLE: vm is not freed. Resources whose terms are still alive point to it,
     * and may be collected at any later time; this is 200 bytes per unload. */
}

static ErlNifFunc functions[] = {
    {"call", 7, call_nif, 0},
    {"eval", 5, eval_nif, 0},
    {"exec", 4, exec_nif, 0},
    {"await", 2, await_nif, 0},
    {"collect", 1, collect_nif, 0},
    {"cancel", 1, cancel_nif, 0},
    {"check", 1, check_nif, 0},
    {"env_new", 1, env_new_nif, 0},
    {"launcher_open", 0, launcher_open_nif, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"launcher_join", 2, launcher_join_nif, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"host_start", 8, host_start_nif, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"host_kill", 1, host_kill_nif, 0},
    {"host_shutdown", 1, host_shutdown_nif, 0},
    {"lane_new", 3, lane_new_nif, 0},
    {"lane_attach", 5, lane_attach_nif, 0},
    {"lane_close", 2, lane_close_nif, 0},
    {"lane_set_unavailable", 2, lane_set_unavailable_nif, 0},
    {"lane_progress", 2, lane_progress_nif, 0},
    {"lane_interrupt", 2, lane_interrupt_nif, 0},
    {"lane_expire", 2, lane_expire_nif, 0},
    {"lane_interrupt_import", 2, lane_interrupt_import_nif, 0},
    {"lane_is_idle", 1, lane_is_idle_nif, 0},
    {"lane_move", 2, lane_move_nif, 0},
    {"lane_stay", 1, lane_stay_nif, 0},
    {"lane_requests", 1, lane_requests_nif, 0},
    {"lane_is_importing", 1, lane_is_importing_nif, 0},
    {"lane_stats", 1, lane_stats_nif, 0},
    {"names_changed", 0, names_changed_nif, 0},
    {"answer", 4, answer_nif, 0},
    {"run_callbacks", 0, run_callbacks_nif, 0},
    {"asker", 1, asker_nif, 0},
    {"question", 1, question_nif, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"inquire", 4, inquire_nif, 0},
    {"inquire_first", 4, inquire_first_nif, 0},
    {"letter_grant", 2, letter_grant_nif, 0},
    {"letter_sample", 1, letter_sample_nif, 0},
    {"letter_waits", 2, letter_waits_nif, 0},
    {"letter_send", 2, letter_send_nif, 0},
    {"carry_letters", 0, carry_letters_nif, 0},
    {"make_atom", 1, make_atom_nif, 0},
    {"call_id", 1, call_id_nif, 0},
    {"stream_next", 2, stream_next_nif, 0},
    {"stream_go_on", 2, stream_go_on_nif, 0},
    {"stream_finish", 1, stream_finish_nif, 0},
    {"stream_cancel", 1, stream_cancel_nif, 0},
    {"array_from_binary", 3, array_from_binary_nif, 0},
    {"array_new", 2, array_new_nif, 0},
    {"array_write", 3, array_write_nif, 0},
    {"array_seal", 1, array_seal_nif, 0},
    {"array_to_binary", 1, array_to_binary_nif, 0},
    {"array_slice", 3, array_slice_nif, 0},
    {"array_info", 1, array_info_nif, 0},
    {"arrays", 0, arrays_nif, 0},
    {"set_max_shared_bytes", 1, set_max_shared_bytes_nif, 0},
    {"object_new", 2, object_new_nif, 0},
    {"object_close", 1, object_close_nif, 0},
    {"object_info", 1, object_info_nif, 0},
    {"objects", 0, objects_nif, 0},
    {"channel_send", 2, channel_send_nif, 0},
    {"channel_put", 2, channel_put_nif, 0},
    {"channel_take", 1, channel_take_nif, 0},
    {"channel_take_back", 1, channel_take_back_nif, 0},
    {"channel_wait", 2, channel_wait_nif, 0},
    {"channel_unwait", 2, channel_unwait_nif, 0},
    {"buffer_write", 2, buffer_write_nif, 0},
    {"dict_set", 4, dict_set_nif, 0},
    {"dict_get", 2, dict_get_nif, 0},
    {"dict_remove", 2, dict_remove_nif, 0},
    {"dict_keys", 1, dict_keys_nif, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"dict_destroy", 1, dict_destroy_nif, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"slot_acquire", 2, slot_acquire_nif, 0},
    {"slot_claim", 2, slot_claim_nif, 0},
    {"slot_release", 1, slot_release_nif, 0},
    {"slots", 0, slots_nif, 0},
    {"set_max_slots", 1, set_max_slots_nif, 0},
    {"lane_kill", 1, lane_kill_nif, 0},
    {"counters", 0, counters_nif, 0},
    {"set_max_atoms", 1, set_max_atoms_nif, 0},
    {"empty", 0, empty_nif, 0},
};

ERL_NIF_INIT(ep_nif, functions, load, NULL, upgrade, unload)

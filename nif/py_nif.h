/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_H
#define PY_NIF_H

/*
 * py_nif - the functions of py_nif.erl, grouped by file; py_nif.c has the table.
 *
 * Wrong types raise badarg; what correct code can meet is {error, Posix}, from
 * one helper.
 */

#include "ep_vm.h"

#define PY_NIF(name) ERL_NIF_TERM name(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])

/* The one ep_vm of this Erlang VM. */
struct ep_vm *py_nif_vm(ErlNifEnv *env);

ERL_NIF_TERM py_nif_posix_error(ErlNifEnv *env, int rc);

/* py_nif_calls.c */
/* Env | undefined -> number of the namespace; -EINVAL, -EXDEV: of another lane. */
int py_nif_get_env_id(ErlNifEnv *env, ERL_NIF_TERM term, const struct ep_lane *lane,
                      uint64_t *ret_id);

/* A term for a namespace that belongs to somebody else. */
ERL_NIF_TERM py_nif_make_borrowed_env(ErlNifEnv *env, struct ep_lane *lane, uint64_t id);

PY_NIF(call_nif);
PY_NIF(eval_nif);
PY_NIF(exec_nif);
PY_NIF(await_nif);
PY_NIF(collect_nif);
PY_NIF(cancel_nif);
PY_NIF(check_nif);
PY_NIF(env_new_nif);
void py_nif_call_ref_destroy(ErlNifEnv *env, void *object);
void py_nif_env_destroy(ErlNifEnv *env, void *object);

/* py_nif_hosts.c */
PY_NIF(launcher_open_nif);
PY_NIF(launcher_join_nif);
PY_NIF(host_start_nif);
PY_NIF(host_kill_nif);
PY_NIF(host_shutdown_nif);
PY_NIF(lane_new_nif);
PY_NIF(lane_attach_nif);
PY_NIF(lane_close_nif);
PY_NIF(lane_set_unavailable_nif);
PY_NIF(lane_progress_nif);
PY_NIF(lane_interrupt_nif);
PY_NIF(lane_expire_nif);
PY_NIF(lane_is_idle_nif);
PY_NIF(lane_stats_nif);
PY_NIF(names_changed_nif);
PY_NIF(run_callbacks_nif);
PY_NIF(asker_nif);
PY_NIF(question_nif);
PY_NIF(inquire_nif);
PY_NIF(answer_nif);
PY_NIF(call_id_nif);
PY_NIF(slot_acquire_nif);
PY_NIF(slot_claim_nif);
PY_NIF(slot_release_nif);
PY_NIF(slots_nif);
PY_NIF(set_max_slots_nif);
PY_NIF(lane_kill_nif);
PY_NIF(counters_nif);
PY_NIF(set_max_atoms_nif);
PY_NIF(empty_nif);

#endif

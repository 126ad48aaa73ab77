/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ATOMS_H
#define EP_ATOMS_H

/*
 * ep_atoms - the atoms (and the 0) the NIF uses, and making atoms of names from Python.
 *
 * Threads  set once by ep_atoms_init() in load; constant afterwards.
 */

#include "ep_vm.h"

/* A table, and one that the formatter would indent anew each time. */
/* clang-format off */
#define EP_ATOMS(X) \
    X(ok) X(error) X(true) X(false) X(none) X(undefined) \
    X(pending) X(waiting) X(done) X(cancelled) X(interrupted) X(stop_iteration) \
    X(worker_died) X(worker_unavailable) X(context_died) X(context) X(os_pid) X(sandbox) X(reason) \
    X(started) X(kill_after) X(py_done) X(py_lane) X(py_host) X(py_launcher) \
    X(failed) X(spawned) X(ready) X(exited) X(gone) X(stopped) \
    X(overloaded) X(env_wrong_interpreter) X(killed) X(protocol_violation) X(unknown) X(io_uring) \
    X(epoll) X(lost_wake) X(violations) X(late_replies) X(kicks) X(doorbells) \
    X(wait_backend) X(hosts) X(launchers) X(cpus) X(TypeError) X(ValueError) \
    X(MemoryError) X(RecursionError) X(OverflowError) X(noproc) X(callback) X(value) \
    X(raise) X(py_slot) X(held) X(ended) X(waits) X(runs) X(imports) X(not_running) X(queue) X(run) X(reply) \
    X(calls) X(errors) X(timeouts) X(timeout) X(py_callback) X(py_letter) X(py_maintained) X(RuntimeError) X(atoms_made) X(max_atoms) \
    X(state) X(starting) X(restarting) X(unavailable) X(idle) X(busy) X(restarts) X(queue_depth) \
    X(shared_bytes) X(nan) X(infinity) X(neg_infinity) X(interrupted) X(still) X(again) X(zygote) X(neglected) X(dying) X(ran) X(stderr) X(call) X(eval) X(exec) X(function_not_found) X(items) X(fault) X(py_object) X(closed) X(empty) X(size) X(max_size) X(waiter_exists) \
    X(write_failed) X(invalid_buffer) X(pickle_failed) X(objects)
/* clang-format on */

#define EP_ATOM_DECLARE(name) extern ERL_NIF_TERM am_##name;
EP_ATOMS(EP_ATOM_DECLARE)
#undef EP_ATOM_DECLARE

/* 0: like an atom, a small integer is the same word everywhere. */
extern ERL_NIF_TERM ep_term_zero;

void ep_atoms_init(ErlNifEnv *env);

/* The name of an errno, as Erlang has it: enoent. */
ERL_NIF_TERM ep_atom_of_errno(ErlNifEnv *env, int error);

/* Makes the atom of a UTF-8 name that a worker sent: an existing one, or a new
 * one while fewer than max_atoms were made. Returns false when there is none. */
bool ep_atom_from_worker(struct ep_vm *vm, ErlNifEnv *env, const uint8_t *utf8, size_t size,
                         ERL_NIF_TERM *ret_atom);

/* Lends the name of an atom as UTF-8, at most 1020 bytes: in scratch, or in what the
 * calling thread keeps until it asks for another name. NULL: no atom, or no memory. */
const uint8_t *ep_atom_name(ErlNifEnv *env, ERL_NIF_TERM atom, uint8_t scratch[1024],
                            size_t *ret_size);

#endif

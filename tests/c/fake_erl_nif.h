/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FAKE_ERL_NIF_H
#define FAKE_ERL_NIF_H

/*
 * fake_erl_nif - what nif/ uses of erl_nif, without a VM, for tests.
 *
 * Atoms, small integers and pids are words; every other term is memory of its own, which
 * belongs to an environment: sanitizers see a use after the environment has ended, and a
 * leak. Misuse that the VM would not survive ends the program: a term of one environment
 * in a term of another.
 *
 * Processes  are numbers with a mailbox. A test is their code: it calls NIFs in an
 *            environment of theirs, takes their messages and ends them.
 * Ownership  fake_env_create() and fake_receive() give an environment to the caller, who
 *            frees it with enif_free_env(). A resource term keeps its resource until its
 *            environment is freed or cleared.
 * Threads    as erl_nif: an environment belongs to one thread at a time, all else to any.
 */

#include <erl_nif.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is alive at the moment. Zero, or as before, when nothing leaks. */
struct fake_counts {
    long envs, terms, binaries, resources, monitors, iterators, memory, messages, threads;
};
struct fake_counts fake_living(void);

/* --- the library --------------------------------------------------------------------- */

/* Runs load() of the library, and returns what it returned; or ends the program if it
 * fails. */
int fake_try_load(void);
void fake_load(void);

/* Runs upgrade() of the library, as a second instance that takes over, and returns what it
 * returned. */
int fake_upgrade(void);

/* Runs unload() of the instance that was taken over from. */
void fake_unload_old(void);

/* Runs unload(), and forgets types, processes and messages. */
void fake_unload(void);

/* What load() stored. */
void *fake_priv_data(void);

/* --- processes ----------------------------------------------------------------------- */

ErlNifPid fake_spawn(void);
bool fake_is_alive(ErlNifPid pid);

/* Ends a process: its messages are dropped, and who monitors it is told, in this thread. */
void fake_exit(ErlNifPid pid);

/* An environment in which NIFs run for pid. */
ErlNifEnv *fake_env_create(ErlNifPid pid);

/* Takes the oldest message of pid; NULL if there is none after timeout_ms (negative: waits
 * for ever). */
ErlNifEnv *fake_receive(ErlNifPid pid, int timeout_ms, ERL_NIF_TERM *ret_message);

/* --- calls of NIFs -------------------------------------------------------------------- */

/* Calls the function of the library on a scheduler of the kind that its table asks for,
 * and what it schedules in turn; the poll of a call only while polls are left. */
ERL_NIF_TERM fake_call(ErlNifEnv *env, const char *name, int argc, const ERL_NIF_TERM argv[],
                       unsigned polls);

/* Goes on with what fake_call() left: a term that fake_is_scheduled(). */
ERL_NIF_TERM fake_run(ErlNifEnv *env, ERL_NIF_TERM scheduled, unsigned polls);
bool fake_is_scheduled(ERL_NIF_TERM term);

/* The first argument of what is scheduled. */
ERL_NIF_TERM fake_scheduled_argument(ERL_NIF_TERM scheduled);
bool fake_is_badarg(ERL_NIF_TERM term);

/* How often something was scheduled on a dirty scheduler. */
unsigned long fake_dirty_runs(void);

/* Enters a scheduler of that kind (ERL_NIF_THR_NORMAL_SCHEDULER, ...), for tests that call
 * functions of the library themselves, or leaves it (ERL_NIF_THR_UNDEFINED). */
void fake_enter(int thread_type);

/* --- terms ---------------------------------------------------------------------------- */

/* A reference that is no resource. */
ERL_NIF_TERM fake_make_ref(ErlNifEnv *env, uint64_t number);

/* A process of another node. */
ERL_NIF_TERM fake_make_remote_pid(uint64_t number);

/* Whether two terms are exactly equal. */
bool fake_equal(ERL_NIF_TERM a, ERL_NIF_TERM b);

/* Prints term as Erlang would, as far as there is room. */
void fake_print(ERL_NIF_TERM term, char *text, size_t size);

/* What a copy to the heap of a process would take, in words: as the VM stores terms. */
uint64_t fake_heap_words(ERL_NIF_TERM term);

/* The object of a resource term, and its references. */
void *fake_resource(ERL_NIF_TERM term);
long fake_references(const void *object);

/* --- what goes wrong ------------------------------------------------------------------ */

/* Lets enif_alloc(), enif_realloc(), enif_make_new_binary() and enif_alloc_resource() of the
 * calling thread fail once, after that many that succeed; negative: never. */
void fake_fail_memory_after(long allocations);

/* Lets them fail whenever they are asked for more than size. */
void fake_set_memory_max(size_t size);

/* What enif_thread_create() does: starts the thread, only says so, or fails. */
enum fake_threads { FAKE_THREADS_RUN, FAKE_THREADS_HELD, FAKE_THREADS_FAIL };
void fake_set_threads(enum fake_threads how);

#ifdef __cplusplus
}
#endif

#endif

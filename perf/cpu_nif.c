/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The CPU time of a process of the system, all its threads together. /proc has it per
 * thread, and reading that costs the VM more CPU than an idle library does.
 */
#include <erl_nif.h>

#include <time.h>

/* process_ns(OsPid) -> Ns | undefined, if there is no such process. */
static ERL_NIF_TERM process_ns(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct timespec time;
    clockid_t clock;
    int pid;

    (void)argc;
    if (!enif_get_int(env, argv[0], &pid))
        return enif_make_badarg(env);
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return enif_make_atom(env, "undefined");
    return enif_make_int64(env, (ErlNifSInt64)time.tv_sec * 1000000000 + time.tv_nsec);
}

static ErlNifFunc functions[] = {{"process_ns", 1, process_ns, 0}};

ERL_NIF_INIT(cpu_nif, functions, NULL, NULL, NULL, NULL)

/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_erl_term.h"

#include "py_nif_numbers.h"

#include <string.h>

/* The library, from load() to unload(), and calls of its functions. */

ErlNifEntry *nif_init(void);

static void *priv_data;

/* The library leaves what load() stored to terms that live longer; it is no leak. */
struct kept {
    struct kept *next;
    void *priv_data;
};
extern struct kept *fake_kept;
struct kept *fake_kept;

void *enif_priv_data(ErlNifEnv *env)
{
    (void)env;
    return priv_data;
}

void *fake_priv_data(void)
{
    return priv_data;
}

int fake_try_load(void)
{
    ErlNifEnv *env = enif_alloc_env();

    int rc = nif_init()->load(env, &priv_data, py_nif_shared_numbers(env));
    enif_free_env(env);
    return rc;
}

void fake_load(void)
{
    fake_must(fake_try_load() == 0, "load() fails");
}

int fake_upgrade(void)
{
    ErlNifEnv *env = enif_alloc_env();
    void *next = NULL;

    int rc = nif_init()->upgrade(env, &next, &priv_data, py_nif_shared_numbers(env));
    enif_free_env(env);
    if (rc == 0)
        priv_data = next;
    return rc;
}

void fake_unload_old(void)
{
    ErlNifEnv *env = enif_alloc_env();

    nif_init()->unload(env, priv_data);
    enif_free_env(env);
}

void fake_unload(void)
{
    ErlNifEnv *env = enif_alloc_env();

    nif_init()->unload(env, priv_data);
    enif_free_env(env);
    struct kept *kept = fake_alloc(sizeof(*kept));
    *kept = (struct kept){.next = fake_kept, .priv_data = priv_data};
    fake_kept = kept;
    priv_data = NULL;
    fake_free_processes();
}

ERL_NIF_TERM fake_call(ErlNifEnv *env, const char *name, int argc, const ERL_NIF_TERM argv[],
                       unsigned polls)
{
    const ErlNifEntry *entry = nif_init();
    const ErlNifFunc *function = entry->funcs;

    while (strcmp(function->name, name) != 0 || (int)function->arity != argc) {
        function++;
        fake_must(function < entry->funcs + entry->num_of_funcs, name);
    }
    fake_enter(function->flags == 0 ? ERL_NIF_THR_NORMAL_SCHEDULER : (int)function->flags + 1);
    ERL_NIF_TERM result = function->fptr(env, argc, argv);
    fake_enter(ERL_NIF_THR_UNDEFINED);
    return fake_run(env, result, polls);
}

ERL_NIF_TERM enif_make_badarg(ErlNifEnv *env)
{
    (void)env;
    return FAKE_BADARG;
}

bool fake_is_badarg(ERL_NIF_TERM term)
{
    return term == FAKE_BADARG;
}

ERL_NIF_TERM enif_schedule_nif(ErlNifEnv *env, const char *fun_name, int flags,
                               ERL_NIF_TERM (*fp)(ErlNifEnv *, int, const ERL_NIF_TERM[]), int argc,
                               const ERL_NIF_TERM argv[])
{
    for (int i = 0; i < argc; i++)
        fake_check_home(env, argv[i]);
    struct fake_term *term = fake_make(env, FAKE_SCHEDULED);
    term->count = (size_t)argc;
    term->u.scheduled = (struct fake_scheduled){.function = fp,
                                                .name = fun_name,
                                                .argv = fake_copy_array(argv, (size_t)argc),
                                                .flags = flags};
    return (ERL_NIF_TERM)term;
}

bool fake_is_scheduled(ERL_NIF_TERM term)
{
    return fake_at(term, FAKE_SCHEDULED) != NULL;
}

ERL_NIF_TERM fake_scheduled_argument(ERL_NIF_TERM scheduled)
{
    return fake_at(scheduled, FAKE_SCHEDULED)->u.scheduled.argv[0];
}

static _Atomic unsigned long dirty_runs;

unsigned long fake_dirty_runs(void)
{
    return dirty_runs;
}

ERL_NIF_TERM fake_run(ErlNifEnv *env, ERL_NIF_TERM scheduled, unsigned polls)
{
    const struct fake_term *term;

    while ((term = fake_at(scheduled, FAKE_SCHEDULED)) != NULL) {
        const struct fake_scheduled *next = &term->u.scheduled;
        if (next->flags == 0 && polls-- == 0)
            break;
        dirty_runs += next->flags != 0;
        fake_enter(next->flags == 0 ? ERL_NIF_THR_NORMAL_SCHEDULER : next->flags + 1);
        scheduled = next->function(env, (int)term->count, next->argv);
        fake_enter(ERL_NIF_THR_UNDEFINED);
    }
    return scheduled;
}

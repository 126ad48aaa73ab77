/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fuzz target: what a worker process can do to the NIF. An input is a script: what
 * callers, contexts and the reaper do, through the functions of py_nif.erl, and what the
 * worker writes into its segment, true or not. At the end the worker dies. Then every
 * caller must get its answer, and nothing may be left: no reference, no environment, no
 * memory, no cell.
 */
#include "ep_vm.h"
#include "fake_erl_nif.h"
#include "inbox_worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *__asan_default_options(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 128u
/* What a long payload may take: beyond it there is no memory, so that no run takes long. */
#define MEMORY_MAX (160u << 10)

static void must(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "inbox_fuzz: %s\n", what);
    abort();
}

/* --- calls of the NIF ------------------------------------------------------------------- */

static void drop(struct held *held)
{
    if (held->env != NULL)
        enif_free_env(held->env);
    *held = (struct held){.env = NULL};
}

static struct held keep(ERL_NIF_TERM term)
{
    ErlNifEnv *env = enif_alloc_env();
    return (struct held){.env = env, .term = enif_make_copy(env, term)};
}

static bool is_tuple(ERL_NIF_TERM term, const char *tag, const ERL_NIF_TERM **ret_elements)
{
    int arity;

    return !fake_is_badarg(term) && enif_get_tuple(NULL, term, &arity, ret_elements) && arity > 0
           && (*ret_elements)[0] == enif_make_atom(NULL, tag);
}

static bool is_atom(ERL_NIF_TERM term, const char *name)
{
    return term == enif_make_atom(NULL, name);
}

/* Calls a function whose arguments lie in env, and keeps env with its result. */
static struct held call(ErlNifEnv *env, const char *name, int argc, const ERL_NIF_TERM argv[])
{
    return (struct held){.env = env, .term = fake_call(env, name, argc, argv, 1)};
}

static struct held call_with(ErlNifPid pid, const char *name, const struct held *subject)
{
    ErlNifEnv *env = fake_env_create(pid);
    ERL_NIF_TERM argument = enif_make_copy(env, subject->term);

    return call(env, name, 1, &argument);
}

/* The caller has a result: keeps the reference of its call, if it has a new one. */
static void note(struct caller *caller, struct held result)
{
    const ERL_NIF_TERM *elements;

    drop(&caller->result);
    caller->result = result;
    caller->waits = caller->waits || is_atom(result.term, "waiting");
    bool is_scheduled = !fake_is_badarg(result.term) && fake_is_scheduled(result.term);
    ERL_NIF_TERM reference = 0;
    if (is_scheduled)
        reference = fake_scheduled_argument(result.term);
    else if (is_tuple(result.term, "pending", &elements)
             || is_tuple(result.term, "callback", &elements))
        reference = elements[1];
    if (reference != 0 && caller->call.env == NULL)
        caller->call = keep(reference);
}

static bool has_answer(const struct caller *caller)
{
    const ERL_NIF_TERM *elements;
    ERL_NIF_TERM term = caller->result.term;

    return caller->result.env != NULL && !fake_is_badarg(term) && !fake_is_scheduled(term)
           && !is_tuple(term, "pending", &elements) && !is_tuple(term, "callback", &elements)
           && !is_atom(term, "waiting") && !is_atom(term, "done");
}

static void forget(struct caller *caller)
{
    ErlNifEnv *env;
    ERL_NIF_TERM message;

    drop(&caller->call);
    drop(&caller->result);
    caller->waits = false;
    /* A message may lie there if the caller has dropped its call, or got an answer anyway. */
    while ((env = fake_receive(caller->pid, 0, &message)) != NULL)
        enif_free_env(env);
}

static ERL_NIF_TERM argument(struct run *run, ErlNifEnv *env)
{
    static const size_t sizes[] = {0, 10, 100, 250, 4000, 33000, 34000, 70000};
    ERL_NIF_TERM term;
    size_t size = sizes[below(run, 8)];

    memset(enif_make_new_binary(env, size, &term), 'x', size);
    return enif_make_list_cell(env, term, enif_make_list(env, 0));
}

static void submit(struct run *run)
{
    struct caller *caller = &run->callers[below(run, CALLERS)];
    unsigned how = below(run, 8);
    const struct held *target = &run->lanes[how & 1];
    static const unsigned flags[] = {0, 4, 0x100, 0x200};

    if (how >= 6 && run->asker.env != NULL)
        target = &run->asker;
    if (caller->call.env != NULL || target->env == NULL)
        return;
    forget(caller);
    ErlNifEnv *env = fake_env_create(caller->pid);
    ERL_NIF_TERM map;
    (void)enif_make_map_from_arrays(env, NULL, NULL, 0, &map);
    ERL_NIF_TERM argv[7] = {
        enif_make_copy(env, target->term),
        enif_make_atom(env, "undefined"),
        enif_make_atom(env, "math"),
        enif_make_atom(env, "sqrt"),
        argument(run, env),
        map,
        enif_make_uint(env, flags[how / 2 % 4]),
    };
    note(caller, call(env, "call", 7, argv));
    if (caller->call.env == NULL)
        forget(caller);
}

static void answer(struct caller *caller)
{
    const ERL_NIF_TERM *elements;
    ErlNifEnv *env = fake_env_create(caller->pid);

    (void)is_tuple(caller->result.term, "callback", &elements);
    ERL_NIF_TERM argv[4] = {enif_make_copy(env, caller->call.term),
                            enif_make_copy(env, elements[2]), enif_make_atom(env, "value"),
                            enif_make_int(env, 1)};
    note(caller, call(env, "answer", 4, argv));
}

static bool take_message(struct caller *caller)
{
    ERL_NIF_TERM message;
    ErlNifEnv *env = fake_receive(caller->pid, 0, &message);

    if (env == NULL)
        return false;
    enif_free_env(env);
    caller->waits = false;
    return true;
}

/* Does what a caller does next. Returns whether there was something to do. */
static bool go_on(struct caller *caller)
{
    const ERL_NIF_TERM *elements;
    ERL_NIF_TERM term = caller->result.term;

    if (caller->call.env == NULL || has_answer(caller))
        return false;
    if (fake_is_scheduled(term)) {
        struct held result = caller->result;
        caller->result = (struct held){.env = NULL};
        result.term = fake_run(result.env, result.term, 1);
        note(caller, result);
    } else if (is_tuple(term, "callback", &elements)) {
        answer(caller);
    } else if (caller->waits) {
        if (!take_message(caller))
            return false;
        note(caller, call_with(caller->pid, "collect", &caller->call));
    } else {
        ErlNifEnv *env = fake_env_create(caller->pid);
        ERL_NIF_TERM argv[2] = {enif_make_copy(env, caller->call.term), enif_make_int(env, 7)};
        note(caller, call(env, "await", 2, argv));
    }
    must(!fake_is_badarg(caller->result.term), "badarg to a caller that does what it may");
    if (has_answer(caller))
        forget(caller);
    return true;
}

static void give_up(struct caller *caller)
{
    const ERL_NIF_TERM *elements;

    if (caller->call.env == NULL || fake_is_scheduled(caller->result.term)
        || is_tuple(caller->result.term, "callback", &elements))
        return;
    struct held result = call_with(caller->pid, "cancel", &caller->call);
    if (is_atom(result.term, "cancelled")) {
        must(!take_message(caller), "a message to a caller that has given up");
        forget(caller);
    }
    drop(&result);
}

static void look(struct run *run)
{
    static const char *const names[] = {"check", "call_id"};
    const struct caller *caller = &run->callers[below(run, CALLERS)];
    const char *name = names[below(run, 2)];

    if (caller->call.env == NULL)
        return;
    struct held result = call_with(caller->pid, name, &caller->call);
    drop(&result);
}

/* --- contexts and the reaper ------------------------------------------------------------- */

static void on_lane(struct run *run, const char *name, uint32_t lane, ERL_NIF_TERM second)
{
    ErlNifEnv *env = fake_env_create(run->owners[lane]);
    ERL_NIF_TERM argv[2] = {enif_make_copy(env, run->lanes[lane].term), second};
    struct held result = call(env, name, second == 0 ? 1 : 2, argv);

    drop(&result);
}

static void attach(struct run *run, uint32_t lane)
{
    if (!run->is_alive)
        return;
    ErlNifEnv *env = fake_env_create(run->owners[lane]);
    ERL_NIF_TERM argv[5] = {enif_make_copy(env, run->lanes[lane].term),
                            enif_make_resource(env, run->side.host), enif_make_uint(env, lane + 1),
                            enif_make_atom(env, "worker"), enif_make_list(env, 0)};
    struct held result = call(env, "lane_attach", 5, argv);
    drop(&result);
}

static void watch_calls(struct run *run)
{
    static const char *const names[] = {"lane_interrupt", "lane_expire", "lane_progress"};
    const char *name = names[below(run, 3)];
    uint32_t lane = below(run, CONTEXTS);
    uint64_t id = some_id(run);

    /* A small integer: of no environment. */
    on_lane(run, name, lane, enif_make_uint64(NULL, id & UINT32_MAX));
}

static void use_namespace(struct run *run)
{
    uint32_t lane = below(run, CONTEXTS);

    drop(&run->env);
    run->env = call_with(run->owners[lane], "env_new", &run->lanes[lane]);
}

static void inquire(struct run *run)
{
    uint32_t lane = below(run, CONTEXTS);
    ErlNifEnv *env = fake_env_create(run->runner);
    ERL_NIF_TERM argv[4] = {enif_make_copy(env, run->lanes[lane].term), enif_make_int(env, 9),
                            enif_make_atom(env, "gc"), enif_make_list(env, 0)};
    struct held result = call(env, "inquire", 4, argv);

    drop(&result);
}

/* The process that has callbacks of Python threads run: takes a message, and what it is for. */
static void run_callbacks(struct run *run)
{
    const ERL_NIF_TERM *elements;
    ERL_NIF_TERM message;
    ErlNifEnv *env = fake_env_create(run->runner);
    struct held result = call(env, "run_callbacks", 0, NULL);

    drop(&result);
    env = fake_receive(run->runner, 0, &message);
    if (env == NULL)
        return;
    if (is_tuple(message, "py_callback", &elements)) {
        drop(&run->asker);
        run->asker = keep(elements[1]);
        result = call_with(run->runner, "asker", &run->asker);
        drop(&result);
    }
    enif_free_env(env);
}

static void serve_asker(struct run *run)
{
    uint32_t what = below(run, 3);

    if (run->asker.env == NULL)
        return;
    if (what == 0) {
        struct held result = call_with(run->runner, "question", &run->asker);
        drop(&result);
    } else if (what == 1) {
        drop(&run->asker);
    } else {
        ErlNifEnv *env = fake_env_create(run->runner);
        ERL_NIF_TERM argv[4] = {enif_make_copy(env, run->asker.term), enif_make_int(env, 0),
                                enif_make_atom(env, "value"), enif_make_int(env, 1)};
        struct held result = call(env, "answer", 4, argv);
        drop(&result);
    }
}

static void die(struct run *run, unsigned how)
{
    if (!run->is_alive)
        return;
    if (how % 3 == 1)
        on_lane(run, "lane_kill", 0, 0);
    run->is_alive = false;
    side_die(&run->side);
}

/* A message of the worker to a process, with credit or without. */
static void send_letter(struct run *run)
{
    unsigned how = (unsigned)take(run, 1);

    if ((how & 4) != 0)
        on_lane(run, "letter_grant", 0, enif_make_uint64(NULL, (how & 8) != 0 ? 1 : EP_SEND_GRANT));
    worker_send_letter(run, how);
}

/* --- a run ------------------------------------------------------------------------------ */

static void step(struct run *run)
{
    uint32_t what = below(run, 32);

    switch (what) {
    case 0:
    case 1:
    case 2: submit(run); break;
    case 3:
    case 4:
    case 5:
    case 6: (void)go_on(&run->callers[below(run, CALLERS)]); break;
    case 7: give_up(&run->callers[below(run, CALLERS)]); break;
    case 8: forget(&run->callers[below(run, CALLERS)]); break;
    case 9: look(run); break;
    case 10: watch_calls(run); break;
    case 11: attach(run, below(run, CONTEXTS)); break;
    case 12:
        on_lane(run, "lane_close", below(run, CONTEXTS), enif_make_atom(NULL, "closed"));
        break;
    case 13:
        on_lane(run, "lane_set_unavailable", below(run, CONTEXTS), enif_make_atom(NULL, "enoent"));
        break;
    case 14:
        on_lane(run, below(run, 2) == 0 ? "lane_is_idle" : "lane_stats", below(run, CONTEXTS), 0);
        break;
    case 15: use_namespace(run); break;
    case 16: inquire(run); break;
    case 17: run_callbacks(run); break;
    case 18: serve_asker(run); break;
    case 19:
    case 20:
        if (run->is_alive)
            (void)ep_host_drain(run->side.host);
        break;
    case 21: die(run, below(run, 8)); break;
    case 22:
    case 23:
    case 24: worker_receive(run); break;
    case 25: worker_write_anything(run); break;
    case 26: worker_write_word(run); break;
    case 27: worker_hand_back(run); break;
    case 28: send_letter(run); break;
    default: worker_send(run); break;
    }
}

static void start(struct run *run)
{
    static const long spin_ns[CONTEXTS] = {0, UINT32_MAX};

    run->runner = fake_spawn();
    run->reader = fake_spawn();
    for (unsigned i = 0; i < CALLERS; i++)
        run->callers[i].pid = fake_spawn();
    for (unsigned i = 0; i < CONTEXTS; i++) {
        run->owners[i] = fake_spawn();
        ErlNifEnv *env = fake_env_create(run->owners[i]);
        ERL_NIF_TERM spin = enif_make_int64(env, spin_ns[i]);
        ERL_NIF_TERM argv[3] = {enif_make_tuple2(env, spin, spin), enif_make_int(env, 65536),
                                enif_make_int(env, 0)};
        run->lanes[i] = call(env, "lane_new", 3, argv);
    }
    side_start(&run->side, run->vm, run->owners[0]);
    run->is_alive = true;
    attach(run, 0);
    if (below(run, 4) != 0)
        attach(run, 1);
}

/* The worker is dead: whoever waits gets its answer, in a few steps. What it had not taken
 * when the context killed it waits for the next worker, so the contexts end, too. */
static void finish_callers(struct run *run)
{
    for (unsigned i = 0; i < CONTEXTS; i++)
        on_lane(run, "lane_close", i, enif_make_atom(NULL, "closed"));
    for (unsigned i = 0; i < CALLERS; i++) {
        struct caller *caller = &run->callers[i];
        for (unsigned n = 0; n < 16 && go_on(caller); n++) {
        }
        must(caller->call.env == NULL, "a caller waits for an answer that nobody will give");
    }
}

static void finish(struct run *run)
{
    die(run, 0);
    finish_callers(run);
    /* The callbacks that nobody had run wait for who comes. */
    run_callbacks(run);
    drop(&run->asker);
    drop(&run->env);
    for (unsigned i = 0; i < CALLERS; i++) {
        forget(&run->callers[i]);
        fake_exit(run->callers[i].pid);
    }
    fake_exit(run->runner);
    fake_exit(run->reader);
    for (unsigned i = 0; i < CONTEXTS; i++) {
        drop(&run->lanes[i]);
        fake_exit(run->owners[i]);
    }
    side_finish(&run->side);
}

static struct ep_vm *vm;
static struct fake_counts before;

/* A run keeps its memory from others for long enough with this, and takes half the time. */
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8:malloc_context_size=8";
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fake_set_threads(FAKE_THREADS_HELD);
    fake_load();
    vm = fake_priv_data();
    atomic_store(&vm->max_atoms, 64);
    side_init();
    fake_set_memory_max(MEMORY_MAX);
    before = fake_living();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {.at = data, .end = data + size, .vm = vm};

    start(&run);
    for (unsigned n = 0; n < STEPS_MAX && run.at < run.end; n++)
        step(&run);
    finish(&run);

    struct fake_counts after = fake_living();
    must(memcmp(&before, &after, sizeof(after)) == 0, "something is left");
    must((uint32_t)atomic_load(&vm->slots.word) == 0, "a slot is left");
    return 0;
}

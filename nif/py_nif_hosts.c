/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif.h"

#include "ep_atoms.h"
#include "ep_expire.h"
#include "ep_host.h"
#include "ep_lanes.h"
#include "ep_term.h"

#include <errno.h>
#include <string.h>

static bool get_lane(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_lane **ret_lane)
{
    return enif_get_resource(env, term, ep_lane_type, (void **)ret_lane);
}

static bool get_path(ErlNifEnv *env, ERL_NIF_TERM term, char path[4096])
{
    ErlNifBinary bin;

    if (!enif_inspect_binary(env, term, &bin) || bin.size >= 4096
        || memchr(bin.data, 0, bin.size) != NULL)
        return false;
    memset(path, 0, 4096);
    memcpy(path, bin.data, bin.size);
    return true;
}

static ERL_NIF_TERM resource_term(ErlNifEnv *env, void *object)
{
    ERL_NIF_TERM term = enif_make_resource(env, object);
    enif_release_resource(object);
    return term;
}

static ERL_NIF_TERM ok_or_error(ErlNifEnv *env, int rc)
{
    return rc < 0 ? py_nif_posix_error(env, rc) : am_ok;
}

/* launcher_open() -> {ok, Launcher, Name, Token} | {error, Posix} */
PY_NIF(launcher_open_nif)
{
    struct ep_launcher *launcher;
    ERL_NIF_TERM token;
    ErlNifPid self;
    char name[64];

    (void)argc;
    (void)argv;
    (void)enif_self(env, &self);
    int rc = ep_launcher_open(py_nif_vm(env), &self, name, &launcher);
    if (rc < 0)
        return py_nif_posix_error(env, rc);
    memcpy(enif_make_new_binary(env, sizeof(launcher->token), &token), launcher->token,
           sizeof(launcher->token));
    return enif_make_tuple4(env, am_ok, resource_term(env, launcher),
                            enif_make_string(env, name, ERL_NIF_LATIN1), token);
}

/* launcher_join(Launcher, OsPid) -> {ok, Id} | {error, Posix} */
PY_NIF(launcher_join_nif)
{
    struct ep_launcher *launcher;
    ErlNifSInt64 os_pid;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_launcher_type, (void **)&launcher)
        || !enif_get_int64(env, argv[1], &os_pid) || launcher->listener < 0)
        return enif_make_badarg(env);
    int rc = ep_launcher_join(launcher, os_pid);
    if (rc < 0)
        return py_nif_posix_error(env, rc);
    return enif_make_tuple2(env, am_ok, enif_make_uint64(env, launcher->id));
}

/* {MinNs, MaxNs}, as for ep_spin_init(). */
static bool get_spin(ErlNifEnv *env, ERL_NIF_TERM term, uint32_t *ret_min_ns, uint32_t *ret_max_ns)
{
    const ERL_NIF_TERM *pair;
    int arity;

    return enif_get_tuple(env, term, &arity, &pair) && arity == 2
           && enif_get_uint(env, pair[0], ret_min_ns) && enif_get_uint(env, pair[1], ret_max_ns);
}

/* host_start(Launcher, Contexts, {SpinMinNs, SpinMaxNs}, WorkerPath, PythonPath, ModulePath) ->
 *     {ok, Host, Id} | {error, Posix} */
PY_NIF(host_start_nif)
{
    struct ep_launcher *launcher;
    struct ep_host *host;
    unsigned contexts;
    ErlNifPid self;

    (void)argc;
    struct ep_host_options *options = enif_alloc(sizeof(*options));
    if (options == NULL)
        return py_nif_posix_error(env, -ENOMEM);
    if (!enif_get_resource(env, argv[0], ep_launcher_type, (void **)&launcher)
        || !enif_get_uint(env, argv[1], &contexts) || contexts < 1 || contexts >= EP_LANES_MAX
        || !get_spin(env, argv[2], &options->spin_min_ns, &options->spin_max_ns)
        || !get_path(env, argv[3], options->worker_path)
        || !get_path(env, argv[4], options->python_path)
        || !get_path(env, argv[5], options->module_path)) {
        enif_free(options);
        return enif_make_badarg(env);
    }
    options->lanes = contexts + 1;
    (void)enif_self(env, &self);
    int rc = ep_host_start(py_nif_vm(env), launcher, &self, options, &host);
    enif_free(options);
    if (rc < 0)
        return py_nif_posix_error(env, rc);
    ERL_NIF_TERM id = enif_make_uint64(env, host->id);
    return enif_make_tuple3(env, am_ok, resource_term(env, host), id);
}

/* host_kill(Host) -> ok */
PY_NIF(host_kill_nif)
{
    struct ep_host *host;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_host_type, (void **)&host))
        return enif_make_badarg(env);
    ep_host_kill(host, EP_KILL_ASKED);
    return am_ok;
}

/* host_shutdown(Host) -> ok. Asks the process to end; it may take its time. */
PY_NIF(host_shutdown_nif)
{
    struct ep_host *host;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_host_type, (void **)&host))
        return enif_make_badarg(env);
    pthread_mutex_lock(&host->lock);
    ep_host_control(host, EP_KIND_SHUTDOWN, 0, 0, 0);
    pthread_mutex_unlock(&host->lock);
    return am_ok;
}

/* lane_new({SpinMinNs, SpinMaxNs}) -> Lane. The calling process becomes its owner. */
PY_NIF(lane_new_nif)
{
    uint32_t min_ns, max_ns;
    ErlNifPid self;

    (void)argc;
    if (!get_spin(env, argv[0], &min_ns, &max_ns))
        return enif_make_badarg(env);
    (void)enif_self(env, &self);
    struct ep_lane *lane = ep_lane_create(py_nif_vm(env), &self, min_ns, max_ns);
    return lane == NULL ? py_nif_posix_error(env, -ENOMEM) : resource_term(env, lane);
}

/* Names and lists of arguments, one pair after the other. */
static int put_prologue(ErlNifEnv *env, ERL_NIF_TERM list, struct ep_buf *buf)
{
    struct ep_encoder encoder = {.vm = py_nif_vm(env),
                                 .env = env,
                                 .buf = buf,
                                 .terms_left = SIZE_MAX,
                                 .bytes_left = SIZE_MAX};
    struct ep_fault fault;
    const ERL_NIF_TERM *pair;
    ERL_NIF_TERM head;
    int arity;

    while (enif_get_list_cell(env, list, &head, &list)) {
        if (!enif_get_tuple(env, head, &arity, &pair) || arity != 2
            || ep_term_encode_text(&encoder, pair[0]) < 0
            || ep_term_encode(&encoder, pair[1], "args", false, &fault) < 0)
            return -EINVAL;
    }
    return enif_is_empty_list(env, list) ? 0 : -EINVAL;
}

/* lane_attach(Lane, Host, Index, worker | owngil, [{Function, Args}]) -> ok | {error, Posix} */
PY_NIF(lane_attach_nif)
{
    struct ep_lane *lane;
    struct ep_host *host;
    struct ep_buf prologue;
    unsigned index;
    uint8_t lent[EP_INLINE_MAX];
    char mode[8];

    (void)argc;
    if (!get_lane(env, argv[0], &lane)
        || !enif_get_resource(env, argv[1], ep_host_type, (void **)&host)
        || !enif_get_uint(env, argv[2], &index)
        || enif_get_atom(env, argv[3], mode, sizeof(mode), ERL_NIF_LATIN1) == 0)
        return enif_make_badarg(env);
    ep_buf_init(&prologue, lent, sizeof(lent), sizeof(lent));
    if (put_prologue(env, argv[4], &prologue) < 0 || prologue.error != 0)
        return enif_make_badarg(env);
    bool owngil = strcmp(mode, "owngil") == 0;
    return ok_or_error(env, ep_lane_attach(lane, host, index,
                                           owngil ? EP_MODE_OWNGIL : EP_MODE_WORKER, &prologue));
}

/* lane_close(Lane, Reason :: atom()) -> ok */
PY_NIF(lane_close_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_is_atom(env, argv[1]))
        return enif_make_badarg(env);
    ep_lane_close(lane, env, argv[1]);
    return am_ok;
}

/* lane_set_unavailable(Lane, Reason) -> ok */
PY_NIF(lane_set_unavailable_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    ep_lane_set_unavailable(lane, env, argv[1]);
    return am_ok;
}

/* lane_progress(Lane, CallId) -> ended | waits | runs */
PY_NIF(lane_progress_nif)
{
    struct ep_lane *lane;
    ErlNifUInt64 id;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_get_uint64(env, argv[1], &id))
        return enif_make_badarg(env);
    switch (ep_lane_progress(lane, id)) {
    case EP_PROGRESS_RUNS: return am_runs;
    case EP_PROGRESS_WAITS: return am_waits;
    default: return am_ended;
    }
}

/* lane_interrupt(Lane, CallId) -> ok | not_running. CallId 0: what runs. */
PY_NIF(lane_interrupt_nif)
{
    struct ep_lane *lane;
    ErlNifUInt64 id;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_get_uint64(env, argv[1], &id))
        return enif_make_badarg(env);
    return ep_lane_interrupt(lane, id) ? am_ok : am_not_running;
}

/* lane_expire(Lane, CallId) -> ok */
PY_NIF(lane_expire_nif)
{
    struct ep_lane *lane;
    ErlNifUInt64 id;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_get_uint64(env, argv[1], &id))
        return enif_make_badarg(env);
    ep_expire(lane, env, id);
    return am_ok;
}

/* lane_is_idle(Lane) -> boolean(). Whether its thread runs no request any more. */
PY_NIF(lane_is_idle_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    return ep_lane_is_idle(lane) ? am_true : am_false;
}

/* names_changed() -> ok. Every worker looks names of callbacks up again. */
PY_NIF(names_changed_nif)
{
    (void)argc;
    (void)argv;
    ep_host_publish_names(py_nif_vm(env));
    return am_ok;
}

/* lane_kill(Lane) -> ok. Kills the worker process because a call overran. */
PY_NIF(lane_kill_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    ep_lane_kill(lane, EP_KILL_AFTER);
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
    ERL_NIF_TERM map;

    (void)argc;
    (void)argv;
    pthread_mutex_lock(&vm->lock);
    for (struct ep_host *h = vm->hosts; h != NULL; h = h->next)
        hosts++;
    for (struct ep_launcher *l = vm->launchers; l != NULL; l = l->next)
        launchers++;
    pthread_mutex_unlock(&vm->lock);

    ERL_NIF_TERM keys[] = {am_lost_wake, am_violations, am_late_replies, am_kicks,
                           am_doorbells, am_hosts,      am_launchers,    am_wait_backend,
                           am_cpus,      am_atoms_made, am_max_atoms};
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
    };
    (void)enif_make_map_from_arrays(env, keys, values, sizeof(keys) / sizeof(keys[0]), &map);
    return map;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_hosts.h"

#include "ep_atoms.h"
#include "ep_control.h"
#include "ep_host.h"
#include "ep_launcher.h"
#include "ep_note.h"
#include "ep_peer.h"

#include <errno.h>
#include <string.h>

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
    return enif_make_tuple4(env, am_ok, py_nif_take_resource(env, launcher),
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

/* Strings that each end with a NUL. */
static bool get_settings(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_host_options *options)
{
    ErlNifBinary bin;

    if (!enif_inspect_binary(env, term, &bin) || bin.size > EP_CONTROL_SETTINGS_MAX
        || (bin.size > 0 && bin.data[bin.size - 1] != 0))
        return false;
    options->settings = bin.data;
    options->settings_size = (uint32_t)bin.size;
    return true;
}

/* none | zygote | the id of a zygote */
static bool get_origin(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_host_options *options)
{
    ErlNifUInt64 id = 0;

    options->origin = EP_HOST_STARTED;
    if (enif_is_identical(term, am_zygote))
        options->origin = EP_HOST_ZYGOTE;
    else if (enif_get_uint64(env, term, &id))
        options->origin = EP_HOST_FORKED;
    options->zygote_id = id;
    return options->origin != EP_HOST_STARTED || enif_is_identical(term, am_none);
}

/* host_start(Launcher, Contexts, {SpinMinNs, SpinMaxNs}, WorkerPath, PythonPath, ModulePath,
 *     Settings, Origin) -> {ok, Host, Id} | {error, Posix} */
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
        || !py_nif_get_spin(env, argv[2], &options->spin_min_ns, &options->spin_max_ns)
        || !get_path(env, argv[3], options->worker_path)
        || !get_path(env, argv[4], options->python_path)
        || !get_path(env, argv[5], options->module_path) || !get_settings(env, argv[6], options)
        || !get_origin(env, argv[7], options)) {
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
    return enif_make_tuple3(env, am_ok, py_nif_take_resource(env, host), id);
}

/* host_kill(Host) -> ok */
PY_NIF(host_kill_nif)
{
    struct ep_host *host;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_host_type, (void **)&host))
        return enif_make_badarg(env);
    (void)ep_peer_kill(host, EP_KILL_ASKED);
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
    ep_note_control(host, EP_KIND_SHUTDOWN, 0, 0, 0);
    pthread_mutex_unlock(&host->lock);
    return am_ok;
}

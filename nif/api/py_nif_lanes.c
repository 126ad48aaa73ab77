/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_lanes.h"

#include "ep_atoms.h"
#include "ep_attach.h"
#include "ep_expire.h"
#include "ep_interrupt.h"
#include "ep_lanes.h"
#include "ep_move.h"
#include "ep_progress.h"
#include "ep_stats.h"
#include "ep_term_encode.h"
#include "py_nif_numbers.h"

#include <errno.h>
#include <string.h>

static bool get_lane(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_lane **ret_lane)
{
    return enif_get_resource(env, term, ep_lane_type, (void **)ret_lane);
}

/* lane_new({SpinMinNs, SpinMaxNs}, MaxResultBytes, Style) -> Lane. The calling process becomes its
 * owner. */
PY_NIF(lane_new_nif)
{
    uint32_t min_ns, max_ns;
    ErlNifUInt64 max_result_bytes;
    unsigned style;
    ErlNifPid self;

    (void)argc;
    if (!py_nif_get_spin(env, argv[0], &min_ns, &max_ns)
        || !enif_get_uint64(env, argv[1], &max_result_bytes) || !enif_get_uint(env, argv[2], &style)
        || (style & ~PY_NIF_STYLE_MASK) != 0)
        return enif_make_badarg(env);
    (void)enif_self(env, &self);
    struct ep_lane *lane =
        ep_lane_create(py_nif_vm(env), &self, min_ns, max_ns, max_result_bytes, (uint16_t)style);
    return lane == NULL ? py_nif_posix_error(env, -ENOMEM) : py_nif_take_resource(env, lane);
}

/* Names and lists of arguments, one pair after the other. */
static int put_prologue(ErlNifEnv *env, ERL_NIF_TERM list, struct ep_buf *buf)
{
    struct ep_encoder encoder = {.vm = py_nif_vm(env),
                                 .env = env,
                                 .buf = buf,
                                 .terms_left = SIZE_MAX,
                                 .bytes_max = SIZE_MAX};
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
    ep_buf_init(&prologue, lent, sizeof(lent), EP_PROLOGUE_MAX);
    if (put_prologue(env, argv[4], &prologue) < 0 || prologue.error != 0) {
        ep_buf_finish(&prologue);
        return enif_make_badarg(env);
    }
    bool owngil = strcmp(mode, "owngil") == 0;
    int rc = ep_attach_lane(lane, host, index, owngil ? EP_MODE_OWNGIL : EP_MODE_WORKER, &prologue);
    ep_buf_finish(&prologue);
    return rc < 0 ? py_nif_posix_error(env, rc) : am_ok;
}

/* lane_close(Lane, Reason :: atom()) -> ok */
PY_NIF(lane_close_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_is_atom(env, argv[1]))
        return enif_make_badarg(env);
    ep_attach_close(lane, env, argv[1]);
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

/* lane_progress(Lane, CallId) -> ended | waits | {still, Taken, CpuUs} | stopped | runs | imports */
PY_NIF(lane_progress_nif)
{
    struct ep_lane *lane;
    struct ep_still still;
    ErlNifUInt64 id;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_get_uint64(env, argv[1], &id))
        return enif_make_badarg(env);
    switch (ep_progress_of(lane, env, id, &still)) {
    case EP_PROGRESS_RUNS: return am_runs;
    case EP_PROGRESS_IMPORTS: return am_imports;
    case EP_PROGRESS_WAITS: return am_waits;
    case EP_PROGRESS_STOPPED: return am_stopped;
    case EP_PROGRESS_STILL:
        return enif_make_tuple3(env, am_still, enif_make_uint64(env, still.taken),
                                enif_make_uint64(env, still.cpu_us));
    default: return am_ended;
    }
}

/* lane_interrupt(Lane, CallId) -> ok | not_running. CallId 0: what runs; the context then
 * gets {py_lane, {interrupted, CallId}}. */
PY_NIF(lane_interrupt_nif)
{
    struct ep_lane *lane;
    ErlNifUInt64 id;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_get_uint64(env, argv[1], &id))
        return enif_make_badarg(env);
    bool found = id == 0 ? ep_interrupt_running(lane, env) : ep_interrupt(lane, id);
    return found ? am_ok : am_not_running;
}

/* lane_interrupt_import(Lane, CallId) -> ok */
PY_NIF(lane_interrupt_import_nif)
{
    struct ep_lane *lane;
    ErlNifUInt64 id;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !enif_get_uint64(env, argv[1], &id))
        return enif_make_badarg(env);
    ep_interrupt_import(lane, id);
    return am_ok;
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
    return ep_progress_is_idle(lane) ? am_true : am_false;
}

/* lane_is_importing(Lane) -> boolean(). Whether what its thread runs imports a module. */
PY_NIF(lane_is_importing_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    return ep_progress_is_importing(lane) ? am_true : am_false;
}

/* lane_kill(Lane) -> ok | dying. Kills the worker process because a call overran; dying: it
 * was killed before, or there is none. */
PY_NIF(lane_kill_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    return ep_interrupt_kill(lane, EP_KILL_AFTER) ? am_ok : am_dying;
}

/* lane_move(Lane, Understudy) -> ok | again | {error, Posix} */
PY_NIF(lane_move_nif)
{
    struct ep_lane *lane, *understudy;

    (void)argc;
    if (!get_lane(env, argv[0], &lane) || !get_lane(env, argv[1], &understudy))
        return enif_make_badarg(env);
    int rc = ep_move(env, lane, understudy);
    return rc == 0 ? am_ok : rc == -EAGAIN ? am_again : py_nif_posix_error(env, rc);
}

/* lane_stay(Lane) -> ok. After lane_move/2 that is not tried again. */
PY_NIF(lane_stay_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    ep_move_give_up(lane);
    return am_ok;
}

/* lane_requests(Lane) -> integer(). Sent to its present worker process; nested ones do not count. */
PY_NIF(lane_requests_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    return enif_make_uint64(env, ep_move_requests(lane));
}

/* lane_stats(Lane) -> map() */
PY_NIF(lane_stats_nif)
{
    struct ep_lane *lane;

    (void)argc;
    if (!get_lane(env, argv[0], &lane))
        return enif_make_badarg(env);
    return ep_stats_make(env, lane);
}

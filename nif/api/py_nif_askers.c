/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_askers.h"

#include "ep_answer.h"
#include "ep_asker.h"
#include "ep_atoms.h"
#include "ep_inquiry.h"
#include "ep_lanes.h"
#include "ep_term_encode.h"
#include "py_nif_envs.h"

#include <errno.h>

/* run_callbacks() -> ok. The calling process gets {py_callback, Asker} for each
 * callback of a Python thread. */
PY_NIF(run_callbacks_nif)
{
    ErlNifPid self;

    (void)argc;
    (void)argv;
    (void)enif_self(env, &self);
    ep_asker_adopt(py_nif_vm(env), env, &self);
    return am_ok;
}

/* asker(Asker) -> {Context, Lane, Env | undefined, IsNested} */
PY_NIF(asker_nif)
{
    struct ep_asker *asker;
    ERL_NIF_TERM namespace = am_undefined;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_asker_type, (void **)&asker))
        return enif_make_badarg(env);
    if (asker->env_id != 0)
    namespace = py_nif_make_borrowed_env(env, asker->lane, asker->env_id);
    return enif_make_tuple4(env, enif_make_pid(env, &asker->lane->owner),
                            enif_make_resource(env, asker->lane), namespace,
                            asker->is_nested ? am_true : am_false);
}

/* A question that needs no process. */
static ERL_NIF_TERM serve(ErlNifEnv *env, struct ep_asker *asker)
{
    uint8_t *payload = ep_asker_copy(asker);

    if (payload != NULL)
        ep_asker_serve(asker, env, payload);
    enif_free(payload); /* without memory the end of the asker answers */
    return am_gone;
}

/* question(Asker) -> {Question, Arguments} | gone. Once. gone: also if there is nothing to do. */
PY_NIF(question_nif)
{
    struct ep_asker *asker;

    (void)argc;
    if (!enif_get_resource(env, argv[0], ep_asker_type, (void **)&asker))
        return enif_make_badarg(env);
    if (!ep_asker_is_open(asker))
        return am_gone;
    if (ep_asker_is_own(asker))
        return serve(env, asker);
    return ep_answer_question(env, asker);
}

static ERL_NIF_TERM inquire(ErlNifEnv *env, const ERL_NIF_TERM argv[], bool is_first)
{
    struct ep_encoder encoder = {.terms_left = SIZE_MAX, .bytes_max = SIZE_MAX};
    struct ep_fault fault;
    struct ep_lane *lane;
    struct ep_buf buf;
    uint8_t lent[512];
    ErlNifPid self;

    if (!enif_get_resource(env, argv[0], ep_lane_type, (void **)&lane))
        return enif_make_badarg(env);
    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    encoder.vm = lane->vm;
    encoder.env = env;
    encoder.buf = &buf;
    if (ep_term_encode_text(&encoder, argv[2]) < 0
        || ep_term_encode(&encoder, argv[3], "args", false, &fault) < 0) {
        ep_buf_finish(&buf);
        return enif_make_badarg(env);
    }
    (void)enif_self(env, &self);
    int rc = ep_inquiry_send(lane, &self, argv[1], is_first, &buf);
    ep_buf_finish(&buf);
    return rc < 0 ? py_nif_posix_error(env, rc) : am_ok;
}

/* inquire(Lane, Tag, Function, Args) -> ok | {error, Posix}. {py_maintained, Tag,
 * {ok, Term} | {error, Reason}} comes. */
PY_NIF(inquire_nif)
{
    (void)argc;
    return inquire(env, argv, false);
}

/* inquire_first(Lane, Tag, Function, Args) -> ok | {error, Posix}. The same, and requests that
 * have not begun wait for its end. */
PY_NIF(inquire_first_nif)
{
    (void)argc;
    return inquire(env, argv, true);
}

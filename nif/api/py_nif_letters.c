/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_letters.h"

#include "ep_asker.h"
#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_lanes.h"
#include "ep_letter.h"

/* Lends the worker process behind a lane or a Python thread that asked: kept, release it. It
 * is NULL if the lane has none any more. */
static bool take_host(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_host **ret_host)
{
    struct ep_asker *asker;
    struct ep_lane *lane;

    *ret_host = NULL;
    if (enif_get_resource(env, term, ep_asker_type, (void **)&asker)) {
        *ret_host = asker->host;
        enif_keep_resource(asker->host);
        return true;
    }
    if (!enif_get_resource(env, term, ep_lane_type, (void **)&lane))
        return false;
    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->host != NULL) {
        *ret_host = lane->host;
        enif_keep_resource(lane->host);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return true;
}

/* letter_grant(Lane | Asker, Bytes) -> Limit, see ep_letter.h */
PY_NIF(letter_grant_nif)
{
    struct ep_host *host;
    ErlNifUInt64 credit;
    uint64_t limit = 0;

    (void)argc;
    if (!enif_get_uint64(env, argv[1], &credit) || !take_host(env, argv[0], &host))
        return enif_make_badarg(env);
    if (host != NULL) {
        limit = ep_letter_grant(host, credit);
        enif_release_resource(host);
    }
    return enif_make_uint64(env, limit);
}

/* Whether a process waits for a request on the lane. Entries are taken under the producer lock;
 * one that ends meanwhile may count. */
static bool is_caller(struct ep_lane *lane, const ErlNifPid *pid)
{
    bool is_it = false;

    pthread_mutex_lock(&lane->outbox.lock);
    for (uint32_t i = 0; i < lane->table.n && !is_it; i++) {
        const struct ep_call *call = ep_call_at(lane, i);
        enum ep_call_state state = atomic_load_explicit(&call->state, memory_order_acquire);
        is_it = state != EP_CALL_FREE && state != EP_CALL_ABANDONED
                && enif_compare_pids(&call->caller, pid) == 0;
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return is_it;
}

/* letter_waits(Lane | Asker, Pid) -> whether the process waits for a request there. */
PY_NIF(letter_waits_nif)
{
    struct ep_asker *asker;
    struct ep_lane *lane;
    ErlNifPid pid;

    (void)argc;
    if (enif_get_resource(env, argv[0], ep_asker_type, (void **)&asker))
        lane = asker->lane;
    else if (!enif_get_resource(env, argv[0], ep_lane_type, (void **)&lane))
        return enif_make_badarg(env);
    return enif_get_local_pid(env, argv[1], &pid) && is_caller(lane, &pid) ? am_true : am_false;
}

/* letter_sample(Lane | Asker) -> {Pid, Price} | undefined */
PY_NIF(letter_sample_nif)
{
    ERL_NIF_TERM term = am_undefined;
    struct ep_host *host;
    ErlNifPid pid;
    uint64_t price;

    (void)argc;
    if (!take_host(env, argv[0], &host))
        return enif_make_badarg(env);
    if (host != NULL) {
        if (ep_letter_sample(host, &pid, &price))
            term = enif_make_tuple2(env, enif_make_pid(env, &pid), enif_make_uint64(env, price));
        enif_release_resource(host);
    }
    return term;
}

/* letter_send(Pid, Term) -> IsAlive */
PY_NIF(letter_send_nif)
{
    (void)argc;
    if (!enif_is_pid(env, argv[0]))
        return enif_make_badarg(env);
    return ep_letter_send(py_nif_vm(env), argv[0], argv[1]) ? am_true : am_false;
}

/* carry_letters() -> ok. The calling process gets {py_letter, Pid, Term} for each message to
 * a process of another node. */
PY_NIF(carry_letters_nif)
{
    ErlNifPid self;

    (void)argc;
    (void)argv;
    (void)enif_self(env, &self);
    ep_letter_adopt(py_nif_vm(env), &self);
    return am_ok;
}

/* make_atom(Name) -> true, or false: no more atoms may be made. */
PY_NIF(make_atom_nif)
{
    ErlNifBinary name;
    ERL_NIF_TERM atom;

    (void)argc;
    if (!enif_inspect_binary(env, argv[0], &name))
        return enif_make_badarg(env);
    return ep_atom_from_worker(py_nif_vm(env), env, name.data, name.size, &atom) ? am_true
                                                                                 : am_false;
}

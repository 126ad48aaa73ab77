/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_answers.h"

#include "ep_asker.h"
#include "ep_atoms.h"
#include "ep_encoding.h"
#include "ep_interrupt.h"
#include "ep_lanes.h"
#include "ep_outbox.h"
#include "ep_reply_wait.h"
#include "ep_stats.h"
#include "py_nif_calls.h"

#include <errno.h>

/* Outcomes of callbacks, from whoever has run them. */

static int send_answer(struct ep_call_ref *ref, uint64_t number, enum ep_answer how,
                       struct ep_encoding *encoding)
{
    (void)ep_encoding_put_cargo(encoding, false);
    int rc = ep_outbox_answer(ref->lane, ref->call, number, how, &encoding->buf,
                              &encoding->encoder.cargo);
    if (rc >= 0)
        return rc;
    /* It is SPINNING now, and Python waits: interrupted is better than for ever. */
    (void)ep_interrupt(ref->lane, ep_call_id(ref->call));
    return 1;
}

static ERL_NIF_TERM answer_asker(ErlNifEnv *env, struct ep_asker *asker, int argc,
                                 const ERL_NIF_TERM argv[])
{
    struct ep_encoding encoding;
    enum ep_answer how;

    ep_encoding_init(&encoding, env, asker->lane->vm, ep_encoding_is_dirty());
    int rc = ep_encoding_put_answer(&encoding, argv[2], argv[3], &how);
    if (rc == 0) {
        (void)ep_encoding_put_cargo(&encoding, false);
        rc = ep_asker_answer(asker, how, &encoding.buf, &encoding.encoder.cargo);
    }
    ep_encoding_finish(&encoding);
    switch (rc) {
    case -E2BIG:
        return enif_schedule_nif(env, "answer", ERL_NIF_DIRTY_JOB_CPU_BOUND, answer_nif, argc,
                                 argv);
    case -EBADMSG: return enif_make_badarg(env);
    case 0:
    case -ESTALE: return am_ok; /* nobody waits any more */
    default: return py_nif_posix_error(env, rc);
    }
}

/* answer(Call, Number, value | failed | raise, Term) -> as call/7. Answers the callback
 * that the call waits for. */
PY_NIF(answer_nif)
{
    struct ep_call_ref *ref;
    struct ep_asker *asker;
    struct ep_encoding encoding;
    struct ep_reply reply;
    ErlNifUInt64 number;
    enum ep_answer how;

    if (enif_get_resource(env, argv[0], ep_asker_type, (void **)&asker))
        return answer_asker(env, asker, argc, argv);
    if (!py_nif_get_call_ref(env, argv[0], &ref) || !enif_get_uint64(env, argv[1], &number))
        return enif_make_badarg(env);
    if (atomic_load_explicit(&ref->call->is_overdue, memory_order_relaxed)) {
        /* The budget ended in the callback; so does the request, with it. */
        py_nif_abandon(ref, env);
        ep_stats_timed_out(&ref->lane->stats);
        return enif_make_tuple2(env, am_error, am_timeout);
    }
    ep_encoding_init(&encoding, env, ref->lane->vm, ep_encoding_is_dirty());
    int rc = ep_encoding_put_answer(&encoding, argv[2], argv[3], &how);
    if (rc < 0) {
        ep_encoding_finish(&encoding);
        return rc == -E2BIG ? enif_schedule_nif(env, "answer", ERL_NIF_DIRTY_JOB_CPU_BOUND,
                                                answer_nif, argc, argv)
                            : enif_make_badarg(env);
    }
    rc = send_answer(ref, number, how, &encoding);
    ep_encoding_finish(&encoding);
    if (ref->reader != NULL)
        return am_ok; /* a stream: stream_next/2 goes on */
    if (rc == 0)
        return py_nif_collect(env, argv[0], ref);

    return py_nif_waited(env, argv[0], ref, &reply,
                         ep_spin_for_reply(ref->lane, env, ref->call, &reply));
}

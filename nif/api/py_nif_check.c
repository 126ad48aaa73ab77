/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_check.h"

#include "ep_atoms.h"
#include "ep_cpu.h"
#include "ep_inbox.h"
#include "ep_lanes.h"
#include "ep_progress.h"
#include "py_nif_calls.h"

/* A lane unread for this long although somebody waits has lost a wake-up. */
#define LOST_WAKE_NS 200000000u

/* check(Call) -> ok | neglected. The safety net of callers that wait long: looks whether a
 * reply lies unread although nobody was woken, counts that and delivers it. neglected: the
 * worker has not taken the request; one caller of a lane hears that, once a second. */
PY_NIF(check_nif)
{
    struct ep_call_ref *ref;

    (void)argc;
    if (!py_nif_get_call_ref(env, argv[0], &ref))
        return enif_make_badarg(env);
    struct ep_lane *lane = ref->lane;
    if (!ep_inbox_try(lane))
        return am_ok;
    const struct ep_cell *cell;
    bool is_neglected = ep_progress_is_neglected(lane, ref->call);
    if (lane->host != NULL && ep_ring_peek(&lane->shm.response, &cell) == 0) {
        uint64_t now = ep_clock_ns();
        if (lane->inbox.unread_at != lane->shm.response.head || lane->inbox.unread_since_ns == 0) {
            lane->inbox.unread_at = lane->shm.response.head;
            lane->inbox.unread_since_ns = now;
        } else if (now - lane->inbox.unread_since_ns > LOST_WAKE_NS) {
            atomic_fetch_add(&lane->vm->lost_wake, 1);
            lane->inbox.unread_since_ns = 0;
            (void)ep_inbox_drain(lane, env, NULL, NULL);
        }
    } else {
        lane->inbox.unread_since_ns = 0;
    }
    ep_inbox_leave(lane, env);
    return is_neglected ? am_neglected : am_ok;
}

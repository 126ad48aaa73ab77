/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_turn.h"

#include "ep_cpu.h"
#include "ep_idle.h"

/* Answers since a caller of this scheduler made a futile wait. */
static _Thread_local int answers_since_wait = EP_TURN_MIXED_ANSWERS;

static int price(int calls)
{
    int percent = EP_TURN_PERCENT * calls;

    if (answers_since_wait < EP_TURN_MIXED_ANSWERS) {
        answers_since_wait += calls;
        percent = EP_TURN_MIXED_PERCENT * calls;
    }
    return percent < 100 ? percent : 100;
}

void ep_turn_charge(ErlNifEnv *env)
{
    static _Thread_local struct ep_yield yield;

    (void)enif_consume_timeslice(env, price(EP_TURN_CALLS));
    ep_yield_if_due(&yield, ep_clock_ns());
}

void ep_turn_end(ErlNifEnv *env)
{
    (void)enif_consume_timeslice(env, 100);
}

void ep_turn_note_futile(void)
{
    answers_since_wait = 0;
}

bool ep_turn_may_give_way(uint64_t now_ns, bool shares_cpu)
{
    static _Thread_local uint64_t gave_way_ns;

    if (!shares_cpu && now_ns - gave_way_ns < EP_TURN_GIVE_WAY_NS)
        return false;
    gave_way_ns = now_ns;
    return true;
}

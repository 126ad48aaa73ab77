/* SPDX-License-Identifier: Apache-2.0
 *
 * callback.pml - the life of a call with callbacks (enum ep_call_state in nif/ep_vm.h):
 * a caller that spins, parks, collects, runs callbacks and gives up; whoever is consumer
 * (ep_inbox.c, ep_calls.c); the reaper; the context, which attaches worker processes,
 * closes the lane or says that it is unavailable (ep_lanes.c); a worker that asks, answers
 * and may die before any of its steps. Each step touches shared memory once, but for
 * steps of a critical section that nobody outside can tell apart. The memory is
 * sequentially consistent, and rings and futexes are those that wake.pml has checked, so
 * here they are channels.
 *
 * Checked: every call ends, and only once; its entry is freed once, with all that it
 * holds; its slot is given back once; a reply is delivered to the generation it was meant
 * for; a question is run once; what was published is not turned into an error; no message
 * comes after a timeout; an honest worker is never ended for a violation; `parked` is 0 at
 * the end. A run that does not end is a dead end (an invalid end state), or a cycle without
 * progress, which -DNP and weak fairness find.
 *
 *   GIVES_UP       the caller may time out, or die, at any moment
 *   DIES           the worker may die, WORKERS is how many there are
 *   KILL_AFTER     ... by kill_after, so that what has not started is kept
 *   CLOSES         the context may end
 *   INTERRUPTS=n   the call may be interrupted
 *   LATE           the first worker comes when the call waits already
 *   NOTICES=1      STARTED is still to come, so that the bell is armed
 *   LIES=n         instead of the worker one that forges n replies, and dies
 *   TWO, CALLS=n, ENTRIES=n, ASKS=n, SLOTS=n   how much there is of each
 *
 * -D selects a mutant, which must fail; run.sh has the list:
 *   NO_DOOM           death and close leave a question alone that was not collected
 *   ANSWER_BLINDLY    the answer does not look whether the call is doomed
 *   DOOMED_STAYS      giving up a doomed call waits for its late reply
 *   STALE_COPY        a failure finds DONE, and then moves BUSY with the old reply
 *   NO_OVERTAKING     a call that an interrupt ended before its question was collected
 *   OWN_ANYWAY        the same, if its caller finds the end itself
 *   NO_REFUSAL        the question of a call whose caller has gone is dropped
 *   CANCEL_REFUSES=true  a timeout gives up a call whose message is sent already
 *   ENV_STAYS         an abandoned call keeps its message
 *   PLACE_LATE        the place of a request is written after it was published
 *   NO_PLACE, FREE_UNSEEN  a reply to a queued call is taken, and frees what is ABANDONED
 *                     without looking again: harmless one by one, a double free together
 *   ARMED_STAYS       the reaper that does not become consumer leaves the bell armed
 *   PARK_LATE, GIVE_UP_UNCOUNTED  parked is counted after the move, or not at all
 *   QUEUED_STAYS      an unavailable lane keeps what is queued
 *   NO_DRAIN, NO_CONSUMER, NO_PRODUCER  a death is handled without draining, or a lock
 */
#ifndef CALLS
#define CALLS 1 /* of each caller, one after the other */
#endif
#ifdef TWO
#define CALLERS 2
#else
#define CALLERS 1
#endif
#ifndef ENTRIES
#define ENTRIES 1
#endif
#ifndef ASKS
#define ASKS 1
#endif
#ifndef WORKERS
#define WORKERS 1
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef NOTICES
#define NOTICES 0 /* 1: STARTED is still to come */
#endif
#ifdef LATE /* the first worker process comes when there are callers */
#define FIRST 0
#else
#define FIRST 1
#endif
#ifndef INTERRUPTS
#define INTERRUPTS 0
#endif
#ifndef CANCEL_REFUSES
#define CANCEL_REFUSES false
#endif
#ifndef LIES
#define LIES 0
#endif

/* enum ep_call_state. */
#define FREE 0
#define SPINNING 1
#define PARKED 2
#define WAITING 3
#define BUSY 4
#define ABANDONED 5
#define TAKEN 6
#define DONE 7
#define OVERTAKEN 8
#define TAKES_REPLY(s) (s >= SPINNING && s <= BUSY)

/* Replies, and what stands in their place. */
#define RESULT 1
#define CALLBACK 2
#define STARTED 3
#define FAILED 4

#define ANSWER 1
#define CANCEL 2

#define DETACHED 0
#define ATTACHED 1
#define UNAVAILABLE 2
#define CLOSED 3

#define IDS (CALLERS * CALLS + 1)

/* The call table. */
byte state[ENTRIES], generation[ENTRIES], kind[ENTRIES], number[ENTRIES];
byte who[ENTRIES]; /* which call it is */
bit in_ring[ENTRIES], env[ENTRIES], doomed[ENTRIES], is_refused[ENTRIES];
byte interrupts[ENTRIES], questions_ended[ENTRIES];

/* The lane. */
bit producer, consumer;
byte lane = DETACHED, host, parked, notices, refused, late;
bit listed, closed, armed;
chan queue = [ENTRIES] of { byte };

/* What a worker process shares with the VM. */
chan ring[WORKERS + 1] = [SLOTS] of { byte, byte };
chan response[WORKERS + 1] = [4] of { byte, byte, byte, byte };
chan urgent[WORKERS + 1] = [3] of { byte, byte, byte };
bit bell[WORKERS + 1], answered[WORKERS + 1], doorbell[WORKERS + 1], dead[WORKERS + 1], kill_after[WORKERS + 1];
bit cancelled[IDS]; /* the mark in the cell */
bit runs[IDS];      /* the worker has taken it, and not ended it */

bit told[IDS]; /* {py_done, Tag} is in the mailbox */
bit timed_out[IDS];

/* For the assertions only. */
bit ended[IDS], published[IDS];
byte asked[IDS]; /* the last question that was collected */
byte slots, n_done;
bit over;

#define LOCK(l) atomic { l == 0 -> l = 1 }
#define UNLOCK(l) l = 0

#ifdef ENV_STAYS
#define NO_ENV(e) skip
#else
#define NO_ENV(e) env[e] = 0
#endif

/* The body of a step that frees. */
#define FREE_IT(e)                                                               \
    assert(state[e] != FREE);                                                    \
    state[e] = FREE; generation[e]++; kind[e] = 0; number[e] = 0; NO_ENV(e); who[e] = 0; in_ring[e] = 0; \
    doomed[e] = 0; interrupts[e] = 0; questions_ended[e] = 0

inline end_call(id)
{
    d_step { assert(!ended[id] && slots > 0); ended[id] = 1; slots--; asked[id] = 0 }
}

/* --- as consumer ---------------------------------------------------------------- */

/* What is delivered is for this generation, and nobody else's outcome. */
#ifdef STALE_COPY
#define COPY(e, k, num) if :: !is_stale -> kind[e] = k; number[e] = num :: else fi
#else
#define COPY(e, k, num) kind[e] = k; number[e] = num
#endif
#define HAND_OVER(e, g, k, num) assert(generation[e] == g); COPY(e, k, num); state[e] = DONE
#define UNPARK() assert(parked > 0); parked--

inline refuse(x)
{
#ifndef NO_REFUSAL
    if :: !is_refused[x] -> is_refused[x] = 1; refused++ :: else fi
#else
    skip
#endif
}

/* ep_call_deliver(): ok is whether somebody got it. */
inline deliver(e, g, k, num)
{
#ifdef STALE_COPY
    is_stale = !TAKES_REPLY(state[e]);
#endif
    d_step {
        ok = 1;
        if
        :: state[e] == SPINNING || state[e] == BUSY -> HAND_OVER(e, g, k, num)
        :: state[e] == PARKED -> HAND_OVER(e, g, k, num); UNPARK()
        :: state[e] == WAITING -> assert(env[e]); env[e] = 0; id = who[e]; HAND_OVER(e, g, k, num); UNPARK()
        :: state[e] == ABANDONED && k == CALLBACK -> refuse(e)
        :: state[e] == ABANDONED && k != CALLBACK ->
#ifdef FREE_UNSEEN
            is_late = 1
#else
            UNPARK();
            FREE_IT(e)
#endif
        :: else -> ok = 0
        fi
    };
#ifdef STALE_COPY
    is_stale = 0;
#endif
#ifdef FREE_UNSEEN
    if
    :: is_late -> d_step { is_late = 0; UNPARK(); FREE_IT(e) }
    :: else
    fi;
#endif
    if
    :: id != 0 -> d_step { assert(!timed_out[id]); told[id] = 1; id = 0 }
    :: else
    fi
}

#ifdef NO_PLACE
#define HAS_LEFT(e) true
#else
#define HAS_LEFT(e) in_ring[e] /* a worker can know of it */
#endif

/* What becomes of a message. */
#define FORGED 1
#define DROPPED 2
#define DELIVERED 3
#define OVERTAKES 4

#define MAY_END_A_QUESTION(x) (questions_ended[x] < interrupts[x] + (state[x] == ABANDONED))
#define IS_ASKED(x) (state[x] == DONE && kind[x] == CALLBACK)

/* handle(), judge_question() and is_overtaken(). */
inline judge()
{
    if
    :: (closed || k == STARTED) && k == STARTED && notices > 0 ->
        notices--;
        assert(parked > 0);
        parked--;
        verdict = DROPPED
    :: closed && k != STARTED && late > 0 -> late = late - (k == RESULT); verdict = DROPPED
    :: !closed && k != STARTED && state[x] != FREE && generation[x] == g && HAS_LEFT(x) ->
        if
        :: k == CALLBACK && state[x] >= SPINNING && state[x] <= WAITING -> verdict = DELIVERED
        :: k == CALLBACK && (state[x] == ABANDONED || state[x] == BUSY) && MAY_END_A_QUESTION(x) ->
            questions_ended[x]++;
            verdict = DELIVERED
        :: k == CALLBACK && IS_ASKED(x) && MAY_END_A_QUESTION(x) ->
            questions_ended[x]++;
            verdict = DROPPED;
            refuse(x)
#ifndef NO_OVERTAKING
        :: k == RESULT && IS_ASKED(x) && MAY_END_A_QUESTION(x) -> verdict = OVERTAKES
#endif
        :: k == RESULT && !IS_ASKED(x) -> verdict = DELIVERED
        :: else -> verdict = FORGED
        fi
    :: else -> verdict = FORGED
    fi
}

#ifdef OWN_ANYWAY
#define IF_NOT_OWN && x != mine
#else
#define IF_NOT_OWN
#endif

/* got: the reply is the caller's own. */
inline hand_on(mine)
{
    if
    :: verdict == OVERTAKES IF_NOT_OWN ->
        d_step { if :: state[x] == DONE -> state[x] = OVERTAKEN; verdict = 0 :: else fi }; /* ep_call_overtake() */
        if
        :: verdict == OVERTAKES -> deliver(x, g, k, num)
        :: else -> ok = 1
        fi
#ifdef OWN_ANYWAY
    :: verdict == OVERTAKES && x == mine -> ok = 0
#endif
    :: verdict == DELIVERED && x == mine && state[x] == SPINNING ->
        d_step {
            kind[x] = k;
            q = num;
            state[x] = (k == CALLBACK -> BUSY : TAKEN);
            got = 1;
            ok = 1
        }
    :: verdict == DELIVERED && !(x == mine && state[x] == SPINNING) -> deliver(x, g, k, num)
    :: verdict == DROPPED -> ok = 1
    :: verdict == FORGED -> ok = 0
    fi
}

/* mine: ENTRIES, or the caller's. */
inline drain(mine)
{
    got = 0;
    bad = 0;
    do
    :: host == 0 || len(response[host]) == 0 || got || bad -> break
    :: d_step { host != 0 && len(response[host]) > 0 && !got && !bad ->
        response[host]?k, x, g, num;
        judge()
        };
        hand_on(mine);
        bad = !ok
#if LIES == 0
        ;
        assert(ok) /* an honest worker does not die for a violation */
#endif
    od;
    if
    :: bad -> dead[host] = 1
    :: else
    fi;
    d_step { k = 0; x = 0; g = 0; num = 0; ok = 0; verdict = 0 }
}

#define HAS_MESSAGE (host != 0 && len(response[host]) > 0)
#define ARM() d_step { bell[host] = 1; answered[host] = 0; armed = 1 }
#define DISARM() d_step { if :: host != 0 -> bell[host] = 0 :: else fi; armed = 0 }

/* Under the producer lock. */
inline send_urgent(kind_, id, num)
{
    if
    :: lane == ATTACHED && runs[id] -> assert(len(urgent[host]) < 3); urgent[host]!kind_, id, num
    :: else /* the worker would not look at it */
    fi
}

inline send_cancel(e)
{
    if :: lane == ATTACHED -> interrupts[e]++ :: else fi;
    send_urgent(CANCEL, who[e], 0)
}

/* Under the producer lock. */
inline publish(e)
{
    in_ring[e] = 1;
    ring[host]!e, generation[e]
}

inline flush()
{
    LOCK(producer);
    do
    :: atomic { lane == ATTACHED && len(queue) > 0 && len(ring[host]) < SLOTS ->
        queue?x;
        publish(x);
        x = 0 }
    :: else -> break
    od;
    UNLOCK(producer)
}

/* ep_inbox_leave() */
inline leave()
{
    do
    :: true ->
        do
        :: atomic { host != 0 && parked > 0 -> ARM() };
            if
            :: HAS_MESSAGE -> drain(ENTRIES); if :: bad -> break :: else fi
            :: else -> break
            fi
        :: else -> break
        od;
        atomic { attached = host != 0; UNLOCK(consumer) };
        if
        :: atomic { attached && parked > 0 && !armed && consumer == 0 -> consumer = 1 }
        :: else -> break
        fi
    od;
    attached = 0;
    if
    :: len(queue) > 0 -> flush()
    :: else
    fi;
    if
    :: refused != 0 -> /* ep_outbox_refuse() */
        LOCK(producer);
        do
        :: atomic { x < ENTRIES ->
            refused = refused - is_refused[x];
            if
            :: is_refused[x] && state[x] != FREE -> send_cancel(x)
            :: else
            fi;
            is_refused[x] = 0;
            x++ }
        :: else -> break
        od;
        atomic { x = 0; UNLOCK(producer) }
    :: else
    fi
}

inline ensure()
{
    if
    :: atomic { consumer == 0 -> consumer = 1; ok = 1 }
    :: else ->
#ifndef ARMED_STAYS
        armed = 0; /* E2 */
#endif
        if
        :: atomic { consumer == 0 -> consumer = 1; ok = 1 }
        :: else -> ok = 0
        fi
    fi;
    if
    :: ok -> drain(ENTRIES); leave()
    :: else
    fi
}

/* --- the caller ------------------------------------------------------------------- */

#define SOON(e) \
    (in_ring[e] && (!(ring[host]??[eval(e), eval(generation[e])]) || ring[host]?[eval(e), eval(generation[e])]))

/* ep_interrupt_cancel(): given is whether the call was given up. refuses: also before a callback. */
inline cancel(refuses)
{
    LOCK(producer);
    /* give_up() */
    if
    :: atomic { (state[e] == WAITING || state[e] == PARKED) -> state[e] = ABANDONED; given = 1 }
    :: else ->
#ifndef GIVE_UP_UNCOUNTED
        parked++;
#endif
        atomic {
            if
            :: state[e] == SPINNING || state[e] == BUSY || (refuses && IS_ASKED(e)) -> state[e] = ABANDONED; given = 1
#ifndef GIVE_UP_UNCOUNTED
            :: else -> UNPARK()
#else
            :: else
#endif
            fi
        }
    fi;
    if
    :: !given -> UNLOCK(producer) /* answered */
    :: given ->
        atomic {
            ok = doomed[e];
#ifdef DOOMED_STAYS
            ok = 0;
#endif
            if
            :: !ok && !in_ring[e] -> ok = queue??[eval(e)]; if :: ok -> queue??eval(e) :: else fi
            :: else
            fi;
            if
            :: ok && state[e] == ABANDONED -> FREE_IT(e); UNPARK()
            :: else
            fi
        };
        if
        :: ok -> UNLOCK(producer)
        :: else ->
            atomic { cancelled[me] = 1; if :: host != 0 -> ok = SOON(e) :: else fi };
            atomic {
                if
                :: ok -> send_cancel(e)
                :: else
                fi;
                UNLOCK(producer)
            };
            ensure()
        fi;
        ok = 0
    fi
}

/* The process has died, or its time was over in a callback. */
inline abandon()
{
    cancel(true);
    if
    :: !given -> d_step { FREE_IT(e) } /* nobody collects */
    :: else
    fi;
    end_call(me)
}

inline alloc()
{
    d_step {
        e = 0;
        do
        :: e < ENTRIES && state[e] != FREE -> e++
        :: else -> break
        od;
        if
        :: e < ENTRIES ->
            assert(!env[e] && !doomed[e]);
            state[e] = SPINNING;
            who[e] = me;
            in_ring[e] = 0;
            refused = refused - is_refused[e];
            is_refused[e] = 0
        :: else
        fi
    }
}

#ifdef GIVES_UP
#define MAY_GIVE_UP if :: mortal -> abandon(); goto next :: true fi
#else
#define MAY_GIVE_UP skip
#endif

proctype caller(byte c)
{
    byte me, e, i, k, x, g, num, id, verdict, q;
    bit ok, got, bad, attached, is_stale, is_late, place_late, cons, mortal, given;

    do
    :: i < CALLS ->
        me = c * CALLS + i + 1;
        slots++;
#ifdef GIVES_UP
        if :: mortal = 1 :: mortal = 0 fi;
#endif
        atomic {
            producer == 0 ->
            if
            :: lane == CLOSED || lane == UNAVAILABLE -> e = ENTRIES
            :: else -> alloc()
            fi;
            if
            :: e < ENTRIES && lane == ATTACHED && len(queue) == 0 && len(ring[host]) < SLOTS ->
#ifdef PLACE_LATE
                place_late = 1;
#else
                in_ring[e] = 1;
#endif
                ring[host]!e, generation[e]
            :: e < ENTRIES && !(lane == ATTACHED && len(queue) == 0 && len(ring[host]) < SLOTS) -> queue!e
            :: e == ENTRIES -> end_call(me)
            fi
        };
#ifdef PLACE_LATE
        if :: place_late -> in_ring[e] = 1; place_late = 0 :: else fi;
#endif
        if
        :: e == ENTRIES -> goto next
        :: else
        fi;

spin:   /* ep_spin_for_reply(), ep_poll_for_reply() */
        do
        :: true ->
            if
            :: atomic { !cons && consumer == 0 -> consumer = 1; cons = 1; DISARM() }
            :: else
            fi;
            if
            :: cons -> drain(e)
            :: else
            fi;
            if
            :: got || bad || state[e] >= DONE -> break
            :: else
            fi;
            /* Others go first; then it looks again, as long as its budget lasts. */
            if
            :: cons -> cons = 0; leave()
            :: else
            fi;
            MAY_GIVE_UP;
            if
            :: HAS_MESSAGE || state[e] >= DONE
            :: break
            fi
        od;
        ok = got;
        if
        :: !ok ->
#ifdef PARK_LATE
            if
            :: atomic { state[e] == SPINNING -> state[e] = PARKED }; parked++
            :: else
            fi
#else
            parked++;
            if
            :: atomic { state[e] == SPINNING -> state[e] = PARKED }
            :: else -> d_step { UNPARK() }
            fi
#endif
        :: else
        fi;
        given = ok;
        if
        :: cons -> cons = 0; leave()
        :: !cons && !given -> ensure()
        :: else
        fi;
        skip;
        d_step { got = 0; bad = 0; ok = given; given = 0 };
        if
        :: ok ->
            ok = 0;
            if
            :: state[e] == TAKEN -> goto finish
            :: else -> goto busy /* whatever it is by now */
            fi
        :: else
        fi;
        MAY_GIVE_UP;
        /* await_nif() */
        if
        :: state[e] == PARKED ->
            env[e] = 1;
            if
            :: atomic { state[e] == PARKED -> state[e] = WAITING };
                if
                :: told[me] -> told[me] = 0
#ifdef GIVES_UP
                :: mortal -> abandon(); goto next
                :: mortal -> /* a timeout: py_request:give_up() */
                    cancel(CANCEL_REFUSES);
                    if
                    :: given -> assert(!told[me]); end_call(me); timed_out[me] = 1; goto next
                    :: else -> told[me] -> told[me] = 0 /* collects, and gives it up in the callback */
                    fi
#endif
                fi
            :: else -> env[e] = 0
            fi
        :: else
        fi;
        MAY_GIVE_UP;

collect:
        skip;
        d_step {
            assert(state[e] == DONE || state[e] == OVERTAKEN);
            ok = kind[e] == CALLBACK;
            q = number[e]
        };
        if
        :: !ok -> goto finish
        :: else
        fi;
        ok = 0;
        if
        :: atomic { state[e] == DONE -> state[e] = BUSY }
        :: atomic { state[e] == OVERTAKEN -> q = 0; goto finish } /* ep_call_settle() */
        fi;
busy:   /* The callback runs. */
        skip;
        d_step {
#if LIES == 0
            assert(q > asked[me]);
#endif
            asked[me] = q
        };
        MAY_GIVE_UP;
        atomic { /* ep_outbox_answer() */
            producer == 0 ->
#ifndef ANSWER_BLINDLY
            if :: doomed[e] && state[e] == BUSY -> kind[e] = FAILED; state[e] = DONE :: else fi;
#endif
            if
            :: state[e] == BUSY -> state[e] = SPINNING; producer = 1
            :: else -> q = 0; goto collect
            fi
        };
        atomic {
            send_urgent(ANSWER, me, q);
            q = 0;
            UNLOCK(producer);
            goto spin
        };
finish:
        skip;
        d_step { FREE_IT(e) };
        end_call(me);
next:
        skip; /* no jump may lead into a d_step */
        d_step { ok = 0; got = 0; bad = 0; given = 0; e = 0; mortal = 0; q = 0; i++ }
    :: else -> break
    od;
    n_done++
}

/* --- the reaper ----------------------------------------------------------------------- */

#ifdef NO_DOOM
#define MAY_DOOM false
#else
#define MAY_DOOM true
#endif

/* is_open() of ep_lanes.c: under both locks. */
#define IS_OPEN(e) \
    (TAKES_REPLY(state[e]) || state[e] == ABANDONED || (MAY_DOOM && IS_ASKED(e) && !doomed[e]))

/* Under both locks. */
inline fail_calls(queued_too)
{
    x = 0;
    do
    :: x < ENTRIES ->
        d_step { ok = IS_OPEN(x) && (queued_too || in_ring[x]) };
        if
        :: ok ->
            d_step {
                assert(!published[who[x]] || closed); /* it had ended, and we could know */
                doomed[x] = 1;
                in_ring[x] = 0
            };
            deliver(x, generation[x], FAILED, 0)
        :: else
        fi;
        x++
    :: else -> break
    od;
    skip;
    d_step { x = 0; ok = 0 }
}

inline clear_queue()
{
    do
    :: len(queue) > 0 -> queue?_
    :: else -> break
    od
}

/* What the dead had is of no use to anybody; fewer states. */
#define FORGET(h)                                                     \
    do :: len(ring[h]) > 0 -> ring[h]?_, _ :: else -> break od;       \
    do :: len(response[h]) > 0 -> response[h]?_, _, _, _ :: else -> break od; \
    do :: len(urgent[h]) > 0 -> urgent[h]?_, _, _ :: else -> break od; \
    bell[h] = 0; answered[h] = 0; doorbell[h] = 0

inline host_died(h)
{
#ifndef NO_PRODUCER
    LOCK(producer);
#endif
    if
    :: host == h ->
#ifndef NO_CONSUMER
        LOCK(consumer);
#endif
#ifndef NO_DRAIN
        drain(ENTRIES);
#endif
        if
        :: kill_after[h] && lane == ATTACHED ->
            do
            :: len(ring[h]) > 0 ->
                ring[h]?x, g;
                d_step { ok = generation[x] == g && IS_OPEN(x) && !cancelled[who[x]] };
                if
                :: ok -> in_ring[x] = 0; queue!x
                :: else
                fi
            :: else -> break
            od;
            fail_calls(0)
        :: else ->
            fail_calls(1);
            clear_queue()
        fi;
        skip;
        d_step { g = 0; host = 0; armed = 0; assert(parked >= notices); parked = parked - notices; notices = 0;
            FORGET(h);
            if :: lane == ATTACHED -> lane = DETACHED :: else fi };
#ifndef NO_CONSUMER
        UNLOCK(consumer)
#endif
    :: else
    fi;
#ifndef NO_PRODUCER
    UNLOCK(producer)
#endif
}

active proctype reaper()
{
    byte k, x, g, num, id, h, verdict, q;
    bit ok, got, bad, attached, is_stale, is_late, place_late;

end:
    do
    :: over -> break
    :: d_step { listed && doorbell[host] -> h = host; doorbell[host] = 0 };
        if :: !dead[h] -> ensure() :: else fi;
        h = 0
    :: d_step { listed && dead[host] -> h = host; listed = 0 };
        host_died(h);
        h = 0
    od
}

/* --- the context ------------------------------------------------------------------------ */

/* The body of an atomic step. */
#if LIES > 0
#define START(w) run liar(w)
#else
#define START(w) run worker(w); run killer(w)
#endif
#define ATTACH(w)                                                                                \
    host = w; listed = 1; notices = NOTICES; parked = parked + NOTICES;                           \
    bell[w] = NOTICES || w > FIRST; armed = bell[w]; lane = ATTACHED;                            \
    START(w)

inline attach(w)
{
    LOCK(producer);
    LOCK(consumer);
    atomic { ATTACH(w) };
    UNLOCK(consumer);
    UNLOCK(producer);
    flush()
}

#ifdef QUEUED_STAYS
#define FAILS_QUEUED 0
#else
#define FAILS_QUEUED 1
#endif

inline set_unavailable()
{
    LOCK(producer);
    lane = UNAVAILABLE;
    LOCK(consumer);
    fail_calls(FAILS_QUEUED);
    UNLOCK(consumer);
    clear_queue();
    UNLOCK(producer)
}

inline close()
{
    LOCK(producer);
    LOCK(consumer);
    closed = 1;
    d_step {
        do
        :: x < ENTRIES -> if :: host != 0 && IS_OPEN(x) && in_ring[x] -> late++ :: else fi; x++
        :: else -> break
        od;
        x = 0
    };
    lane = CLOSED;
    fail_calls(1);
    if
    :: host != 0 -> ARM()
    :: else
    fi;
    UNLOCK(consumer);
    clear_queue();
    UNLOCK(producer);
    if
    :: host != 0 -> doorbell[host] = 1
    :: else
    fi
}

proctype context()
{
    byte k, x, g, num, id, w = FIRST, verdict, q;
    bit ok, got, bad, attached, is_stale, is_late, place_late;
#ifdef CLOSES
    bit may_close = 1;
#endif

end:
    do
    :: over -> break
    :: (lane == DETACHED || lane == UNAVAILABLE) && w < WORKERS -> w++; attach(w)
    :: lane == DETACHED && w > 0 -> set_unavailable()
#ifdef CLOSES
    :: w > 0 && may_close -> may_close = 0
    :: w > 0 && may_close -> may_close = 0; close()
#endif
    od
}

#if INTERRUPTS > 0
active proctype interrupter()
{
    byte n, x;

    do
    :: n < INTERRUPTS && n_done < CALLERS ->
        n++;
        LOCK(producer);
        if
        :: host != 0 && state[0] != FREE -> send_cancel(0)
        :: else
        fi;
        UNLOCK(producer)
    :: break
    od
}
#endif

/* --- the worker -------------------------------------------------------------------------- */

proctype killer(byte w)
{
    if
#ifdef DIES
    :: dead[w] = 1
#ifdef KILL_AFTER
    :: d_step { kill_after[w] = 1; dead[w] = 1 }
#endif
#endif
    :: skip
    fi
}

#define RING_BELL(w) d_step { if :: bell[w] && !answered[w] -> answered[w] = 1; doorbell[w] = 1 :: else fi }

proctype worker(byte w)
{
    byte e, g, id, n, num, to;
    bit is_marked;

    {
#if NOTICES
        response[w]!STARTED, 0, 0, 0;
        RING_BELL(w);
#endif
end_idle:
        do
        :: ring[w]?<e, g> ->
            d_step { id = who[e]; is_marked = cancelled[id] };
            d_step { ring[w]?e, g; runs[id] = 1 };
            do
            :: !is_marked && n < ASKS ->
                n++;
                num++;
                /* Those that the control thread has seen to meanwhile. */
                do
                :: urgent[w]??CANCEL, eval(id), _
                :: break
                od;
                response[w]!CALLBACK, e, g, num;
                RING_BELL(w);
                do
                :: urgent[w]??ANSWER, eval(id), to -> if :: to == num -> break :: else fi
                :: urgent[w]??CANCEL, eval(id), _ -> break
                od
            :: break
            od;
            skip;
            d_step { response[w]!RESULT, e, g, 0; published[id] = 1 };
            RING_BELL(w);
            d_step {
                runs[id] = 0;
                do
                :: urgent[w]??[_, eval(id), _] -> urgent[w]??_, eval(id), _
                :: else -> break
                od;
                e = 0; g = 0; id = 0; n = 0; num = 0; is_marked = 0
            }
        od
    } unless { dead[w] || over }
}

#if LIES > 0
/* Forged replies with the ids that are to be expected; then it dies. */
proctype liar(byte w)
{
    byte n, e;

    {
        do
        :: n < LIES && e < ENTRIES ->
            n++;
            if
            :: response[w]!RESULT, e, generation[e], 0
            :: response[w]!CALLBACK, e, generation[e], n
            fi;
            RING_BELL(w)
        :: n < LIES && e + 1 < ENTRIES -> e++
        :: break
        od;
        dead[w] = 1
    } unless { dead[w] || over }
}
#endif

active proctype monitor()
{
    n_done == CALLERS && state[0] == FREE && state[ENTRIES - 1] == FREE && parked == notices && !producer && !consumer &&
        len(queue) == 0 && slots == 0 -> over = 1
}

init
{
    atomic {
#if FIRST == 1
        ATTACH(1);
#endif
        run context();
        run caller(0);
#if CALLERS > 1
        run caller(1)
#endif
    }
}

/* SPDX-License-Identifier: Apache-2.0
 *
 * wake.pml - the rings, the bells and the reaper of one lane (transport/ep_ring.h,
 * ep_bell.h, docs/wire.md): CAP cells each way, N calls, and a worker that may be
 * killed before any of its steps. Each step touches shared memory once; the memory is
 * sequentially consistent, which is what W1-W2 and S1-S2 ask for.
 *
 * Numbers that only grow are kept as what they are compared for: a bell's generation
 * as "armed" and "this arming was answered", the futex word as "changed since it was
 * read". The states are then few enough to visit them all.
 *
 * Checked: a message is read whole; every call ends, and only once; a response that
 * was published is never turned into an error; nobody sleeps for ever. The last one is
 * the absence of dead ends: every lap of a loop takes a message or a wake-up, and
 * there are finitely many of both, so every run is finite.
 *
 * -D selects a mutant, which must fail; run.sh has the list:
 *   NO_LOOK_WORKER, NO_LOOK_VM, NO_LOOK_SPACE
 *                     the sleeper does not look again after it armed
 *   NO_RING_CALL, NO_RING_RESPONSE, NO_RING_SPACE
 *                     the publisher never rings
 *   LOOK_FIRST_CALL, LOOK_FIRST_RESPONSE, LOOK_FIRST_SPACE
 *                     the publisher reads the bell before it publishes
 *   NO_REARM          who was rung awake sleeps again under the old generation
 *   FUTEX_LATE        the futex word is read after the last look
 *   NO_DRAIN          the reaper fails calls without draining the ring
 *   NO_LOCK           the reaper does not take the producer's lock
 *   NO_DEAD_CHECK     the producer does not see that the lane was reaped
 *   EARLY_PUBLISH     a cell is published before it is filled
 *   EARLY_HEAD        a cell is given back before it is read
 */
#ifndef CAP
#define CAP 1
#endif
#ifndef N
#define N 3
#endif

#define PENDING 1
#define OK 2
#define FAILED 3

/* Segment A: written by the VM. */
byte call_seq[CAP], call_id[CAP];
byte response_head;
bit response_armed;
bit futex_changed; /* since the worker read it */
/* Segment B: written by the worker. */
byte response_seq[CAP], response_id[CAP];
byte call_head;
bit park_armed, space_armed;

/* Private to the publishers: whether the latest arming was answered. */
bit park_answered, space_answered, response_answered;

/* The kernel. */
bit eventfd;  /* readable */
bit in_futex; /* the worker sleeps ... */
bit woken;    /* ... and was woken */
bit dead;     /* the pidfd is readable */

/* The VM's call table. */
byte state[N + 1];
byte ended;
bit reaped, lock;

/* For the assertions only. */
bit published[N + 1];
byte finished;

#ifdef NO_REARM
#define ARM(armed, answered) d_step { answered = answered && armed; armed = 1 }
#else
#define ARM(armed, answered) d_step { answered = 0; armed = 1 } /* a new generation */
#endif
#define DISARM(armed) armed = 0

/* ep_bell_must_ring(): one load; what was answered is private. */
#define LOOK(armed, answered, ring) d_step { ring = armed && !answered; answered = answered || armed }

inline wake_worker()
{
    futex_changed = 1;
    d_step { if :: in_futex -> woken = 1 :: else fi }
}

#define RING_WORKER(ring) if :: ring -> ring = 0; wake_worker() :: else fi

inline finish()
{
    d_step { finished++; assert(finished < 2 || ended == N) }
}

/* The threads of the VM that send calls; the lock makes them one. */
active proctype producer()
{
    byte i = 1, tail;
    bit ring, sent;

    do
    :: i <= N ->
        atomic { lock == 0 -> lock = 1 };
        if
#ifdef NO_DEAD_CHECK
        :: false
#else
        :: atomic { reaped -> state[i] = FAILED; ended++; sent = 1 }
#endif
        :: else ->
            if
            :: (tail - call_head) < CAP -> /* C2 */
#ifdef LOOK_FIRST_CALL
                LOOK(park_armed, park_answered, ring);
#endif
                state[i] = PENDING;
#ifdef EARLY_PUBLISH
                call_seq[tail % CAP] = tail + 1;
                call_id[tail % CAP] = i;
#else
                call_id[tail % CAP] = i;
                call_seq[tail % CAP] = tail + 1; /* P1, W1 */
#endif
                tail++;
#ifndef LOOK_FIRST_CALL
                LOOK(park_armed, park_answered, ring); /* W1 */
#endif
#ifndef NO_RING_CALL
                RING_WORKER(ring);
#endif
                sent = 1
            :: else /* overload: the caller comes again */
            fi
        fi;
        lock = 0;
        if
        :: sent -> sent = 0; i++
#ifdef NO_DEAD_CHECK
        :: !sent && (tail - call_head) < CAP
#else
        :: !sent && (reaped || (tail - call_head) < CAP)
#endif
        fi
    :: else -> break
    od;
    finish()
}

#define CALL_IS_THERE (call_seq[head % CAP] == head + 1)
#define HAS_ROOM ((tail - response_head) < CAP)

#ifdef FUTEX_LATE
#define VALUE_BEFORE
#define VALUE_AFTER futex_changed = 0;
#else
#define VALUE_BEFORE futex_changed = 0;
#define VALUE_AFTER
#endif

/* The kernel compares and goes to sleep in one step. */
#define FUTEX_WAIT(end_label)                                        \
    VALUE_AFTER                                                      \
    d_step { if :: !futex_changed -> in_futex = 1 :: else fi };      \
end_label:                                                           \
    d_step { !in_futex || woken -> in_futex = 0; woken = 0 }     

active proctype worker()
{
    byte head, tail, x;
    bit ring;

    {
        do
        :: CALL_IS_THERE -> /* P2 */
#ifdef EARLY_HEAD
            call_head = head + 1;
#endif
            d_step { x = call_id[head % CAP]; assert(x != 0 && state[x] == PENDING); head++ };
            call_head = head; /* C1 */
            do
            :: HAS_ROOM -> break /* C2 */
            :: else ->
                VALUE_BEFORE
                ARM(space_armed, space_answered); /* S2 */
#ifndef NO_LOOK_SPACE
                if
                :: HAS_ROOM -> DISARM(space_armed); break
                :: else
                fi;
#endif
                FUTEX_WAIT(end_space)
            od;
#ifdef LOOK_FIRST_RESPONSE
            skip; /* no break may lead into a d_step */
            LOOK(response_armed, response_answered, ring);
#endif
            response_id[tail % CAP] = x;
            d_step { response_seq[tail % CAP] = tail + 1; published[x] = 1; tail++; x = 0 }; /* P1, W1 */
#ifndef LOOK_FIRST_RESPONSE
            LOOK(response_armed, response_answered, ring); /* W1 */
#endif
#ifndef NO_RING_RESPONSE
            if :: ring -> eventfd = 1 :: else fi;
#endif
            ring = 0
        :: else ->
            VALUE_BEFORE
            ARM(park_armed, park_answered); /* W2 */
#ifndef NO_LOOK_WORKER
            if
            :: CALL_IS_THERE -> DISARM(park_armed); goto again
            :: else
            fi;
#endif
            FUTEX_WAIT(end_park);
again:      skip
        od
    } unless { dead }
}

#ifndef NO_CRASH
active proctype killer()
{
    if
    :: dead = 1
    :: skip /* it lives, so nobody can hope for its death */
    fi
}
#endif

#define RESPONSE_IS_THERE (response_seq[head % CAP] == head + 1)

inline take_response()
{
#ifdef EARLY_HEAD
    response_head = head + 1;
#endif
    d_step {
        x = response_id[head % CAP];
        assert(x != 0 && state[x] == PENDING);
        state[x] = OK;
        ended++;
        head++;
        x = 0
    };
#ifdef LOOK_FIRST_SPACE
    LOOK(space_armed, space_answered, ring);
#endif
    response_head = head; /* C1, S1 */
#ifndef LOOK_FIRST_SPACE
    LOOK(space_armed, space_answered, ring); /* S1 */
#endif
#ifndef NO_RING_SPACE
    RING_WORKER(ring)
#endif
}

/* The thread of the VM that polls the eventfd and the pidfd, and reaps. */
active proctype reaper()
{
    byte head, x;
    bit ring;

    do
    :: ended == N -> goto done
    :: ended < N && RESPONSE_IS_THERE -> take_response() /* P2 */
    :: ended < N && !RESPONSE_IS_THERE ->
        ARM(response_armed, response_answered); /* W2 */
#ifndef NO_LOOK_VM
        if
        :: RESPONSE_IS_THERE -> DISARM(response_armed)
        :: else ->
#endif
            if
            :: d_step { eventfd -> eventfd = 0 }
            :: dead -> break
            fi
#ifndef NO_LOOK_VM
        fi
#endif
    od;

#ifndef NO_LOCK
    atomic { lock == 0 -> lock = 1 };
#endif
    reaped = 1;
#ifndef NO_DRAIN
    do
    :: RESPONSE_IS_THERE -> take_response()
    :: else -> break
    od;
#endif
    x = 1;
    do
    :: x <= N ->
        d_step {
            if
            :: state[x] == PENDING ->
                assert(!published[x]); /* it was answered, and we could know */
                state[x] = FAILED;
                ended++
            :: else
            fi;
            x++
        }
    :: else -> break
    od;
#ifndef NO_LOCK
    lock = 0;
#endif
done:
    finish()
}

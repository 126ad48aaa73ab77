/* SPDX-License-Identifier: Apache-2.0
 *
 * interrupt.pml - the two ways of an interrupt to a call that waits and runs in turns
 * (service/ep_worker_callback.c, ep_py_interrupt.c): CANCEL on the urgent ring, then
 * INTERRUPT through the control thread. Call 1 asks Erlang up to ASKS times and is
 * interrupted K times; call 2 comes after it on the same lane. Each step touches shared
 * memory once; the memory is sequentially consistent, and rings and wake-ups are those
 * that wake.pml has checked, so here they are channels.
 *
 * Checked: call 1 sees an interrupt, and no more than were sent (two that meet may
 * become one); call 2 sees none; nobody waits for ever. With -DENDS call 1 may end
 * at any moment, and the interrupt may come too late for it. With -DSIGNAL the control
 * thread raises the exception itself, as SIGINT does in Python's main thread; else a
 * helper that has to wait for the GIL does.
 *
 * -D selects a mutant, which must fail; run.sh has the list:
 *   NO_LOOK           the lane does not look at the ring after it set running
 *   LOOK_FIRST        it looks before
 *   INTERRUPT_FIRST   the VM goes the other way first
 *   NO_CLAIM          both ways act
 *   COUNT_LATE        the control thread looks at running before it counts itself
 *   NO_SETTLE         the lane does not wait for who is at work
 *   NOT_OWED          what was taken back when the call paused is forgotten
 *   OWED_TWICE        what Python has seen is taken for something that is owed
 *   NO_MISSED         a helper that comes too late does not say so
 *   ANY_CALL          the control thread does not look which call runs
 */
#ifndef K
#define K 1
#endif
#ifndef ASKS
#define ASKS 2
#endif

#define CANCEL 1
#define ANSWER 2

chan urgent = [8] of { byte, byte };
chan control = [K] of { byte };
chan question = [4] of { byte };

/* struct ep_py_interrupt. */
byte running; /* call, 0: none */
byte at_work; /* state: those who strike ... */
bit struck;   /* ... and have struck ... */
bit missed;   /* ... but raised nothing */
bit claimed[K + 1];

bit pending; /* an exception that Python has not raised yet */
bit begun;
byte seen[3];

#ifdef NO_CLAIM
#define CLAIM(n, ok) ok = 1
#else
#define CLAIM(n, ok) d_step { ok = !claimed[n]; claimed[n] = 1 }
#endif

/* --- the VM --------------------------------------------------------------------- */

active proctype interrupter()
{
    byte n = 1;

    begun;
    do
    :: n <= K ->
#ifdef INTERRUPT_FIRST
        control!n;
        urgent!CANCEL, n;
#else
        urgent!CANCEL, n;
        control!n;
#endif
        n++
    :: else -> break
    od
}

active proctype caller()
{
    byte number;

end:
    do
    :: question?number -> urgent!ANSWER, number
    od
}

/* --- the worker ------------------------------------------------------------------- */

#ifdef ANY_CALL
#define IS_RUNNING (running != 0)
#else
#define IS_RUNNING (running == 1)
#endif

/* With the GIL: no step of the lane's Python comes between the look and the rest. */
proctype helper()
{
    d_step {
        if
        :: IS_RUNNING -> pending = 1
#ifdef NO_MISSED
        :: else
#else
        :: else -> missed = 1
#endif
        fi
    };
    at_work--
}

active proctype controller()
{
    byte n;
    bit ok, runs;

end:
    do
    :: control?n ->
#ifdef COUNT_LATE
        runs = IS_RUNNING;
        at_work++;
#else
        at_work++;
        runs = IS_RUNNING;
#endif
        ok = 0;
        if
        :: runs -> CLAIM(n, ok)
        :: else
        fi;
        if
        :: ok ->
            struck = 1;
#ifdef SIGNAL
            pending = 1;
            at_work--
#else
            run helper()
#endif
        :: else -> at_work--
        fi
    od
}

/* ep_py_interrupt_end(): nobody strikes the call from here on. */
inline end_interrupts()
{
    running = 0;
    left = 0;
    if
    :: at_work == 0 && !struck
    :: else ->
#ifndef NO_SETTLE
        at_work == 0;
#endif
        d_step {
#ifdef OWED_TWICE
            left = struck;
#else
            left = struck && (pending || missed);
#endif
            struck = 0;
            missed = 0;
            pending = 0
        }
    fi
}

inline pause_call()
{
    end_interrupts();
#ifndef NOT_OWED
    d_step { cancelled = cancelled || left; left = 0 }
#endif
}

inline read_urgent()
{
    urgent?kind, n ->
    if
    :: kind == ANSWER -> answered = answered || n == number
    :: kind == CANCEL && call == 1 -> CLAIM(n, ok); cancelled = cancelled || ok
    :: else
    fi
}

inline ask()
{
    number++;
    answered = 0;
    cancelled = 0;
    pause_call();
    if
    :: cancelled -> running = call
    :: else ->
        question!number;
        do
        :: nempty(urgent) -> read_urgent()
        :: empty(urgent) && (cancelled || answered) ->
#ifdef LOOK_FIRST
            if
            :: nempty(urgent)
            :: empty(urgent) -> running = call; break
            fi
#else
            running = call;
#ifdef NO_LOOK
            break
#else
            if
            :: empty(urgent) -> break
            :: nempty(urgent) -> pause_call()
            fi
#endif
#endif
        od
    fi;
    skip; /* no break may lead into a d_step */
    d_step { if :: cancelled -> seen[call]++ :: else fi };
    assert(seen[1] <= K && seen[2] == 0)
}

/* Whether the call may end. */
#ifdef ENDS
#define MAY_END true
#else
#define MAY_END (asks == ASKS && (call == 2 || seen[1] > 0))
#endif

active proctype lane()
{
    byte call = 1, asks, number, kind, n;
    bit answered, cancelled, left, ok;

    do
    :: call <= 2 ->
        running = call;
        begun = 1;
        asks = 0;
        do
        :: pending ->
            d_step { pending = 0; seen[call]++ };
            assert(seen[1] <= K && seen[2] == 0)
        :: asks < ASKS -> asks++; ask()
        :: MAY_END -> break
        od;
        end_interrupts();
        call++
    :: else -> break
    od
}

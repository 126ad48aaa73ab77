/* SPDX-License-Identifier: Apache-2.0
 *
 * interrupt.pml - the two ways of an interrupt to a call that waits and runs in turns
 * (service/worker/ep_worker_callback.c, ep_py_interrupt.c): CANCEL on the urgent ring, then
 * INTERRUPT through the control thread. Call 1 asks Erlang up to ASKS times and is
 * interrupted K times; call 2 comes after it on the same lane. Each step touches shared
 * memory once; the memory is sequentially consistent, and rings and wake-ups are those
 * that wake.pml has checked, so here they are channels.
 *
 * With -DIMPORTS=n each call also imports up to n modules, in each of which it may ask
 * (service/python/ep_py_import.c). Interrupts that come then are raised at the end, or by the question;
 * with -DFORCED a last message has one that waits so raised at once.
 *
 * Checked: call 1 sees an interrupt, and no more than were sent (two that meet may
 * become one); call 2 sees none; no exception is raised in the middle of an import,
 * unless forced; nobody waits for ever. With -DENDS call 1 may end
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
 *   HOLD_NO_SETTLE    who begins an import does not wait for who is at work
 *   HOLD_FORGETS      and forgets what he took back
 *   HOLD_LOOK_FIRST   he looks for them before he says that he imports
 *   LET_GO_BLINDLY    the end of an import does not look who came
 *   LET_GO_LOOK_FIRST it looks before it says that it is the end
 *   LET_GO_OPENLY     it takes back what it finds while others may strike
 *   FORCED_ONCE       what was forced does not say again that it struck
 *   LOOK_TWICE        the control thread looks for a call that runs, then for one that imports
 *   RESUME_RUNS       a call that asked in an import goes on as if it did not import
 */
#ifndef K
#define K 1
#endif
#ifndef ASKS
#define ASKS 2
#endif

#ifndef IMPORTS
#define IMPORTS 0
#endif

/* running, of a call that imports */
#define HELD 10

#define CANCEL 1
#define ANSWER 2

chan urgent = [8] of { byte, byte };
chan control = [K + 1] of { byte };
chan question = [4] of { byte };

/* struct ep_py_interrupt. */
byte running; /* call, or call + HELD, 0: none */
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
    od;
#ifdef FORCED
    control!0
#endif
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
#define RUNS(r) (r != 0)
#else
#define RUNS(r) (r == 1)
#endif

/* With the GIL: no step of the lane's Python comes between the look and the rest. */
proctype helper()
{
    d_step {
        if
        :: RUNS(running) -> pending = 1
#ifdef NO_MISSED
        :: else
#else
        :: else -> missed = 1
#endif
        fi
    };
    at_work--
}

proctype forced_helper()
{
    d_step {
        if
        :: running == 1 || running == 1 + HELD -> pending = 1
        :: else -> missed = 1
        fi
    };
#ifndef FORCED_ONCE
    struck = 1;
#endif
    at_work--
}

active proctype controller()
{
    byte n, r;
    bit ok;

end:
    do
#ifdef FORCED
    :: control?0 ->
        at_work++;
        ok = 0;
        if
        :: running == 1 + HELD -> d_step { ok = missed; missed = 0 }
        :: else
        fi;
        if
        :: ok ->
            struck = 1;
#ifdef SIGNAL
            pending = 1;
#ifndef FORCED_ONCE
            struck = 1;
#endif
            at_work--
#else
            run forced_helper()
#endif
        :: else -> at_work--
        fi
#endif
    :: nempty(control) && !control?[0] -> control?n;
#ifdef COUNT_LATE
        r = running;
        at_work++;
#else
        at_work++;
        r = running;
#endif
#ifdef LOOK_TWICE
        if
        :: RUNS(r)
        :: else -> r = running; if :: r == 1 + HELD :: else -> r = 0 fi
        fi;
#endif
        ok = 0;
        if
        :: RUNS(r) || r == 1 + HELD -> CLAIM(n, ok)
        :: else
        fi;
        if
        :: ok && !RUNS(r) ->
            d_step { struck = 1; missed = 1 };
            at_work--
        :: ok && RUNS(r) ->
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

/* Who is at work ends, and what he left behind is taken back. */
inline take_back()
{
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
}

inline settle()
{
    left = 0;
    if
    :: at_work == 0 && !struck
    :: else ->
#ifndef NO_SETTLE
        at_work == 0;
#endif
        take_back()
    fi
}

/* ep_py_interrupt_end(): nobody strikes the call from here on. */
inline end_interrupts()
{
    running = 0;
    settle()
}

/* Python raises what is pending. */
inline take()
{
    d_step { pending = 0; seen[call]++ };
    assert(seen[1] <= K && seen[2] == 0)
}

inline raise()
{
    d_step { if :: left -> seen[call]++ :: else fi; left = 0 };
    assert(seen[1] <= K && seen[2] == 0)
}

/* ep_py_interrupt_hold() */
inline hold()
{
#ifdef HOLD_LOOK_FIRST
    settle();
    running = call + HELD;
#else
    running = call + HELD;
#ifdef HOLD_NO_SETTLE
    left = 0;
#else
    settle();
#endif
#endif
#ifdef HOLD_FORGETS
    left = 0;
#endif
    raise()
}

/* ep_py_interrupt_let_go() */
inline let_go()
{
#ifdef LET_GO_LOOK_FIRST
    settle();
    raise();
    running = call;
#else
    running = call;
#ifndef LET_GO_BLINDLY
    do
    :: at_work == 0 && !struck -> break
    :: else ->
#ifndef LET_GO_OPENLY
        running = call + HELD;
#endif
        settle();
        raise();
        running = call
    od
#endif
#endif
}

inline import()
{
    imports++;
    hold();
    held = HELD;
#ifndef FORCED
    assert(!pending);
#endif
    do
#ifdef FORCED
    :: pending -> take()
#endif
    :: asks < ASKS -> asks++; ask()
    :: true -> break
    od;
#ifndef FORCED
    assert(!pending);
#endif
    held = 0;
    let_go()
}

#ifdef RESUME_RUNS
#define RESUMED call
#else
#define RESUMED (call + held)
#endif

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
    :: cancelled -> running = RESUMED
    :: else ->
        question!number;
        do
        :: nempty(urgent) -> read_urgent()
        :: empty(urgent) && (cancelled || answered) ->
#ifdef LOOK_FIRST
            if
            :: nempty(urgent)
            :: empty(urgent) -> running = RESUMED; break
            fi
#else
            running = RESUMED;
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
    byte call = 1, asks, imports, held, number, kind, n;
    bit answered, cancelled, left, ok;

    do
    :: call <= 2 ->
        running = call;
        begun = 1;
        asks = 0;
        imports = 0;
        do
        :: pending -> take()
        :: asks < ASKS -> asks++; ask()
        :: imports < IMPORTS -> import()
        :: MAY_END -> break
        od;
        end_interrupts();
        call++
    :: else -> break
    od
}

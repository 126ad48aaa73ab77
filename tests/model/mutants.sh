#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Removes one ordering edge of transport/, or one step of the interrupts of service/, or of what ends a call in nif/, at a
# time and checks that a test notices.
# Relaxed stores and loads are seen by ThreadSanitizer where data depends on them, and by the lock-step tests where two
# sides look at each other. ONLY='*import*' leaves the others out. Exit: 0 good, 1 a mutant survived, 77 no compiler or no
# GoogleTest.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

CC=${CC:-cc} CXX=${CXX:-c++}
if ! echo '#include <gtest/gtest.h>' | "$CXX" -E -x c++ - >/dev/null 2>&1; then
    echo "skipped: no C++ compiler with GoogleTest (Debian: apt-get install g++ libgtest-dev)"
    exit 77
fi

# ThreadSanitizer of older compilers cannot start where the kernel places libraries too randomly.
fixed=$(setarch -R true 2>/dev/null && echo 'setarch -R' || true)
# All of transport/ but what only the VM and the launcher link.
modules=$(cd "$root/transport" && printf '%s\n' *.c | sed -n '/^ep_wait/d;s/\.c$//p')
ring_tests='ep_ring_test ep_slab_test ep_lane_wake_test ep_lane_edge_test'
good=0 bad=0
limit=100

# objects TREE FLAGS: builds the modules as they are and the tests.
objects() {
    mkdir -p "$work/$1"
    for m in $modules; do
        "$CC" -std=gnu17 -g -O2 $2 -I"$root/transport" -c "$root/transport/$m.c" -o "$work/$1/$m.o"
    done
    for t in $ring_tests; do
        "$CXX" -std=c++17 -g -O2 $2 -I"$root/transport" -I"$root/tests/c" -c "$root/tests/c/$t.cc" -o "$work/$1/$t.o"
    done
}

# run TREE FLAGS TEST FILTER MODULE SED: 0 if the test passes with that module changed, 2 if nothing changed, 3 if it
# does not compile.
run() {
    sed -E "$6" "$root/transport/$5.c" >"$work/$5.c"
    if [ -n "$6" ] && cmp -s "$work/$5.c" "$root/transport/$5.c"; then
        return 2
    fi
    "$CC" -std=gnu17 -g -O2 $2 -I"$root/transport" -c "$work/$5.c" -o "$work/mutant.o" || return 3
    local others=()
    for m in $modules; do
        [ "$m" = "$5" ] || others+=("$work/$1/$m.o")
    done
    "$CXX" $2 "$work/$1/$3.o" "$work/mutant.o" "${others[@]}" -o "$work/test" -lgtest_main -lgtest -lpthread ||
        return 3
    timeout "$limit" $fixed "$work/test" --gtest_filter="$4" >"$work/log" 2>&1
}

# is_wanted NAME
is_wanted() {
    # shellcheck disable=SC2254 # a pattern
    case $1 in ${ONLY:-*}) return 0 ;; *) return 1 ;; esac
}

# judge NAME RC: of a run.
judge() {
    case $2 in
    0) echo "BAD   $1: no test noticed"; bad=$((bad + 1)) ;;
    2) echo "BAD   $1: it is not where this script looks for it"; bad=$((bad + 1)) ;;
    3) echo "BAD   $1: does not compile"; bad=$((bad + 1)) ;;
    *) echo "good  $1"; good=$((good + 1)) ;;
    esac
}

# mutant NAME TREE FLAGS TEST FILTER MODULE SED
mutant() {
    is_wanted "$1" || return 0
    local name=$1 rc=0 try
    shift
    for try in 1 2 3 4 5 6 7 8 9 10; do # which order a processor shows is chance
        rc=0
        run "$@" || rc=$?
        [ "$rc" = 0 ] || break
    done
    judge "$name" $rc
}

tsan=-fsanitize=thread
objects tsan "$tsan"
objects plain ''

for t in $ring_tests; do
    if run tsan "$tsan" $t '*' ep_ring '' && run plain '' $t '*' ep_ring ''; then
        good=$((good + 1))
    else
        echo "BAD   $t fails without any mutant"
        bad=$((bad + 1))
    fi
done

limit=15

relax() {
    echo "/$1/s/memory_order_[a-z_]+/memory_order_relaxed/"
}
release() {
    echo "/$1/s/memory_order_[a-z_]+/memory_order_$2/"
}

# Data: one side relaxed, under ThreadSanitizer, both sides on one mapping.
mutant 'P1 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'store.*cell->seq')"
mutant 'P2 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'load.*cell->seq')"
mutant 'C1 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'store.*shared_head')"
mutant 'C2 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'load.*tx->peer_head')"
mutant 'R1 relaxed' tsan "$tsan" ep_slab_test '*AcrossThreads' ep_slab "$(relax 'store.*tx->tail')"
mutant 'R2 relaxed' tsan "$tsan" ep_slab_test '*AcrossThreads' ep_slab "$(relax 'load.*rx->tail')"
mutant 'P1 before the cell is filled' plain '' ep_ring_test '*' ep_ring \
    '/^int ep_ring_reserve/,/^}/s/\*ret_cell = cell;/atomic_store(\&cell->seq, tx->tail + 1); &/'

# Wake-ups: what a processor does with weaker orders. x86 delays stores only, behind the loads that follow.
if [ "$(uname -m)" = x86_64 ]; then
    mutant 'W1 store only released' plain '' ep_lane_edge_test '*ACall*:*AResponse*Bell*' ep_ring "$(release 'store.*cell->seq' release)"
    mutant 'W2 store only released' plain '' ep_lane_edge_test '*ACall*:*AResponse*Bell*' ep_bell \
        "$(release 'store.*memory_order_seq_cst' release)"
    mutant 'S1 store only released' plain '' ep_lane_edge_test '*RoomInTheResponse*Bell*' ep_ring "$(release 'store.*shared_head' release)"
    mutant 'R1 store only released' plain '' ep_lane_edge_test '*RoomInTheSlab*Bell*' ep_slab "$(release 'store.*tx->tail' release)"
fi
# A lost wake-up hangs, so the time limit is what ends these.
wake='*LaneWake*NeverLoses*/Two'
mutant 'a bell that is answered only once' plain '' ep_lane_wake_test "$wake" ep_bell \
    's/word == tx->answered/tx->answered != 0/'
mutant 'rearming keeps the generation' plain '' ep_lane_wake_test "$wake" ep_bell \
    's/ep_bell_is_armed\(rx\) \? 2 : 1/ep_bell_is_armed(rx) ? 0 : 1/'
mutant 'waking does not change the futex word' plain '' ep_lane_wake_test "$wake" ep_bell \
    '/atomic_fetch_add_explicit/d'
mutant 'arming is not announced' plain '' ep_lane_wake_test "$wake" ep_bell '/^    announce\(rx\);/d'

# Interrupts: a worker with a changed file, driven by the test. Two steps that only change places leave a gap too short to
# meet; tests/model/interrupt.pml has those (LOOK_FIRST, COUNT_LATE). Without a Python to embed they are skipped.
# worker_object SOURCE OBJECT
worker_object() {
    "$CC" -std=gnu17 -g -O2 -DEP_PYTHON_EXECUTABLE="\"$python\"" -I"$root/service/python" -I"$root/service/worker" \
        -I"$root/service/sandbox" -I"$root/transport" -isystem "$include" -c "$1" -o "$2"
}

# worker ROOM/MODULE SED: builds one with that module changed and runs the test: 2 if nothing changed, 3 if it does not compile.
worker() {
    local others=() name=${1#*/}
    sed -E "$2" "$root/service/$1.c" >"$work/$name.c"
    if [ -n "$2" ] && cmp -s "$work/$name.c" "$root/service/$1.c"; then
        return 2
    fi
    worker_object "$work/$name.c" "$work/mutant.o" || return 3
    for object in "$work"/worker/*.o; do
        [ "$object" = "$work/worker/$name.o" ] || others+=("$object")
    done
    "$CC" "$work/mutant.o" "${others[@]}" $(printf "$work/plain/%s.o " $modules) -o "$work/priv/ep_worker" "$library" \
        -Wl,-rpath,"$(dirname "$library")" -lseccomp -lm -lpthread || return 3
    EP_WORKER_PATH=$work/priv/ep_worker timeout "$limit" "$work/interrupt_test" --gtest_fail_fast >"$work/log" 2>&1
}

# worker_mutant NAME ROOM/MODULE SED
worker_mutant() {
    is_wanted "$1" || return 0
    local rc=0 try
    for try in 1 2 3; do
        rc=0
        worker "$2" "$3" || rc=$?
        [ "$rc" = 0 ] || break
    done
    judge "$1" $rc
}

if probe=$("$root/scripts/choose_python.sh" --probe 2>/dev/null); then
    { read -r python && read -r _ && read -r include && read -r library; } <<<"$probe"
    mkdir -p "$work/priv/python" && cp -r "$root/service/python/erlang" "$work/priv/python"
    mkdir -p "$work/worker"
    for source in "$root"/service/worker/*.c "$root"/service/python/*.c "$root"/service/sandbox/*.c; do
        worker_object "$source" "$work/worker/$(basename "$source" .c).o"
    done
    "$CXX" -std=c++17 -g -O2 -I"$root/transport" -I"$root/tests/c" "$root/tests/c/ep_worker_interrupt_test.cc" \
        $(printf "$work/plain/%s.o " $modules) -o "$work/interrupt_test" -lgtest_main -lgtest -lpthread
    limit=60
    if worker worker/ep_worker ''; then
        good=$((good + 1))
    else
        echo "BAD   ep_worker_interrupt_test fails without any mutant"
        bad=$((bad + 1))
    fi
    limit=40
    worker_mutant 'resuming does not look at the ring' worker/ep_worker_callback \
        's/return ep_ring_peek\(&lane->shm.urgent, &cell\) != 0;/return true;/'
    worker_mutant 'both ways act' python/ep_py_strike 's/ \|\| !ep_py_strike_claim\(interrupt, number\)//'
    worker_mutant 'pausing forgets what it took back' worker/ep_worker_callback \
        's/if \(ep_py_interrupt_end\(&lane->interrupt\)\)/if (ep_py_interrupt_end(\&lane->interrupt) \&\& 0)/'
    worker_mutant 'pausing takes what was seen for owed' python/ep_py_interrupt 's/return is_left;/return true;/'
    worker_mutant 'who comes too late does not say so' python/ep_py_strike 's/&interrupt->state, EP_PY_MISSED,/\&interrupt->state, 0,/'
    worker_mutant 'the lane does not wait for who strikes' python/ep_py_interrupt 's/ && settle\(interrupt\)/ \&\& 0/'
    worker_mutant 'any call is struck' python/ep_py_strike \
        's/return target == call_id  *\? RUNS$/return target != EP_PY_CALL_NONE ? RUNS/'
    worker_mutant 'an import does not hold interrupts up' python/ep_py_strike 's/\? IMPORTS$/? RUNS/'
    worker_mutant 'the end of an import does not look who came' python/ep_py_interrupt 's/while \(change_target\(own, held\)\)/while (change_target(own, held) \&\& 0)/'
    worker_mutant 'the beginning of an import forgets who came' python/ep_py_interrupt 's/\*ret_is_due = settle\(own\);/(void)settle(own);/'
    worker_mutant 'a call that asked in an import goes on without it' worker/ep_worker_callback \
        's/frame->is_importing \? EP_RUNNING_IMPORTS : 0/0/'
else
    echo "skipped: the mutants of interrupts, for there is no Python to embed"
fi

# What ends a call (tests/model/callback.pml has the interleavings; here one thread takes all orders of steps). Without the
# headers of Erlang they are skipped.
nif_rooms=("-I$root/nif")
for room in "$root"/nif/*/; do
    nif_rooms+=("-I$room")
done

# nif_compile SOURCE OBJECT
nif_compile() {
    "$CC" -std=gnu17 -g -O1 -I"$root/transport" "${nif_rooms[@]}" -I"$root/tests/c" -isystem "$erlang" -c "$1" -o "$2"
}

# nif MODULE SED: runs the tests with that module changed: 2 if nothing changed, 3 if it does not compile.
nif() {
    local others=() test
    sed -E "$2" "$root"/nif/*/"$1.c" >"$work/$1.c"
    if [ -n "$2" ] && cmp -s "$work/$1.c" "$root"/nif/*/"$1.c"; then
        return 2
    fi
    nif_compile "$work/$1.c" "$work/mutant.o" || return 3
    for object in "$work"/nif/*.o; do
        [ "$object" = "$work/nif/$1.o" ] || others+=("$object")
    done
    for test in $nif_tests; do
        "$CXX" "$work/nif/$test.obj" "$work/mutant.o" "${others[@]}" -o "$work/test" -lgtest_main -lgtest -luring \
            -lpthread || return 3
        timeout "$limit" "$work/test" --gtest_fail_fast >"$work/log" 2>&1 || return 1
    done
}

# nif_mutant NAME MODULE SED
nif_mutant() {
    is_wanted "$1" || return 0
    local rc=0
    nif "$2" "$3" || rc=$?
    judge "$1" $rc
}

nif_tests='ep_nif_ends_test ep_nif_calls_test ep_nif_walk_test'
letter_tests='ep_nif_letters_test'
erlang=$(erl -noshell -eval 'io:put_chars([code:root_dir(), "/usr/include"]), halt().' 2>/dev/null || true)
if [ -e "$erlang/erl_nif.h" ]; then
    mkdir -p "$work/nif"
    for source in "$root"/nif/*/*.c "$root"/transport/*.c "$root"/tests/c/fake_*.c "$root/tests/c/ep_nif_peek.c"; do
        nif_compile "$source" "$work/nif/$(basename "$source" .c).o"
    done
    for t in $nif_tests $letter_tests; do
        "$CXX" -std=c++17 -g -O1 -I"$root/transport" "${nif_rooms[@]}" -I"$root/tests/c" -isystem "$erlang" \
            -c "$root/tests/c/$t.cc" -o "$work/nif/$t.obj"
    done
    limit=60
    if nif ep_calls ''; then
        good=$((good + 1))
    else
        echo "BAD   $nif_tests fail without any mutant"
        bad=$((bad + 1))
    fi
    nif_mutant 'a question that nobody has collected outlives its worker' ep_lanes \
        's/case EP_CALL_DONE: return .*/case EP_CALL_DONE: return false;/'
    nif_mutant 'the answer does not ask whether the call is doomed' ep_outbox 's/if \(call->end.kind != 0 &&/if (0 \&\&/'
    nif_mutant 'a doomed call that is given up waits for its reply' ep_interrupt 's/^    if \(call->end.kind != 0$/    if (0/'
    nif_mutant 'a call keeps the message that nobody gets' ep_calls 's/if \(call->env != NULL\) \{ /if (0) { /'
    nif_mutant 'a call that is queued is answered' ep_inbox 's/call == NULL \|\| !ep_call_is_in_ring\(call\)/call == NULL/'
    nif_mutant 'no end overtakes a question' ep_inbox 's/= is_overtaken\(call, msg\) \?/= false ?/'
    nif_mutant 'the question of a caller that has gone is dropped' ep_calls \
        '/^static bool deliver_abandoned/,/^}/s/ep_call_refuse\(lane, call\);//'
    nif_mutant 'a second question of a call is never forged' ep_inbox 's/return QUESTION_FORGED/return QUESTION_DELIVER/'
    nif_mutant 'a timeout gives up a call whose message is sent' py_nif_calls \
        '/^PY_NIF\(cancel_nif\)/,/^}/s/ref->call, false\)/ref->call, true)/'
    nif_mutant 'what the dead had published is lost' ep_attach 's/^    drain_dead\(lane\);//'
    nif_mutant 'an unavailable lane keeps its calls' ep_lanes \
        '/^void ep_lane_set_unavailable/,/^}/s/ep_calls_fail\(.*\);//'
    nif_mutant 'a call that is given up in a callback is not counted' ep_interrupt \
        '/^static bool give_up/,/^}/s/atomic_fetch_add_explicit\(&lane->common.parked, 1/atomic_fetch_add_explicit(\&lane->common.parked, 0/'
    nif_mutant 'a closed lane takes any reply' ep_inbox 's/!is_notice && lane->inbox.late == 0/false/'

    # Messages of a worker: what is a lie, what they cost, and which receiver is looked at.
    nif_tests=$letter_tests
    if nif ep_letter ''; then
        good=$((good + 1))
    else
        echo "BAD   $nif_tests fails without any mutant"
        bad=$((bad + 1))
    fi
    nif_mutant 'a message needs no credit' ep_letter 's/\|\| !pay\(host, msg->length\)/|| (pay(host, msg->length) \&\& 0)/'
    nif_mutant 'a message costs nothing' ep_letter 's/&host->letter_paid, EP_SEND_COST \+ length/\&host->letter_paid, 0 * length/'
    nif_mutant 'a dear message may not come last' ep_letter '/^static bool pay/,/^}/s/\+ EP_SEND_MAX;/;/'
    nif_mutant 'a message may belong to a call' ep_letter 's/msg->call_id != 0 \|\| //'
    nif_mutant 'a message may be long' ep_letter 's/msg->length > EP_SEND_MAX \|\| //'
    nif_mutant 'a message goes to any term' ep_letter 's/ \|\| !enif_is_pid\(env, to\)//'
    nif_mutant 'a message has more than one term' ep_letter 's/ \|\| cursor.at != cursor.end\)/)/'
    nif_mutant 'a message has a map of any size' ep_term_decode 's/^        && !reader->source->is_scheduler\)/        \&\& 0)/'
    nif_mutant 'a handle needs no seal' ep_term_decode 's/if \(memcmp\(&seal, token->seal, EP_ETF_SEAL_SIZE\) != 0\)/if (seal == 0)/'
    nif_mutant 'a message to another node is lost' ep_letter 's/^    carry\(vm, env, to, term\);//'
    nif_mutant 'the last message is the sample' ep_letter 's/\(seed >> 24\) % weight >= price/(seed >> 24) % weight >= weight/'
    nif_mutant 'another node is no sample' ep_letter 's/ \|\| find_carrier\(host->vm, &pid\)\)/)/'
    nif_mutant 'a grant keeps the sample' ep_letter '/^uint64_t ep_letter_grant/,/^}/s/.*&host->letter_sampled, 0.*//'
    nif_mutant 'any grant is whole' ep_letter '/^uint64_t ep_letter_grant/,/^}/s/if \(credit >= EP_SEND_GRANT\)/if (credit > 0)/'
    nif_mutant 'a grant counts from the last one' ep_letter '/^uint64_t ep_letter_grant/,/^}/s/&host->letter_paid, memory_order_acquire/\&host->letter_limit, memory_order_acquire/'
    nif_mutant 'a limit falls' ep_letter '/^uint64_t ep_letter_grant/,/^}/s/return old < limit \? limit : old;/return limit;/'
    nif_mutant 'a block of a message is kept' ep_inbox '/^static int take_letter/,/^}/s/^    ep_call_release_block\(.*\);//'
    nif_mutant 'a block of the control lane is kept' ep_host '/^static int take_letter/,/^}/s/^    ep_peer_release_payload\(.*\);//'
else
    echo "skipped: the mutants of the NIF, for there are no headers of Erlang"
fi

echo "$good passed, $bad failed"
[ "$bad" = 0 ]

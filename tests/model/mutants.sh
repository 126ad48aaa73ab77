#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Removes one ordering edge of transport/, or one step of the interrupts of service/, at a time and checks that a test
# notices.
# Relaxed stores and loads are seen by ThreadSanitizer where data depends on them, and by the lock-step tests where two
# sides look at each other. Exit: 0 good, 1 a mutant survived, 77 no compiler or no GoogleTest.
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
modules='ep_ring ep_bell ep_slab ep_lane ep_seg ep_cpu ep_buf ep_etf'
good=0 bad=0
limit=100

# objects TREE FLAGS: builds the modules as they are and the three tests.
objects() {
    mkdir -p "$work/$1"
    for m in $modules; do
        "$CC" -std=c17 -g -O2 $2 -I"$root/transport" -c "$root/transport/$m.c" -o "$work/$1/$m.o"
    done
    for t in ep_ring_test ep_slab_test ep_lane_wake_test; do
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
    "$CC" -std=c17 -g -O2 $2 -I"$root/transport" -c "$work/$5.c" -o "$work/mutant.o" || return 3
    local others=()
    for m in $modules; do
        [ "$m" = "$5" ] || others+=("$work/$1/$m.o")
    done
    "$CXX" $2 "$work/$1/$3.o" "$work/mutant.o" "${others[@]}" -o "$work/test" -lgtest_main -lgtest -lpthread ||
        return 3
    timeout "$limit" $fixed "$work/test" --gtest_filter="$4" >"$work/log" 2>&1
}

# mutant NAME TREE FLAGS TEST FILTER MODULE SED
mutant() {
    local name=$1 rc=0 try
    shift
    for try in 1 2 3 4 5 6 7 8 9 10; do # which order a processor shows is chance
        rc=0
        run "$@" || rc=$?
        [ "$rc" = 0 ] || break
    done
    case $rc in
    0) echo "BAD   $name: no test noticed"; bad=$((bad + 1)) ;;
    2) echo "BAD   $name: the edge is not where this script looks for it"; bad=$((bad + 1)) ;;
    3) echo "BAD   $name: does not compile"; bad=$((bad + 1)) ;;
    *) echo "good  $name"; good=$((good + 1)) ;;
    esac
}

tsan=-fsanitize=thread
objects tsan "$tsan"
objects plain ''

for t in ep_ring_test ep_slab_test ep_lane_wake_test; do
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
mutant 'P1 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'store.*slot->seq')"
mutant 'P2 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'load.*slot->seq')"
mutant 'C1 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'store.*shared_head')"
mutant 'C2 relaxed' tsan "$tsan" ep_ring_test '*AcrossThreads' ep_ring "$(relax 'load.*tx->peer_head')"
mutant 'R1 relaxed' tsan "$tsan" ep_slab_test '*AcrossThreads' ep_slab "$(relax 'store.*tx->tail')"
mutant 'R2 relaxed' tsan "$tsan" ep_slab_test '*AcrossThreads' ep_slab "$(relax 'load.*rx->tail')"
mutant 'P1 before the slot is filled' plain '' ep_ring_test '*' ep_ring \
    '/^int ep_ring_reserve/,/^}/s/\*ret_slot = slot;/atomic_store(\&slot->seq, tx->tail + 1); &/'

# Wake-ups: what a processor does with weaker orders. x86 delays stores only, behind the loads that follow.
if [ "$(uname -m)" = x86_64 ]; then
    mutant 'W1 store only released' plain '' ep_lane_wake_test '*ACall*:*AResponse*Bell*' ep_ring "$(release 'store.*slot->seq' release)"
    mutant 'W2 store only released' plain '' ep_lane_wake_test '*ACall*:*AResponse*Bell*' ep_bell \
        "$(release 'store.*memory_order_seq_cst' release)"
    mutant 'S1 store only released' plain '' ep_lane_wake_test '*RoomInTheResponse*Bell*' ep_ring "$(release 'store.*shared_head' release)"
    mutant 'R1 store only released' plain '' ep_lane_wake_test '*RoomInTheSlab*Bell*' ep_slab "$(release 'store.*tx->tail' release)"
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
    "$CC" -std=gnu17 -g -O2 -DEP_PYTHON_EXECUTABLE="\"$python\"" -I"$root/service" -I"$root/transport" \
        -isystem "$include" -c "$1" -o "$2"
}

# worker MODULE SED: builds one with that module changed and runs the test: 2 if nothing changed, 3 if it does not compile.
worker() {
    local others=()
    sed -E "$2" "$root/service/$1.c" >"$work/$1.c"
    if [ -n "$2" ] && cmp -s "$work/$1.c" "$root/service/$1.c"; then
        return 2
    fi
    worker_object "$work/$1.c" "$work/mutant.o" || return 3
    for object in "$work"/worker/*.o; do
        [ "$object" = "$work/worker/$1.o" ] || others+=("$object")
    done
    "$CC" "$work/mutant.o" "${others[@]}" $(printf "$work/plain/%s.o " $modules) -o "$work/priv/ep_worker" "$library" \
        -Wl,-rpath,"$(dirname "$library")" -lm -lpthread || return 3
    EP_WORKER_PATH=$work/priv/ep_worker timeout "$limit" "$work/interrupt_test" --gtest_fail_fast >"$work/log" 2>&1
}

# worker_mutant NAME FILE SED
worker_mutant() {
    local rc=0 try
    for try in 1 2 3; do
        rc=0
        worker "$2" "$3" || rc=$?
        [ "$rc" = 0 ] || break
    done
    case $rc in
    0) echo "BAD   $1: no test noticed"; bad=$((bad + 1)) ;;
    2) echo "BAD   $1: the step is not where this script looks for it"; bad=$((bad + 1)) ;;
    3) echo "BAD   $1: does not compile"; bad=$((bad + 1)) ;;
    *) echo "good  $1"; good=$((good + 1)) ;;
    esac
}

if probe=$("$root/scripts/choose_python.sh" --probe 2>/dev/null); then
    { read -r python && read -r _ && read -r include && read -r library; } <<<"$probe"
    mkdir -p "$work/priv" && cp -r "$root/service/python" "$work/priv/python"
    mkdir -p "$work/worker"
    for source in "$root"/service/ep_worker*.c "$root"/service/ep_py*.c "$root/service/ep_thread.c"; do
        worker_object "$source" "$work/worker/$(basename "$source" .c).o"
    done
    "$CXX" -std=c++17 -g -O2 -I"$root/transport" -I"$root/tests/c" "$root/tests/c/ep_worker_interrupt_test.cc" \
        $(printf "$work/plain/%s.o " $modules) -o "$work/interrupt_test" -lgtest_main -lgtest -lpthread
    limit=60
    if worker ep_worker ''; then
        good=$((good + 1))
    else
        echo "BAD   ep_worker_interrupt_test fails without any mutant"
        bad=$((bad + 1))
    fi
    limit=40
    worker_mutant 'resuming does not look at the ring' ep_worker_callback \
        's/return ep_ring_peek\(&lane->shm.urgent, &slot\) != 0;/return true;/'
    worker_mutant 'both ways act' ep_py_interrupt 's/ \|\| !ep_py_interrupt_claim\(interrupt, number\)//'
    worker_mutant 'pausing forgets what it took back' ep_worker_callback \
        's/if \(ep_py_interrupt_end\(&lane->interrupt\)\)/if (ep_py_interrupt_end(\&lane->interrupt) \&\& 0)/'
    worker_mutant 'pausing takes what was seen for owed' ep_py_interrupt 's/return is_left;/return true;/'
    worker_mutant 'who comes too late does not say so' ep_py_interrupt 's/&strike.interrupt->state, MISSED,/\&strike.interrupt->state, 0,/'
    worker_mutant 'the lane does not wait for who strikes' ep_py_interrupt 's/ && settle\(interrupt\)/ \&\& 0/'
    worker_mutant 'any call is struck' ep_py_interrupt 's/: running == call_id;/: running != EP_PY_CALL_NONE;/'
else
    echo "skipped: the mutants of interrupts, for there is no Python to embed"
fi

echo "$good passed, $bad failed"
[ "$bad" = 0 ]

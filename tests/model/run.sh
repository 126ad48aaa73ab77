#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks wake.pml and interrupt.pml with SPIN: a model must have no error, each of its mutants must have one.
# Exit: 0 good, 1 bad, 77 SPIN or a compiler is missing.
set -eu

for tool in spin cc; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: '$tool' is not installed (Debian: apt-get install spin gcc)"
        exit 77
    fi
done

models=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"

# errors DEFINES...: prints how many errors SPIN finds in $model, or "no answer".
errors() {
    spin "$@" -a "$model" >log 2>&1 && cc -O1 -w -DSAFETY -DMEMLIM=1500 -o pan pan.c >>log 2>&1 || {
        echo 'no answer'
        return
    }
    timeout 60 ./pan -m100000 >log 2>&1 || true
    if grep -q 'max search depth too small\|Search not completed' log && ! grep -q 'errors: [1-9]' log; then
        echo 'no answer'
    else
        sed -n 's/.*errors: \([0-9]*\).*/\1/p' log | grep . || echo 'no answer'
    fi
}

n_good=0
n_bad=0

# verdict OK TEXT
verdict() {
    if [ "$1" = yes ]; then
        n_good=$((n_good + 1))
        echo "good  $2"
    else
        n_bad=$((n_bad + 1))
        echo "BAD   $2"
    fi
}

# good SIZE...: the model has no error, whatever the size.
good() {
    for size in "$@"; do
        n=$(errors $size)
        [ "$n" = 0 ] && ok=yes || ok=no
        verdict $ok "$(basename "$model"), $size: $n errors"
    done
}

# bad SIZE MUTANT...: each of the mutants has one.
bad() {
    size=$1
    shift
    for mutant in "$@"; do
        n=$(errors $size "-D$mutant")
        case $n in
        [1-9]*) ok=yes ;;
        *) ok=no ;;
        esac
        verdict $ok "$(basename "$model"), $size, mutant $mutant: $n errors"
    done
}

model=$models/wake.pml
good '-DCAP=1 -DN=3' '-DCAP=2 -DN=4' '-DCAP=1 -DN=3 -DNO_CRASH'
bad '-DCAP=1 -DN=3' NO_LOOK_WORKER NO_LOOK_VM NO_LOOK_SPACE NO_RING_CALL NO_RING_RESPONSE NO_RING_SPACE \
    LOOK_FIRST_CALL LOOK_FIRST_RESPONSE LOOK_FIRST_SPACE NO_REARM FUTEX_LATE NO_DRAIN NO_LOCK \
    NO_DEAD_CHECK EARLY_PUBLISH EARLY_HEAD

model=$models/interrupt.pml
good '-DASKS=2' '-DASKS=2 -DSIGNAL' '-DENDS' '-DENDS -DSIGNAL' '-DK=2 -DASKS=2' '-DK=2 -DASKS=2 -DSIGNAL' \
    '-DK=2 -DENDS'
bad '-DASKS=1' NO_LOOK LOOK_FIRST INTERRUPT_FIRST NO_CLAIM NO_MISSED NOT_OWED OWED_TWICE
bad '-DENDS' COUNT_LATE NO_SETTLE ANY_CALL
bad '-DENDS -DSIGNAL' COUNT_LATE NO_SETTLE ANY_CALL

echo "$n_good passed, $n_bad failed"
[ "$n_bad" = 0 ]

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [quick]: checks wake.pml, interrupt.pml, lease.pml and callback.pml with SPIN: a model must have no error, each of
# its mutants must have one. quick: of callback.pml, whose check takes minutes, deaths and stops in callbacks only. DEEP=1:
# its large sizes, too.
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
    spin "$@" -a "$model" >log 2>&1 && cc $optimize -w $kind -DCOLLAPSE -DVECTORSZ=1024 -DMEMLIM=3000 -o pan pan.c >>log 2>&1 || {
        echo 'no answer'
        return
    }
    timeout "$limit" ./pan $search -m1000000 >log 2>&1 || true
    if grep -q 'max search depth too small\|Search not completed' log && ! grep -q 'errors: [1-9]' log; then
        echo 'no answer'
    else
        sed -n 's/.*errors: \([0-9]*\).*/\1/p' log | grep . || echo 'no answer'
    fi
}

# For safety; liveness() asks for cycles without progress, too.
kind=-DSAFETY
search=
limit=60
optimize=-O0 # optimizing a model takes longer than it saves, but for large sizes
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

# liveness SIZE...: nor is there a run that goes on without end, if nobody is kept from its next step for ever.
liveness() {
    kind='-DNP -DNFAIR=3' search='-l -f'
    for size in "$@"; do
        n=$(errors $size)
        [ "$n" = 0 ] && ok=yes || ok=no
        verdict $ok "$(basename "$model"), $size: $n cycles"
    done
    kind=-DSAFETY search=
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
good '-DASKS=1 -DIMPORTS=1' '-DASKS=1 -DIMPORTS=1 -DSIGNAL' '-DK=2 -DASKS=1 -DIMPORTS=1' '-DASKS=0 -DIMPORTS=2' \
    '-DENDS -DIMPORTS=1' '-DENDS -DIMPORTS=1 -DSIGNAL' '-DENDS -DASKS=1 -DIMPORTS=1 -DFORCED' \
    '-DENDS -DASKS=1 -DIMPORTS=1 -DFORCED -DSIGNAL'
bad '-DASKS=1' NO_LOOK LOOK_FIRST INTERRUPT_FIRST NO_CLAIM NO_MISSED NOT_OWED OWED_TWICE
bad '-DENDS' COUNT_LATE NO_SETTLE ANY_CALL
bad '-DENDS -DSIGNAL' COUNT_LATE NO_SETTLE ANY_CALL
bad '-DASKS=1 -DIMPORTS=1' HOLD_NO_SETTLE HOLD_FORGETS HOLD_LOOK_FIRST LET_GO_BLINDLY LET_GO_LOOK_FIRST LOOK_TWICE RESUME_RUNS
bad '-DK=2 -DENDS -DASKS=1 -DIMPORTS=1' LET_GO_OPENLY
bad '-DENDS -DASKS=1 -DIMPORTS=1 -DFORCED' FORCED_ONCE

model=$models/lease.pml
good '-DITEMS=2 -DROUNDS=2' '-DITEMS=3 -DROUNDS=3'
bad '-DITEMS=2 -DROUNDS=2' CLAIM_LATE NO_LOOK COUNT_EARLY NO_HOLD NO_VERDICT OLD_POSITION

model=$models/callback.pml
if [ "${1:-}" = quick ]; then
    limit=240
    good '-DDIES' '-DCLOSES'
    bad -DDIES NO_DOOM
    bad -DCLOSES NO_DOOM
    echo "$n_good passed, $n_bad failed"
    [ "$n_bad" = 0 ]
    exit
fi
good '-DDIES' '-DCLOSES' '-DGIVES_UP' '-DINTERRUPTS=1' '-DLATE -DGIVES_UP -DASKS=0' \
    '-DLIES=1 -DNOTICES=1 -DLATE -DGIVES_UP'
liveness '-DASKS=1'
bad -DDIES NO_DOOM ANSWER_BLINDLY STALE_COPY NO_DRAIN NO_CONSUMER
bad -DCLOSES NO_DOOM
bad '-DDIES -DWORKERS=2' NO_PRODUCER
bad '-DDIES -DLATE' QUEUED_STAYS
bad '-DDIES -DGIVES_UP' DOOMED_STAYS
bad -DGIVES_UP NO_REFUSAL CANCEL_REFUSES=true GIVE_UP_UNCOUNTED
bad '-DGIVES_UP -DCALLS=2 -DASKS=0' ENV_STAYS
bad -DINTERRUPTS=1 NO_OVERTAKING
bad '-DINTERRUPTS=1 -DNOTICES=1' OWN_ANYWAY
bad -DNOTICES=1 PLACE_LATE
bad '-DLIES=1 -DNOTICES=1 -DLATE -DGIVES_UP -DFREE_UNSEEN' NO_PLACE
bad -DASKS=1 ARMED_STAYS PARK_LATE
if [ "${DEEP:-0}" != 0 ]; then
    limit=900 optimize=-O2
    good '-DNOTICES=1 -DASKS=0 -DGIVES_UP' '-DCALLS=2 -DASKS=0 -DGIVES_UP' '-DASKS=2 -DINTERRUPTS=1' \
        '-DDIES -DGIVES_UP' '-DDIES -DCLOSES' '-DCLOSES -DGIVES_UP' '-DINTERRUPTS=1 -DGIVES_UP' '-DDIES -DWORKERS=2' \
        '-DDIES -DKILL_AFTER -DWORKERS=2 -DASKS=0 -DLATE' '-DINTERRUPTS=1 -DNOTICES=1' '-DTWO -DENTRIES=2 -DASKS=0'
    liveness '-DDIES' '-DCLOSES' '-DGIVES_UP'
fi

echo "$n_good passed, $n_bad failed"
[ "$n_bad" = 0 ]

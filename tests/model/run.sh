#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks wake.pml with SPIN: the model must have no error, each of its mutants must have one.
# Exit: 0 good, 1 bad, 77 SPIN or a compiler is missing.
set -eu

for tool in spin cc; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: '$tool' is not installed (Debian: apt-get install spin gcc)"
        exit 77
    fi
done

model=$(cd "$(dirname "$0")" && pwd)/wake.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"

# errors DEFINES...: prints how many errors SPIN finds, or "no answer".
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

good=0
bad=0

# verdict OK TEXT
verdict() {
    if [ "$1" = yes ]; then
        good=$((good + 1))
        echo "good  $2"
    else
        bad=$((bad + 1))
        echo "BAD   $2"
    fi
}

for size in '-DCAP=1 -DN=3' '-DCAP=2 -DN=4' '-DCAP=1 -DN=3 -DNO_CRASH'; do
    n=$(errors $size)
    [ "$n" = 0 ] && ok=yes || ok=no
    verdict $ok "the model, $size: $n errors"
done

for mutant in NO_LOOK_WORKER NO_LOOK_VM NO_LOOK_SPACE NO_RING_CALL NO_RING_RESPONSE NO_RING_SPACE \
    LOOK_FIRST_CALL LOOK_FIRST_RESPONSE LOOK_FIRST_SPACE NO_REARM FUTEX_LATE NO_DRAIN NO_LOCK \
    NO_DEAD_CHECK EARLY_PUBLISH EARLY_HEAD; do
    n=$(errors -DCAP=1 -DN=3 "-D$mutant")
    case $n in
    [1-9]*) ok=yes ;;
    *) ok=no ;;
    esac
    verdict $ok "mutant $mutant: $n errors"
done

echo "$good passed, $bad failed"
[ "$bad" = 0 ]

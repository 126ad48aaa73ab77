#!/usr/bin/env bash
# flame.sh OUT.html: records flame_load.erl with perf and draws it. Exit code 2, and a sentence why, where that cannot
# work. CALLERS and RECORD_SECONDS change the load.
#
# perf can follow the frame pointers of Erlang's code, which lie on a stack of its own, and it can unwind C and Python,
# which have none, from a copy of the C stack. Neither finds what the other does, so both are recorded.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
out=${1:?usage: flame.sh OUT.html}
callers=${CALLERS:-1}
seconds=${RECORD_SECONDS:-5}
ebin=$top/_build/perf/ebin
lib=$top/_build/flame_lib

cannot() {
    echo "make flame: $*" >&2
    exit 2
}

command -v perf >/dev/null || cannot "perf is missing; 'scripts/setup.sh flame' installs it (Debian: linux-perf)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
perf record -q -e cpu-clock -o "$work/probe" -- true >/dev/null 2>"$work/why" ||
    cannot "perf may not record here ($(head -n 1 "$work/why")); as root: sysctl kernel.perf_event_paranoid=1"

python=$("$top/scripts/choose_python.sh")
case $("$python" -c 'import sys; print(sys.version_info >= (3, 13), sys.version_info >= (3, 12))') in
    "True True") export PYTHON_PERF_JIT_SUPPORT=1 ;;
    "False True") export PYTHONPERFSUPPORT=1 ;; # names the frames, but perf cannot see past the first of them
    *) echo "make flame: this Python is older than 3.12, so its functions have no names in the graph" >&2 ;;
esac

# map: names of Erlang's functions for perf. What else +JPperf true writes is megabytes that nothing here reads.
ERL_LIBS=$lib perf record -q -k mono -F 999 -o "$work/data" \
    -e cpu-clock/call-graph=dwarf,stack-size=16384,name=unwound/ -e cpu-clock/call-graph=fp,name=frames/ -- \
    erl -noshell +sbwt none +sbwtdcpu none +sbwtdio none +JPperf map -pa "$ebin" \
    -eval 'flame_load:main(init:get_plain_arguments())' -extra "$callers" "$seconds" "$work/marks" 2>"$work/why" ||
    cannot "the recording failed: $(tail -n 1 "$work/why")"

# Next to the data come the names of Python's functions; perf leaves a file in /tmp for each.
perf inject --jit -i "$work/data" -o "$work/named" 2>/dev/null || cp "$work/data" "$work/named"
perf script -i "$work/named" -F comm,pid,tid,time,event,ip,sym,dso >"$work/script" 2>/dev/null
grep -oE '/tmp/(perf|jitted)-[0-9]+' "$work/script" | grep -oE '[0-9]+$' | sort -u | while read -r pid; do
    rm -f /tmp/perf-"$pid".map /tmp/jit-"$pid".dump /tmp/jitted-"$pid"-*.so
done
python3 "$top/perf/flame.py" "$work/script" "$work/marks" "$out" \
    "$callers caller(s), $seconds s of py:call(math, sqrt, [16]) and a Python function every 64 calls"

#!/bin/sh
# build_c.sh: builds the C programs and the NIF into priv/. rebar.config calls it before every compilation, so it
# installs nothing, and is quick when there is nothing to do.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/_build/cmake

for tool in cmake pkg-config; do
    command -v "$tool" >/dev/null || {
        echo "erlang_python: $tool is missing; '$top/scripts/setup.sh build' installs what the build needs" >&2
        exit 1
    }
done
# Notes a changed PYTHON or PYTHON_CONFIG in _build/python, which CMake watches.
"$top/scripts/choose_python.sh" >/dev/null
if [ ! -f "$build/CMakeCache.txt" ]; then
    # An existing build directory keeps the generator it has.
    if command -v ninja >/dev/null; then
        set -- -G Ninja
    fi
    cmake -S "$top" -B "$build" "$@" >"$top/_build/cmake.log" || {
        cat "$top/_build/cmake.log"
        exit 1
    }
fi
exec cmake --build "$build" -j "$(nproc)"

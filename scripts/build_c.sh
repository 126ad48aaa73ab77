#!/bin/sh
# build_c.sh: builds the C programs and the NIF into priv/. rebar.config calls it before every compilation, so it
# installs nothing, builds nothing that only tests and measurements use, and is quick when there is nothing to do.
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
"$top/scripts/configure.sh" "$build"
cmake --build "$build" -j "$(nproc)"
# What the choice was asked with: rebar.config.script has the build run again when that is something else.
rm -rf "$top/priv/asked"
for asked in "${PYTHON:-}" "${PYTHON_CONFIG:-}"; do
    [ -z "$asked" ] || {
        mkdir -p "$top/priv/asked"
        : >"$top/priv/asked/$(printf %s "$asked" | tr / :)"
    }
done

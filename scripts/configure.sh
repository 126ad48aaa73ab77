#!/bin/sh
# configure.sh TREE [OPTIONS]: lets CMake configure the build tree TREE of this checkout, with these options, unless it
# is configured. A tree that was configured for other sources, because somebody moved or copied the checkout, would go
# on building those and replace what is there: it is made anew.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd -P)
mkdir -p "$1"
tree=$(cd "$1" && pwd -P)
shift

# entry NAME: its value in the cache of the tree.
entry() {
    sed -n "s/^$1:INTERNAL=//p" "$tree/CMakeCache.txt"
}

if [ -f "$tree/CMakeCache.txt" ]; then
    [ "$(entry CMAKE_HOME_DIRECTORY)" != "$top" ] || [ "$(entry CMAKE_CACHEFILE_DIR)" != "$tree" ] || exit 0
    echo "erlang_python: $tree was configured for $(entry CMAKE_HOME_DIRECTORY); it is made anew" >&2
    rm -rf "$tree"
    mkdir -p "$tree"
fi
# An existing build tree keeps the generator it has.
if command -v ninja >/dev/null; then
    set -- -G Ninja "$@"
fi
cmake -S "$top" -B "$tree" "$@" >"$tree.log" || {
    # One that lacks something would count as configured.
    rm -f "$tree/CMakeCache.txt"
    cat "$tree.log" >&2
    exit 1
}

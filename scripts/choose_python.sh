#!/usr/bin/env bash
# choose_python.sh [--describe | --probe [PYTHON]]: picks the Python the workers embed and prints its path.
#
#   --describe  one line for people: path, version and what it can do
#   --probe     for CMake, one value a line: path, version, include directory, library, free-threaded (0 or 1);
#               with PYTHON, of that one, for a build tree of its own: the choice of the others stays
#
# Order: $PYTHON; the Python beside $PYTHON_CONFIG; what an earlier run chose; the newest of CPython 3.14, 3.13 and 3.12
# on PATH or in pyenv; the system's. The choice is kept in _build/python, so that every command uses the same one and
# CMake, which watches that file, configures again when it changes.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cache=$top/_build/python

fail() {
    echo "erlang_python: $*" >&2
    exit 1
}

# probe EXECUTABLE: sets the array found (see --probe) and problem, which is empty if the Python can be embedded.
# The path is that of the interpreter itself: a pyenv shim or a venv would tie the build to what they point to today.
probe() {
    local out
    found=()
    problem="is not a Python 3 that runs"
    out=$("$1" -I -S - 2>/dev/null <<'PY'
import os, sys, sysconfig
var = sysconfig.get_config_var
version = sys.version_info
exe = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
include = next((d for d in (var("INCLUDEPY"), sysconfig.get_path("include"))
                if d and os.path.exists(os.path.join(d, "Python.h"))), "")
# LIBDIR is wrong in Pythons that were moved after they were built, hence base_prefix.
dirs = [d for d in (var("LIBDIR"), var("LIBPL"), os.path.join(sys.base_prefix, "lib")) if d]
dirs += [os.path.join(d, var("MULTIARCH")) for d in dirs if var("MULTIARCH")]
names = [n for n in (var("LDLIBRARY"), var("INSTSONAME")) if n and ".so" in n]
library = next((p for n in names for d in dirs for p in [os.path.join(d, n)] if os.path.exists(p)), "")
if version < (3, 11):
    problem = "is Python %d.%d, and 3.11 or newer is needed" % version[:2]
elif not include:
    problem = "has no header files (Python.h)"
elif not library:
    problem = "has no shared library (libpython)"
else:
    problem = ""
print("\n".join([problem, exe, "%d.%d.%d" % version[:3], include, library,
                 str(int(bool(var("Py_GIL_DISABLED"))))]))
PY
    ) || return 0
    mapfile -t found <<<"$out"
    problem=${found[0]}
    found=("${found[@]:1}")
}

# usable EXECUTABLE: true if it can be embedded; found describes it.
usable() {
    [ -x "$1" ] || return 1
    probe "$1"
    [ -z "$problem" ]
}

find_python() {
    local version exe
    for version in 3.14 3.13 3.12; do
        exe=$(command -v "python$version" || true)
        usable "$exe" && return
        # Within one version of Python, the newest that is installed; 3.14t and 3.14.0rc1 only when asked for.
        exe=$(compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version.*/bin/python$version" |
            grep -E "/versions/[0-9.]+/" | sort -V | tail -n 1 || true)
        usable "$exe" && return
    done
    usable /usr/bin/python3
}

# warn_if_private: the workers of a release run as the user who starts it, who may not be the one that builds. Only root's
# builds are told: other users build for themselves.
warn_if_private() {
    local file dir
    [ "$(id -u)" = 0 ] || return 0
    for file in "${found[0]}" "${found[3]}"; do
        dir=$(readlink -e "$file") || continue
        dir=$(dirname "$dir")
        while [ "$dir" != / ]; do
            case $(stat -Lc %A "$dir") in
                *[xt]) dir=$(dirname "$dir") ;;
                *)
                    echo "erlang_python: warning: only root may enter $dir, where this Python lies: an application built" \
                        "with it runs for no other user; set PYTHON to one that all users can run, such as" \
                        "/usr/bin/python3, and build again" >&2
                    return 0
                    ;;
            esac
        done
    done
}

remedy="install the distribution's packages (Debian: python3 and python3-dev; Fedora: python3 and python3-devel), or set"
remedy+=" PYTHON to a CPython 3.11 or newer that has header files and a shared library (configure --enable-shared)"

asked=${2:-${PYTHON:-}}
if [ -z "$asked" ] && [ -n "${PYTHON_CONFIG:-}" ]; then
    config=$(command -v "$PYTHON_CONFIG") || fail "PYTHON_CONFIG=$PYTHON_CONFIG is not a program; name a python3-config"
    asked=$(dirname "$config")/$(basename "${config%-config}")
fi
kept=$(cat "$cache" 2>/dev/null || true)

if [ -n "$asked" ]; then
    exe=$(command -v "$asked") || fail "the chosen Python, $asked, does not exist; $remedy"
    # The common case, asked for what is kept, needs no look at the Python itself.
    [ "$exe" = "$kept" ] && [ $# -eq 0 ] && echo "$kept" && exit
    usable "$exe" || fail "the chosen Python, $asked, $problem; $remedy"
elif [ -x "$kept" ]; then
    [ $# -gt 0 ] || { echo "$kept" && exit; }
    usable "$kept" || fail "$kept, chosen earlier, $problem; run 'make clean' to choose again, or $remedy"
else
    find_python || fail "no Python that can be embedded was found; $remedy"
fi

IFS=. read -r major minor _ <<<"${found[1]}"
owngil=$([ "$major.$minor" = 3.11 ] && echo no || echo yes)
free_threaded=$([ "${found[4]}" = 1 ] && echo yes || echo no)
description="Python ${found[1]}, ${found[0]} (owngil: $owngil, free-threaded: $free_threaded)"
if [ "${found[0]}" != "$kept" ] && [ $# -lt 2 ]; then
    mkdir -p "$top/_build"
    echo "${found[0]}" >"$cache"
    [ "${1:-}" = --describe ] || echo "$description" >&2
    warn_if_private
fi
case ${1:-} in
    --describe) echo "$description" ;;
    --probe) printf '%s\n' "${found[@]}" ;;
    *) echo "${found[0]}" ;;
esac

#!/usr/bin/env bash
# setup.sh build|venv|test|check|bench|flame|fuzz: installs what a make target needs and this machine lacks, with apt or
# dnf.
#
# build: the compilers, Erlang/OTP and Python. The others need that, and: venv what scripts/venv.sh takes from the
# system, test the test frameworks, check the linters, bench the framework of make bench-micro, flame perf, fuzz clang
# with libFuzzer. It looks for the programs and files themselves, so it accepts those that did not come from packages,
# and does nothing, not even ask a mirror, when all is there.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
for_what=${1:-build}
case $for_what in
    build) apps=(compiler parsetools) ;;
    test) apps=(common_test crypto eunit proper runtime_tools syntax_tools tools xmerl) ;;
    check) apps=(crypto dialyzer edoc runtime_tools syntax_tools tools xmerl) ;;
    venv | bench | flame | fuzz) apps=(compiler parsetools) ;;
    *) echo "usage: setup.sh build|venv|test|check|bench|flame|fuzz" >&2 && exit 2 ;;
esac

fail() {
    echo "erlang_python: $*" >&2
    exit 1
}

missing=()
# need DEBIAN_PACKAGES FEDORA_PACKAGES: quotes around a name keep dnf's file patterns whole.
need() {
    local names=$1
    [ "$manager" = apt-get ] || names=$2
    read -ra names <<<"$names"
    missing+=("${names[@]}")
}

need_program() {
    command -v "$1" >/dev/null || need "$2" "$3"
}

need_library() {
    { command -v pkg-config >/dev/null && pkg-config --exists "$1"; } || need "$2" "$3"
}

# need_erlang: one start of Erlang tells the release, the missing applications and whether the NIF header is there.
need_erlang() {
    local answer app
    if ! command -v erl >/dev/null || ! command -v erlc >/dev/null; then
        need "erlang-base erlang-dev" "erlang-erts erlang-compiler */erl_nif.h"
        for app in "${apps[@]}"; do need_erlang_app "$app"; done
        return 0
    fi
    answer=$(erl -noshell -boot no_dot_erlang -eval '
        Root = code:root_dir(),
        Erts = "erts-" ++ erlang:system_info(version),
        Headers = [filename:join([Root, D, "erl_nif.h"]) || D <- ["usr/include", Erts ++ "/include"]],
        io:format("~s ~p~n", [erlang:system_info(otp_release), lists:any(fun filelib:is_file/1, Headers)]),
        [io:format("~s~n", [A]) || A <- init:get_plain_arguments(), is_tuple(code:lib_dir(list_to_atom(A)))],
        halt().' -extra "${apps[@]}") || fail "erl does not start; repair or remove that Erlang/OTP, then try again"
    {
        read -r release header
        [ "$release" -ge 25 ] ||
            fail "Erlang/OTP $release is installed, and 25 or newer is needed; install a newer one, or put it first in PATH"
        [ "$header" = true ] || need erlang-dev "*/erl_nif.h"
        while read -r app; do need_erlang_app "$app"; done
    } <<<"$answer"
}

need_erlang_app() {
    # The compiler is part of erlang-base in Debian.
    local debian=erlang-${1//_/-}
    [ "$1" != compiler ] || debian=erlang-base
    need "$debian" "erlang-$1"
}

# need_python: nothing if there is a Python that can be embedded; else the system's. One that the user asked for and
# that cannot be used is an error, which choose_python.sh explains when the build calls it.
need_python() {
    local said=
    if said=$("$top/scripts/choose_python.sh" 2>&1 >/dev/null); then
        [ -z "$said" ] || echo "$said" >&2
    elif [ -z "${PYTHON:-}${PYTHON_CONFIG:-}" ]; then
        need "python3 python3-dev" "python3 python3-devel"
    fi
}

# need_venv: what the system's Python lacks to make a virtual environment with numpy. Any other has it, or pip brings it.
need_venv() {
    local python=
    if python=$("$top/scripts/choose_python.sh" 2>/dev/null); then
        [ "$python" = "$(readlink -f /usr/bin/python3)" ] || return 0
        "$python" -c 'import ensurepip' 2>/dev/null || need python3-venv python3
        "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("numpy") is None)' ||
            need python3-numpy python3-numpy
    elif [ -z "${PYTHON:-}${PYTHON_CONFIG:-}" ]; then
        need "python3-venv python3-numpy" "python3 python3-numpy"
    fi
}

if command -v apt-get >/dev/null; then
    manager=apt-get
elif command -v dnf >/dev/null; then
    manager=dnf
else
    manager=
fi

need_program gcc "gcc libc6-dev" "gcc glibc-devel"
need_program cmake cmake cmake
need_program ninja ninja-build ninja-build
need_program pkg-config pkg-config pkgconf-pkg-config
need_library liburing liburing-dev liburing-devel
need_library libseccomp libseccomp-dev libseccomp-devel
need_erlang
need_program rebar3 rebar3 erlang-rebar3
need_python
if [ "$for_what" = venv ]; then
    need_venv
fi
if [ "$for_what" = test ]; then
    need_program g++ g++ "gcc-c++ libasan libubsan libtsan"
    need_library gtest libgtest-dev gtest-devel
    need_program spin spin "" # not in Fedora: the models are skipped there
    # Beside the distribution's own Erlang only, which it would bring along. Without it one case is skipped.
    case $(command -v erl || true) in
        /usr/bin/erl | "") need_program elixir elixir elixir ;;
    esac
fi
if [ "$for_what" = check ]; then
    need_program clang-format clang-format clang-tools-extra
    need_program clang-tidy clang-tidy clang-tools-extra
    need_program cppcheck cppcheck cppcheck
    need_program mypy mypy python3-mypy
    need_program valgrind valgrind valgrind
fi

if [ "$for_what" = bench ]; then
    need_program g++ g++ "gcc-c++"
    need_library benchmark libbenchmark-dev google-benchmark-devel
fi
if [ "$for_what" = flame ]; then
    need_program perf linux-perf perf
fi
if [ "$for_what" = fuzz ]; then
    need_program clang++ "clang libclang-rt-dev g++" "clang compiler-rt gcc-c++"
fi

[ ${#missing[@]} -gt 0 ] || exit 0
wanted=$(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')
[ -n "$manager" ] ||
    fail "missing here: $wanted(names as in Fedora); this script knows apt and dnf only, so install them by other means"
as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
        fail "missing here: $wanted- installing them takes root, so run as root: $manager install $wanted"
    as_root=(sudo)
fi

echo "erlang_python: installing $wanted" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    local names
    read -ra names <<<"$wanted"
    if [ "$manager" = apt-get ]; then
        "${as_root[@]}" apt-get update -qq &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends "${names[@]}"
    else
        "${as_root[@]}" dnf install -y --setopt=install_weak_deps=False "${names[@]}"
    fi
}
install >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    fail "installing failed as shown above; once that is mended, run the same command again"
}

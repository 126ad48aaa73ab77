#!/usr/bin/env bash
# venv.sh: makes .venv, where the demo and the tests find numpy, and a test finds bottle, for the Python that choose_python.sh picks.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
venv=$top/.venv
python=$("$top/scripts/choose_python.sh")

has_numpy() {
    "$1" -c 'import numpy' 2>/dev/null
}

if [ -x "$venv/bin/python" ] && [ "$(readlink -f "$venv/bin/python")" = "$python" ] && has_numpy "$venv/bin/python"; then
    exit 0
fi

rm -rf "$venv"
# The system's Python has numpy from the distribution: setup.sh installs it with everything else, without the index.
if [ "$python" = "$(readlink -f /usr/bin/python3)" ] && has_numpy "$python"; then
    "$python" -m venv --without-pip --system-site-packages "$venv"
    exit 0
fi

if ! "$python" -m venv "$venv" >/dev/null; then
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 --prefer-binary \
    numpy bottle >&2 ||
    echo "erlang_python: no numpy could be installed for $python, so what uses numpy is left out;" \
        "for it, run '$venv/bin/python -m pip install numpy'" >&2

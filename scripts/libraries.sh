#!/usr/bin/env bash
# libraries.sh: makes the virtual environment _build/libraries with what tests/libraries/requirements.txt names, from the
# package index, for the Python that choose_python.sh picks.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
venv=$top/_build/libraries
wanted=$top/tests/libraries/requirements.txt
python=$("$top/scripts/choose_python.sh")

if [ "$(readlink -f "$venv/bin/python" || true)" = "$python" ] && cmp -s "$wanted" "$venv/installed.txt"; then
    exit 0
fi
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 --only-binary :all: -r "$wanted" >&2 || {
    echo "erlang_python: what make test-libraries needs could not be installed for $python" >&2
    exit 1
}
cp "$wanted" "$venv/installed.txt"

#!/usr/bin/env bash
# failed_cases.sh LOGDIR: prints the cases that failed in the last run of Common Test, with the first lines of the reason.
# They come last, for whoever sees but the end of a long output.
set -euo pipefail

run=$(find "$1" -mindepth 1 -maxdepth 1 -name 'ct_run.*' -printf '%T@ %p\n' | sort -n | tail -1 | cut -d ' ' -f 2-)
[ -n "$run" ] || exit 0
find "$run" -name suite.log -exec awk '
    /^=case/ { name = $2 }
    /^=/ || /^===/ { left = 0 }
    /^=result +failed/ { print "FAILED " name; left = 8 }
    left > 0 { sub(/^(=result)? +/, ""); print "    " substr($0, 1, 200); left-- }' {} +

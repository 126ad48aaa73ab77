#!/usr/bin/env bash
# run.sh TREE SECONDS SEED TARGET...: runs each fuzz target for its share of the seconds, from the corpus of the repository
# and from what earlier runs found. Prints the executions of each, and how many targets found nothing.
set -euo pipefail

tree=$1 seconds=$2 seed=$3
shift 3
share=$((seconds / $# > 0 ? seconds / $# : 1))
passed=0 failed=0
for target in "$@"; do
    found=$tree/corpus/$target log=$tree/$target.log
    mkdir -p "$found"
    if "$tree/$target" -max_total_time=$share -seed="$seed" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$tree/$target-" "$found" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "$target: $(awk '/number_of_executed_units/ {n = $2} /average_exec_per_sec/ {r = $2} END {print n " executions, " r "/s"}' "$log")"
    else
        failed=$((failed + 1))
        echo "$target: FAILED"
        grep -E 'ERROR|SUMMARY|not |Test unit written' "$log" | head -20
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]

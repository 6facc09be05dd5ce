#!/bin/sh
# SPDX-License-Identifier: MIT
# Usage: check.sh <fuzz target> <folder of seeds>
# Runs a fuzz target over its seeds and some thousand inputs made of them, the same ones each time. Fails on a finding.
set -eu
program=$1
seeds=$2
[ -n "$(ls "$seeds")" ] || { echo "$seeds has no seeds" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
log=$work/log
findings=$(dirname "$program")/findings
mkdir -p "$findings"
if ! "$program" -seed=1 -runs=100000 -max_total_time=4 -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=2000 \
    -print_final_stats=1 -verbosity=1 -artifact_prefix="$findings/" "$work/corpus" "$seeds" > "$log" 2>&1; then
  grep -v '^#[0-9]* *\(NEW\|REDUCE\|pulse\|RELOAD\)\|NEW_FUNC' "$log"
  echo "The input that did it is in $findings. Run it alone: $program <file>; with BROOD_FUZZ_TELL=1 for what it does."
  exit 1
fi
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
echo "$(basename "$program"): $runs executions, no finding"
[ "$runs" -gt "$(ls "$seeds" | wc -l)" ] || { echo "it has run hardly anything" >&2; exit 1; }

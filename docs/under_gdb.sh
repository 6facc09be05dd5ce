#!/bin/sh
# SPDX-License-Identifier: MIT
# under_gdb.sh <debugging.md> <gdb> <program> <arguments>...: what the page says of gdb is so. Each of its sessions is run, by the
# commands that stand there behind (gdb), with a program whose worker calls score. Exits 77 where gdb may not trace.
set -eu

page=$1
gdb=$2
shift 2
program=$*
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The sessions: the blocks of text below "## gdb" with commands.
awk -v folder="$folder" '
  /^## / { here = $0 == "## gdb" }
  here && /^```text/ { ++session; next }
  here && /^\(gdb\) / { sub(/^\(gdb\) /, ""); print > (folder "/" session) }
' "$page"
[ -e "$folder/2" ] || { echo "$page: there are not two sessions of gdb"; exit 1; }

# run <session>: what gdb says goes to $folder/said.
run() {
  timeout 120 "$gdb" -nx -batch -iex 'set debuginfod enabled off' -x "$folder/$1" --args $program > "$folder/said" 2>&1 < /dev/null || true
  if grep -Eqi 'operation not permitted\.?$|could not trace the inferior' "$folder/said" && ! grep -q 'hit Breakpoint' "$folder/said"; then
    echo "gdb may not trace a process here"
    exit 77
  fi
}
says() {
  grep -q -e "$1" "$folder/said" || { echo "gdb does not say '$1', but:"; cat "$folder/said"; exit 1; }
}

run 1  # the worker stands in score
says 'brood-0.* hit Breakpoint 1.*score'
says 'run_call'

run 2  # all three are held
says 'brood-0.* hit Breakpoint 1.*score'
says '^  1  *process'
says '^  2  *process'
says '^\* 3  *process'
says '^\[Switching to inferior 1 '

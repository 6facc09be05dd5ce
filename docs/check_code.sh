#!/bin/sh
# SPDX-License-Identifier: MIT
# check_code.sh <folder of the docs> <folder of the examples>: each block of C++ in the guide stands in a program that is
# compiled and run: docs/snippets/*.cpp or an example. White space does not count; what blank lines separate may stand in
# different places.
set -eu

docs=$1
examples=$2
programs=$(mktemp)
trap 'rm -f "$programs"' EXIT
for file in "$docs"/snippets/*.cpp "$examples"/*.cpp "$examples"/*.hpp; do
  tr -d '[:space:]' < "$file"
  echo
done > "$programs"

LC_ALL=C awk -v programs="$programs" '
  BEGIN { while ((getline line < programs) > 0) text = text "\n" line }
  function look() {
    if (part != "" && index(text, part) == 0) { print name ":" first ": this code stands in no program that is compiled"; bad = 1 }
    part = ""
    first = FNR + 1
  }
  FNR == 1 && inside { print name ":" first ": a block of code does not end"; bad = 1; inside = 0 }
  FNR == 1 { name = FILENAME; sub(/.*\//, "", name) }
  /^[ \t]*```cpp[ \t]*$/ { inside = 1; first = FNR + 1; part = ""; next }
  /^[ \t]*```/ && inside { inside = 0; ++blocks; look(); next }
  inside { line = $0; gsub(/[ \t\r]/, "", line); if (line == "") look(); part = part line }
  END {
    print blocks + 0 " blocks of code looked at"
    if (blocks == 0) bad = 1
    exit bad
  }' "$docs"/guide/*.md "$docs"/policies.md

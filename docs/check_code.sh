#!/bin/sh
# SPDX-License-Identifier: MIT
# check_code.sh <folder of the docs> <folder of the examples>: each block of C++ in the guide stands in a program that is
# compiled and run: docs/snippets/*.cpp or an example. White space does not count. A block in a list may be indented.
set -eu

docs=$1
examples=$2
programs=$(mktemp)
trap 'rm -f "$programs"' EXIT
for file in "$docs"/snippets/*.cpp "$examples"/*.cpp "$examples"/*.hpp; do
  tr -d '[:space:]' < "$file"
  echo
done > "$programs"

# mawk has no functions for long strings that gawk lacks; index() takes the rest.
LC_ALL=C awk -v programs="$programs" '
  BEGIN { while ((getline line < programs) > 0) text = text "\n" line }
  FNR == 1 && inside { print name ":" first ": a block of code does not end"; bad = 1; inside = 0 }
  FNR == 1 { name = FILENAME; sub(/.*\//, "", name) }
  /^[ \t]*```cpp[ \t]*$/ { inside = 1; first = FNR; block = ""; next }
  /^[ \t]*```/ && inside {
    inside = 0; ++blocks
    if (index(text, block) == 0) { print name ":" first ": this code stands in no program that is compiled"; bad = 1 }
    next
  }
  inside { line = $0; gsub(/[ \t\r]/, "", line); block = block line }
  END {
    print blocks + 0 " blocks of code looked at"
    if (blocks == 0) bad = 1
    exit bad
  }' "$docs"/guide/*.md "$docs"/policies.md

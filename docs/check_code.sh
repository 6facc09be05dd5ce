#!/bin/sh
# SPDX-License-Identifier: MIT
# check_code.sh <folder of the docs> <folder of the examples> <folder of the headers>: the code in the docs is code that is
# compiled and run.
#   - Each block of C++ in the guide stands in a program: docs/snippets/*.cpp or an example. White space does not count; what blank
#     lines separate may stand in different places. Code is fenced, so that none is overlooked.
#   - Each part of a program that a header's comment shows (\snippet <program> <name>) is there, between two marks.
#   - What from-multiprocessing.md shows of brood has no more lines than the Python beside it.
set -eu

docs=$1
examples=$2
headers=$3
programs=$(mktemp)
trap 'rm -f "$programs"' EXIT
for file in "$docs"/snippets/*.cpp "$examples"/*.cpp "$examples"/*.hpp; do
  grep -v '^ *//! \[' "$file" | tr -d '[:space:]'
  echo
done > "$programs"
bad=0

LC_ALL=C awk -v programs="$programs" '
  BEGIN { while ((getline line < programs) > 0) text = text "\n" line }
  function look() {
    if (part != "" && index(text, part) == 0) { print name ":" first ": this code stands in no program that is compiled"; bad = 1 }
    part = ""
    first = FNR + 1
  }
  FNR == 1 && inside { print name ":" first ": a block of code does not end"; bad = 1 }
  FNR == 1 { name = FILENAME; sub(/.*\//, "", name); inside = 0; other = 0; above = ""; python = 0 }
  !inside && /^[ \t]*```./ {
    language = $0; gsub(/[ \t`]/, "", language)
    if (language == "cpp") {
      inside = 1; part = ""; first = FNR + 1; lines = 0
    } else {
      other = 1; if (language == "python") python = 0
    }
    above = ""
    next
  }
  inside && /^[ \t]*```/ {
    inside = 0; ++blocks; look()
    if (name == "from-multiprocessing.md" && lines > python) {
      print name ":" first ": " lines " lines of C++ for " python " of Python"; bad = 1
    }
    next
  }
  other && /^[ \t]*```/ { other = 0; next }
  other { if (language == "python" && NF != 0) ++python; next }
  inside { line = $0; gsub(/[ \t\r]/, "", line); if (line == "") look(); else ++lines; part = part line; next }
  /^    / && above == "" && /[;{}]$/ { print name ":" FNR ": code that is not fenced is not looked at: put it between ```cpp and ```"; bad = 1 }
  { above = $0 }
  END {
    print blocks + 0 " blocks of code looked at"
    if (blocks == 0) bad = 1
    exit bad
  }' "$docs"/guide/*.md "$docs"/policies.md || bad=1

shown=$(grep -rhoE '\\snippet [a-z_]+[.]cpp .+$' "$headers" | sort -u)
[ -n "$shown" ] || { echo "no header shows a part of a program"; bad=1; }
while read -r _ program name; do
  marks=$(grep -cxF -e "//! [$name]" -e "  //! [$name]" "$docs/snippets/$program" || true)
  [ "$marks" = 2 ] || { echo "\\snippet $program $name: $marks marks //! [$name] in docs/snippets/$program, not 2"; bad=1; }
done <<END
$shown
END
echo "$(printf '%s\n' "$shown" | wc -l) examples of public names looked at"
exit "$bad"

#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh <examples>: each example is read at one sitting, and found. One line for each violation; exits 1 when there is one.
#   - Each program <name>.cpp is named in README.md, as [name](name.cpp), and what is named there is a program.
#   - A program that stands in one of the tables has at most 60 lines, with those of its _library or _plugin.
#   - There is a table of those on real work.
set -eu

[ -r "$1/README.md" ] || { echo "$1/README.md: no such file" >&2; exit 2; }
cd "$1"
bad=0
violation() {
  echo "$1"
  bad=1
}

named=$(grep -o '\[[a-z0-9_]*\]([a-z0-9_]*\.cpp)' README.md) || named=
for source in *.cpp; do
  name=${source%.cpp}
  owner=${name%_library}
  owner=${owner%_plugin}
  [ "$owner" = "$name" ] || [ ! -e "$owner.cpp" ] || continue
  case $named in *"[$name]($source)"*) ;; *) violation "$source: README.md does not name it" ;; esac
done
for link in $named; do
  source=$(expr "$link" : '.*(\(.*\))')
  [ -e "$source" ] || violation "README.md: $source is not there"
  [ "$link" = "[${source%.cpp}]($source)" ] || violation "README.md: $link names another program than it leads to"
done

for source in $(sed -n 's/^| *\[[^]]*\](\([a-z0-9_]*\.cpp\)).*/\1/p' README.md); do
  [ -e "$source" ] || continue
  lines=$(cat "$source" "${source%.cpp}"_library.cpp "${source%.cpp}"_plugin.cpp 2>/dev/null | wc -l)
  [ "$lines" -le 60 ] || violation "$source: $lines lines, more than 60"
done

work=$(sed -n '/^On real work/,/^\[/s/^| *\[\([^]]*\)\].*/\1/p' README.md)
[ -n "$work" ] || violation "README.md: there is no table of programs on real work"
exit "$bad"

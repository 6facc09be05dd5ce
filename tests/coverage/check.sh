#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh <folder to work in> <g++> <flags>...: what a program counts in its workers is in its coverage data, once.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$1
shift
rm -rf "$work"
mkdir -p "$work"
cd "$work"
gcov=gcov-$("$1" -dumpversion | cut -d . -f 1)  # another version's can't read the data
command -v "$gcov" > /dev/null || { echo "skipped: there is no $gcov"; exit 77; }
"$@" -O0 --coverage -pthread "$here/program.cpp" -o program
./program
"$gcov" ./*.gcda > gcov.txt 2>&1
count=$(sed -n 's/^ *\([0-9#]*\)\*\{0,1\}:.*counted 11 times$/\1/p' program.cpp.gcov)
[ "$count" = 11 ] || { echo "gcov says '$count' where 11 calls were made in workers:"; cat program.cpp.gcov; exit 1; }

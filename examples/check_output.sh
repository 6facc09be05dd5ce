#!/bin/sh
# SPDX-License-Identifier: MIT
# check_output.sh <expected> <program> <arguments>...: the program succeeds and prints exactly what the file holds.
set -eu

expected=$1
shift
printed=$(mktemp)
trap 'rm -f "$printed"' EXIT
"$@" > "$printed" || { echo "the program failed with code $?; it printed:"; cat "$printed"; exit 1; }
diff -u "$expected" "$printed"

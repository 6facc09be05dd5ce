#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh <source> <compiler> <flags>...
# The source's first line is "// expect: <extended regular expression>". It must compile as it is; with -DBROOD_FAIL
# it must not, and what the compiler then says, taken as one line, must match.
set -u

source=$1
shift

fail() {
  echo "$source: $1"
  [ $# -lt 2 ] || printf '%s\n' "$2"
  exit 1
}

expected=$(sed -n '1s|^// expect: *||p' "$source")
[ -n "$expected" ] || fail 'the first line is not "// expect: <regular expression>"'

output=$("$@" -fsyntax-only "$source" 2>&1) || fail 'does not compile without -DBROOD_FAIL:' "$output"

if output=$("$@" -fsyntax-only -DBROOD_FAIL "$source" 2>&1); then
  fail 'compiles with -DBROOD_FAIL, but must not'
fi
printf '%s\n' "$output" | tr '\n' ' ' | tr -s ' ' | grep -Eq -e "$expected" ||
  fail "the compiler does not say '$expected', but:" "$output"

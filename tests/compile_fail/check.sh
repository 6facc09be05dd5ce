#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh [--as-it-is] <source> <compiler> <flags>...
# The source's first line is "// expect: <extended regular expression>". With -DBROOD_FAIL it must not compile, and what the
# compiler then says, taken as one line, must match, and fit one screen. With --as-it-is, it must also compile as it is.
set -u

as_it_is=
if [ "$1" = --as-it-is ]; then
  as_it_is=1
  shift
fi
source=$1
shift

fail() {
  echo "$source: $1"
  [ $# -lt 2 ] || printf '%s\n' "$2"
  exit 1
}

expected=$(sed -n '1s|^// expect: *||p' "$source")
[ -n "$expected" ] || fail 'the first line is not "// expect: <regular expression>"'

if [ -n "$as_it_is" ]; then
  output=$("$@" -fsyntax-only "$source" 2>&1) || fail 'does not compile without -DBROOD_FAIL:' "$output"
fi

if output=$("$@" -fsyntax-only -DBROOD_FAIL "$source" 2>&1); then
  fail 'compiles with -DBROOD_FAIL, but must not'
fi
printf '%s\n' "$output" | tr '\n' ' ' | tr -s ' ' | grep -Eq -e "$expected" ||
  fail "the compiler does not say '$expected', but:" "$output"
lines=$(printf '%s\n' "$output" | wc -l)
[ "$lines" -le 40 ] || fail "the compiler says $lines lines, more than a screen has:" "$output"

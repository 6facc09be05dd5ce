#!/bin/sh
# SPDX-License-Identifier: MIT
# build.sh <work> <compiler> <flags>...: a program of two sources that have one header of brood, as a release has it.
set -eu

work=$1
shift
here=$(dirname "$0")
"$here/../../../scripts/amalgamate" -o "$work"

fail() {
  echo "single_header: $1" >&2
  exit 1
}
head -n 1 "$work/brood.hpp" | grep -qx '// SPDX-License-Identifier: MIT' || fail 'brood.hpp does not begin with its licence'
! grep -n 'include *[<"]brood/' "$work/brood.hpp" || fail 'brood.hpp includes another header of brood'

# Both include brood.hpp: a function that lacks `inline` is a duplicate symbol.
cp "$here/main.cpp" "$work"
for source in main auto_init; do
  "$@" -Wall -Wextra -Werror -pthread -c "$work/$source.cpp" -o "$work/$source.o"
done
"$@" "$work/main.o" "$work/auto_init.o" -Wl,--wrap=main -pthread -o "$work/program"
"$work/program"

# Compiled apart, it is complete, too.
"$@" -Wall -Wextra -Werror -DBROOD_SEPARATE_COMPILATION -fsyntax-only "$work/main.cpp"

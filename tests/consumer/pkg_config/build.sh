#!/bin/sh
# SPDX-License-Identifier: MIT
# build.sh <work> <compiler> <flags>...: a program without CMake, from what pkg-config says of the brood installed in
# <work>/prefix; its main knows nothing of brood.
set -eu

work=$1
shift
here=$(dirname "$0")
export PKG_CONFIG_PATH="$work/prefix/share/pkgconfig"
pkg=$(command -v pkg-config || command -v pkgconf)

fail() {
  echo "pkg_config: $1" >&2
  exit 1
}

version=$(sed -n 's/.*version_[a-z]* = \([0-9]*\);.*/\1/p' "$here/../../../include/brood/core/version.hpp" | paste -s -d .)
[ "$("$pkg" --modversion brood)" = "$version" ] || fail "the version is $("$pkg" --modversion brood), not $version"
eval "included=$("$pkg" --variable=includedir brood)" # paths may hold blanks, which are written with a backslash
eval "auto_init=$("$pkg" --variable=auto_init brood)"
[ -f "$included/brood/brood.hpp" ] || fail "there is no brood in the includedir, $included"

eval "set -- \"\$@\" $("$pkg" --cflags brood)"
"$@" -c "$here/main.cpp" -o "$work/program.o"
"$@" -c "$auto_init" -o "$work/auto_init.o"
eval "set -- \"\$@\" $("$pkg" --libs brood)"
"$@" "$work/program.o" "$work/auto_init.o" -Wl,--wrap=main -o "$work/program"
"$work/program"

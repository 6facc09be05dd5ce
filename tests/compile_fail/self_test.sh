#!/bin/sh
# SPDX-License-Identifier: MIT
# self_test.sh <compiler> <flags>...: check.sh accepts a good file and refuses each kind of bad one.
set -eu

check=$(dirname "$0")/check.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

# expect <what check.sh must print; nothing: it must pass> <compiler> <flags>...   (the source is on stdin)
expect() {
  wanted=$1
  shift
  cat > "$folder/case.cpp"
  if output=$(sh "$check" --as-it-is "$folder/case.cpp" "$@" 2>&1); then verdict=passes; else verdict=fails; fi
  if [ -z "$wanted" ]; then
    [ $verdict = passes ] && return
  else
    [ $verdict = fails ] && printf '%s\n' "$output" | grep -qF -e "$wanted" && return
  fi
  failures=1
  printf 'wanted: %s\ngot:    it %s %s\n' "${wanted:-it passes}" "$verdict" "$output"
}

expect '' "$@" << 'END'
// expect: T must be an int.*see the manual
template <class T> void f() { static_assert(sizeof(T) == 4, "T must be an int\nsee the manual"); }
int main() {
#ifdef BROOD_FAIL
  f<char>();
#endif
}
END
expect 'compiles with -DBROOD_FAIL' "$@" << 'END'
// expect: anything
int main() {}
END
expect 'does not compile without -DBROOD_FAIL' "$@" << 'END'
// expect: our own words
int main() { static_assert(false, "our own words"); }
END
output=$(sh "$check" "$folder/case.cpp" "$@" 2>&1) || {
  failures=1
  echo "without --as-it-is, the compilation that is to fail is all there is to it; got: $output"
}
expect "does not say 'our own words'" "$@" << 'END'
// expect: our own words
#ifdef BROOD_FAIL
#error "another failure"
#endif
int main() {}
END
expect 'more than a screen has' "$@" << 'END'
// expect: our own words
#ifdef BROOD_FAIL
template <int n> struct Deep { static constexpr int value = Deep<n - 1>::value; };
template <> struct Deep<0> { static_assert(sizeof(int) == 0, "our own words"); };
template <class T> constexpr int all = Deep<60>::value + Deep<59>::missing + Deep<58>::missing + Deep<57>::missing + Deep<56>::missing
  + Deep<55>::missing + Deep<54>::missing + Deep<53>::missing + Deep<52>::missing + Deep<51>::missing + Deep<50>::missing
  + Deep<49>::missing + Deep<48>::missing + Deep<47>::missing + Deep<46>::missing + Deep<45>::missing + Deep<44>::missing;
int a = all<int>;
#endif
int main() {}
END
expect 'the first line is not' "$@" << 'END'
int main() {}
END
exit $failures

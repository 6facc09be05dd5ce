#!/bin/sh
# SPDX-License-Identifier: MIT
# check_spell.sh <program> <folder>: spell finds what is misspelt in the folder's texts, with the same results under all
# policies, and goes on when something can't be checked.
set -eu

spell=$1
cd "$2"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "$*; it printed:"
  cat "$scratch/out" "$scratch/errors"
  exit 1
}
# run <exit code> <arguments of spell>...
run() {
  expected=$1
  shift
  code=0
  "$spell" "$@" > "$scratch/out" 2> "$scratch/errors" || code=$?
  [ "$code" = "$expected" ] || fail "spell $* ended with code $code instead of $expected"
}

run 0 --words words.txt --all letter.txt recipe.txt garden.txt
cat > "$scratch/expected" << 'RESULTS'
letter.txt: definately -> definitely
letter.txt: recieve -> receive, relieve
recipe.txt: seperate -> separate
RESULTS
sed '/^$/,$d' "$scratch/out" > "$scratch/results"
diff -u "$scratch/expected" "$scratch/results" || fail "spell found something else"
[ "$(grep -c 'Policy .* yes$' "$scratch/out")" = 3 ] || fail "the policies disagree"

printf 'text\0text' > "$scratch/binary"
mkdir "$scratch/empty"
run 0 --words words.txt "$scratch/missing" "$scratch/binary" "$scratch/empty" /dev/null letter.txt
for message in "missing: No such file" "binary: is binary" "empty: no files" "null: is neither a file nor a folder"; do
  grep -q "$message" "$scratch/errors" || fail "spell does not say '$message'"
done
grep -q '^1 file, .* 3 files could not be checked' "$scratch/out" || fail "the files are not counted"

run 2 --nonsense
run 2 --words "$scratch/missing" letter.txt
run 2 --words words.txt "$scratch/missing"
run 0 --help

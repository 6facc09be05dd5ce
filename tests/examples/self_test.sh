#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh accepts a good folder of examples, and names each kind of violation in one.
set -eu

check=$(dirname "$0")/check.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

# program <name> <lines>
program() {
  seq "$2" > "$folder/$1.cpp"
}

good_folder() {
  rm -rf "$folder"
  mkdir "$folder"
  program first 10
  program first_library 50
  program plugins 48
  program plugins_plugin 12
  program work 60
  program long 300
  cat > "$folder/README.md" << 'END'
| program | idea |
|---|---|
| [first](first.cpp) | one |
| [plugins](plugins.cpp) | another |

On real work:

| program | idea |
|---|---|
| [work](work.cpp) | a third |

[long](long.cpp) is the long one.
END
}

# refused <line that check.sh must print>: the folder, as it is now, has this violation and no other.
refused() {
  if output=$(sh "$check" "$folder" 2>&1); then output="(accepted) $output"; fi
  if [ "$output" != "$1" ]; then
    printf 'expected: %s\nsaid:     %s\n' "$1" "$output"
    failures=1
  fi
  good_folder
}

good_folder
sh "$check" "$folder" || { echo "a good folder is refused"; failures=1; }

program work 61
refused "work.cpp: 61 lines, more than 60"
program first_library 51
refused "first.cpp: 61 lines, more than 60"
program plugins_plugin 13
refused "plugins.cpp: 61 lines, more than 60"
program another 5
refused "another.cpp: README.md does not name it"
program other_plugin 5  # of nobody's
refused "other_plugin.cpp: README.md does not name it"
rm "$folder/work.cpp"
refused "README.md: work.cpp is not there"
sed -i 's/\[first\]/[firsts]/' "$folder/README.md"
refused "first.cpp: README.md does not name it
README.md: [firsts](first.cpp) names another program than it leads to"
sed -i '/^| \[work\]/s/.*/work.cpp and [work](work.cpp)/' "$folder/README.md"
refused "README.md: there is no table of programs on real work"

if sh "$check" "$folder/nowhere" > /dev/null 2>&1; then
  echo "a folder that is not there is accepted"
  failures=1
fi
exit "$failures"

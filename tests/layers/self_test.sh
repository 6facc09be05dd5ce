#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh accepts a good tree, and names each kind of violation in one.
set -eu

check=$(dirname "$0")/check.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

# header <path> <line>...: a good header with these lines in it.
header() {
  path=$tree/$1
  shift
  mkdir -p "$(dirname "$path")"
  printf '// SPDX-License-Identifier: MIT\n#pragma once\n' > "$path"
  [ $# -eq 0 ] || printf '%s\n' "$@" >> "$path"
}

good_tree() {
  rm -rf "$tree"
  header brood.hpp '#include <brood/pool/pool.hpp>'
  header core/config.hpp '#define BROOD_ONE 1' '#define BROOD_TWO 2' '#define BROOD_THREE 3'
  header core/version.hpp 'version_major = 2;' 'version_minor = 3;' 'version_patch = 4;'
  header os/fd.hpp '// internal' '#include <brood/core/config.hpp>' 'namespace brood::inline v2_3::detail {}'
  header os/pipe.hpp '// internal' 'int n = retried("read", [&] { return ::read(fd); });' \
    'if (checked("open", [] {' '      return' '          ::open(path);  // not ::close(path)' 'auto pid = ::getpid();'
  header os/faults.hpp '// internal' '::close(fd);'
  header wire/frame.hpp '#include <brood/os/fd.hpp>' '#include <brood/wire/reader.hpp>'
  header worker/entry.hpp 'namespace brood::inline v2_3::detail {}' 'namespace brood::inline v2_3 {}'
  header policy/worker_policy.hpp '#include <brood/worker/entry.hpp>'
  header policy/fork.hpp '#include <brood/policy/worker_policy.hpp>' '#include <brood/policy/launch.hpp>'
  header types/json.hpp '#include <nlohmann/json.hpp>' '#include <brood/wire/reader.hpp>'
  header pool/pool.hpp '#include <vector>' '#include <brood/policy/worker_policy.hpp>' '#include <brood/core/config.hpp>'
}

# refused <line that check.sh must print>: the tree, as it is now, has this violation and no other.
refused() {
  if output=$(sh "$check" "$tree" 2>&1); then output="(accepted) $output"; fi
  if [ "$output" != "$1" ]; then
    failures=1
    printf 'wanted: %s\ngot:    %s\n' "$1" "$output"
  fi
  good_tree
}

good_tree
sh "$check" "$tree" || { echo 'the good tree was refused'; failures=1; }

header os/up.hpp '#include <brood/wire/frame.hpp>'
refused 'os/up.hpp:3: os/ includes <brood/wire/frame.hpp>, which is to its right in core, os, wire, worker, policy, pool'
header worker/up.hpp '  #  include <brood/pool/pool.hpp>  // for later'
refused 'worker/up.hpp:3: worker/ includes <brood/pool/pool.hpp>, which is to its right in core, os, wire, worker, policy, pool'
header pool/bad.hpp '#include <brood/policy/fork.hpp>'
refused 'pool/bad.hpp:3: pool/ includes <brood/policy/fork.hpp>: of policy/ it may include worker_policy.hpp only'
header policy/spawn.hpp '#include <brood/policy/fork.hpp>'
refused 'policy/spawn.hpp:3: a concrete policy includes another one, <brood/policy/fork.hpp>'
header os/quotes.hpp '#include "fd.hpp"'
refused 'os/quotes.hpp:3: an include is written <brood/folder/file.hpp>, not in quotes'
header os/all.hpp '#include <brood/brood.hpp>'
refused 'os/all.hpp:3: a header does not include <brood/brood.hpp>'
header os/where.hpp '#include <brood/util/text.hpp>'
refused 'os/where.hpp:3: <brood/util/text.hpp> is in none of the layers'
header util/text.hpp
refused 'util/text.hpp:1: the folder util/ is none of the layers'
header types/json.hpp '#include <nlohmann/json.hpp>' '#include <brood/pool/pool.hpp>'
refused 'types/json.hpp:4: types/ includes <brood/pool/pool.hpp>: it may include core/ and wire/ only'
header brood.hpp '#include <brood/types/json.hpp>'
refused 'brood.hpp:3: brood.hpp includes <brood/types/json.hpp>, which not everybody has what it needs for'
header more.hpp
refused 'more.hpp:1: only brood.hpp and the optional headers lie outside the folders'
header brood.hpp '#include <brood/os/fd.hpp>'
refused 'brood.hpp:3: brood.hpp includes <brood/os/fd.hpp>, which is internal'
header brood.hpp 'namespace brood::inline v2_3 {}'
refused 'brood.hpp:3: brood.hpp includes headers and holds nothing else'
header os/inside.hpp 'namespace brood::inline v2_3::detail {}'
refused 'os/inside.hpp:1: all of it is in brood::detail: it needs a line // internal at its top'
header os/named.hpp '// internal' 'namespace brood::detail {}'
refused 'os/named.hpp:4: a namespace is opened without ::inline v2_3'
header os/macro.hpp '#define BROOD_OS 1'
refused 'os/macro.hpp:3: macros are defined in core/config.hpp only'
header core/config.hpp '#define OURS 1'
refused 'core/config.hpp:3: a macro is not named BROOD_*'
header core/config.hpp '#define BROOD_1' '#define BROOD_2' '#define BROOD_3' '#define BROOD_4'
refused 'core/config.hpp:6: more than three macros'
header os/raw.hpp '// internal' '  if (n < 0) ::close(fd);'
refused 'os/raw.hpp:4: ::close is called outside of tried, retried and checked of os/syscall.hpp'
header worker/raw.hpp 'checked("read", [&] { return ::read(fd); });' '' '' 'int n = x ? ::getpid() : ::write(fd);'
refused 'worker/raw.hpp:6: ::write is called outside of tried, retried and checked of os/syscall.hpp'
header os/long.hpp && yes '' | head -n 399 >> "$tree/os/long.hpp"
refused 'os/long.hpp:401: more than 400 lines'
echo '#pragma once' > "$tree/os/licence.hpp"
refused 'os/licence.hpp:1: the first line is not // SPDX-License-Identifier: MIT'
echo '// SPDX-License-Identifier: MIT' > "$tree/os/once.hpp"
refused 'os/once.hpp:1: no #pragma once'
exit $failures

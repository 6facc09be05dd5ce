#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh <include/brood>: what every header keeps to. One line for each violation; exits 1 when there is one.
set -eu

[ -d "$1" ] || { echo "$1: no such folder" >&2; exit 2; }
cd "$1"

# What may be called without os/syscall.hpp's tried, retried or checked: it can't fail, it ends the process, it waits
# only, or it is the library's (libc's) and no system call. os/faults.hpp lies below the wrapper.
not_wrapped="getpid getppid sched_yield sysconf _exit on_exit __cxa_at_quick_exit nanosleep clock_gettime
  sigaction pthread_sigmask pthread_setcancelstate sigemptyset sigfillset sigaddset getauxval realpath strnlen __fpurge __fpending isatty readdir closedir
  gettid raise sigaltstack _dl_find_object
  dlopen dlclose dlsym dladdr dlerror dl_iterate_phdr
  posix_spawnattr_init posix_spawnattr_destroy posix_spawnattr_setflags
  posix_spawnattr_setsigmask posix_spawnattr_setsigdefault
  posix_spawn_file_actions_init posix_spawn_file_actions_destroy posix_spawn_file_actions_addopen
  posix_spawn_file_actions_adddup2 posix_spawn_file_actions_addclosefrom_np
  posix_spawn_file_actions_addfchdir_np"

version=v$(sed -n 's/.*version_m[a-z]* = \([0-9]*\);.*/\1/p' core/version.hpp | paste -s -d _)

find . -name '*.hpp' | sed 's|^\./||' | LC_ALL=C sort | {
status=0
while read -r header; do
  awk -v header="$header" -v version="$version" -v not_wrapped="$(echo $not_wrapped)" -v internal_headers="$(grep -rlx --include='*.hpp' '// internal' . | sed 's|^\./||' | tr '\n' ' ')" '
    function violation(text) {
      printf "%s:%d: %s\n", header, NR, text
      bad = 1
    }
    function folder_of(path) { return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : "" }

    BEGIN {
      # types/ is for users who have other libraries: it needs core/ and wire/ only, and nobody includes it
      layers = split("core os wire worker policy pool types", layer, " ")
      for (i = 1; i <= layers; ++i) rank[layer[i]] = i
      concrete["policy/fork.hpp"] = concrete["policy/spawn.hpp"] = 1
      concrete["policy/fork_server.hpp"] = concrete["policy/inline.hpp"] = 1
      count = split(internal_headers, list, " ")
      for (i = 1; i <= count; ++i) internal[list[i]] = 1
      count = split(not_wrapped, list, " ")
      for (i = 1; i <= count; ++i) bare[list[i]] = 1
      folder = folder_of(header)
    }

    NR == 1 && folder == "" && header != "brood.hpp" && header != "progress.hpp" { violation("only brood.hpp and the optional headers lie outside the folders") }
    NR == 1 && folder != "" && !(folder in rank) { violation("the folder " folder "/ is none of the layers") }
    NR == 1 && $0 != "// SPDX-License-Identifier: MIT" { violation("the first line is not // SPDX-License-Identifier: MIT") }
    NR == 401 { violation("more than 400 lines") }
    $0 == "#pragma once" { once = 1 }
    # every name of ours is in the inline namespace of its version
    /^namespace brood( |:|$)/ {
      if (index($0, "namespace brood::inline " version) != 1) violation("a namespace is opened without ::inline " version)
      if (index($0, version "::detail") > 0) detail_names = 1
      else public_names = 1
    }

    /^[ \t]*#[ \t]*define/ {
      if (header != "core/config.hpp") violation("macros are defined in core/config.hpp only")
      else if ($0 !~ /define[ \t]+BROOD_/) violation("a macro is not named BROOD_*")
      else if (!($2 in macro) && ++macros > 3) violation("more than three macros")
      macro[$2] = 1
    }

    /^[ \t]*#[ \t]*include[ \t]*"/ { violation("an include is written <brood/folder/file.hpp>, not in quotes") }
    /^[ \t]*#[ \t]*include[ \t]*<brood\// {
      match($0, /<brood\/[^>]*>/)
      target = substr($0, RSTART + 7, RLENGTH - 8)
      to = folder_of(target)
      if (header == "brood.hpp") {
        if (to == "types") violation("brood.hpp includes <brood/" target ">, which not everybody has what it needs for")
        if (target in internal) violation("brood.hpp includes <brood/" target ">, which is internal")
        next
      }
      if (to == "") violation("a header does not include <brood/" target ">")
      else if (!(to in rank)) violation("<brood/" target "> is in none of the layers")
      else if ((folder in rank) && rank[to] > rank[folder])
        violation(folder "/ includes <brood/" target ">, which is to its right in core, os, wire, worker, policy, pool")
      else if (folder == "types" && to != "types" && to != "wire" && to != "core")
        violation("types/ includes <brood/" target ">: it may include core/ and wire/ only")
      else if (folder == "pool" && to == "policy" && target != "policy/worker_policy.hpp")
        violation("pool/ includes <brood/" target ">: of policy/ it may include worker_policy.hpp only")
      else if ((header in concrete) && (target in concrete))
        violation("a concrete policy includes another one, <brood/" target ">")
    }
    # a call stands in the lambda that is given to the wrapper, at most two lines below the name
    /(tried|checked)\("/ { wrapped = NR }
    header != "os/faults.hpp" {
      text = $0
      sub(/\/\/.*/, "", text)
      while (match(text, /(^|[^A-Za-z0-9_>:~])::[a-z_][a-z0-9_]*\(/)) {
        call = substr(text, RSTART, RLENGTH - 1)
        sub(/.*::/, "", call)
        text = substr(text, RSTART + RLENGTH)
        if (!(call in bare) && (!wrapped || NR - wrapped > 2))
          violation("::" call " is called outside of tried, retried and checked of os/syscall.hpp")
      }
    }
    header == "brood.hpp" && /^[ \t]*(namespace|class|struct|using|template|inline)/ {
      violation("brood.hpp includes headers and holds nothing else")
    }

    END {
      NR = 1
      if (!once) violation("no #pragma once")
      if (detail_names && !public_names && !(header in internal)) {
        violation("all of it is in brood::detail: it needs a line // internal at its top")
      }
      exit bad
    }' "$header" || status=1
done
exit $status
}

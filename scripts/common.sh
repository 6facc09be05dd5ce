# SPDX-License-Identifier: MIT
# What the scripts share; sourced by them, not run.
# shellcheck shell=bash

say() {
  if [[ -t 1 ]]; then printf '\033[1m==> %s\033[0m\n' "$*"; else printf '==> %s\n' "$*"; fi
}

die() {
  printf '%s\n' "$@" >&2
  exit 1
}

# The first of the commands given that is installed.
first_of() {
  local name
  for name in "$@"; do
    if command -v "$name" > /dev/null; then echo "$name"; return; fi
  done
  return 1
}

# The compilers of the presets; cmake/toolchains looks for the same names.
find_gcc() {
  if [[ -n ${BROOD_GCC:-} ]]; then first_of "$BROOD_GCC"; else first_of g++-{12..15}; fi
}
find_clang() {
  if [[ -n ${BROOD_CLANG:-} ]]; then first_of "$BROOD_CLANG"; else first_of clang++-{19,20,18,17,16}; fi
}

# Whether a compiler can link a C++ program that has the sanitizers in it.
links_sanitizers() {
  echo 'int main() {}' | "$1" -fsanitize=address,undefined -x c++ -include cstdio -o /dev/null - 2> /dev/null
}

# install_packages <Debian package>...: installs them if it may; otherwise says what to do, and ends the script.
install_packages() {
  local packages as_root=() log i
  mapfile -t packages < <(printf '%s\n' "$@" | sort -u)
  if (( EUID != 0 )); then
    as_root=(sudo)
    [[ -t 0 ]] || as_root=(sudo -n)
  fi
  local advice="${as_root[0]:-} apt-get install --no-install-recommends ${packages[*]}"
  advice="  ${advice# }"
  if ! command -v apt-get > /dev/null || { (( EUID != 0 )) && ! "${as_root[@]}" true 2> /dev/null; }; then
    die "Some packages are missing, and this script may not install them. On Debian 12:" "$advice"
  fi

  say "Installing ${packages[*]}"
  log=$(mktemp)
  as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
  "${as_root[@]}" update < /dev/null > "$log" 2>&1 || true
  for i in "${!packages[@]}"; do  # a Debian 12 without its updates has no Clang 19
    apt-cache show "${packages[i]}" > /dev/null 2>&1 || packages[i]=${packages[i]/-19/-16}
  done
  if ! "${as_root[@]}" install --yes --no-install-recommends "${packages[@]}" < /dev/null >> "$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "The installation failed. By hand:" "$advice"
  fi
  rm -f "$log"
}

#!/bin/sh
# Two commands on a fresh machine:
#   ./run.sh         install what is missing, build, segment a street picture: out/overlay.png, out/labels.png, out/result.json,
#                    and find the cells in a blood smear: out/cells/overlay.png, out/cells/result.json
#   ./run.sh test    install what is missing, build and pass the tests
# And for developers, on x86-64 Debian or Ubuntu:
#   ./run.sh neon    install what is missing, build for 64-bit Arm and pass the numeric tests under qemu-user
# Options: --no-install    never install, only say what is missing
#          --install-only  install what is missing and stop
#          --dry-run       print the commands and run none
#          --yes           do not let the package manager ask
set -eu

cd "$(dirname "$0")"

# What is needed: what for, how to detect it (a command or a header), and the package that has it.
# '-' means that there is no package and CMake fetches the pinned release, for which it needs git.
#     for   needs                          apt                    dnf               pacman         brew
table='
      demo  command:c++                    build-essential        gcc-c++           gcc            -
      demo  command:cmake                  cmake                  cmake             cmake          cmake
      demo  command:ninja                  ninja-build            ninja-build       ninja          ninja
      demo  header:xsimd/xsimd.hpp         libxsimd-dev           xsimd-devel       xsimd          xsimd
      demo  header:nlohmann/json.hpp       nlohmann-json3-dev     json-devel        nlohmann-json  nlohmann-json
      demo  header:stb_image.h             libstb-dev             stb-devel         stb            -
      demo  header:CLI/CLI.hpp             libcli11-dev           cli11-devel       cli11          cli11
      demo  header:pugixml.hpp             libpugixml-dev         pugixml-devel     pugixml        pugixml
      test  header:Eigen/Core              libeigen3-dev          eigen3-devel      eigen          eigen
      test  header:doctest/doctest.h       doctest-dev            doctest-devel     doctest        doctest
      neon  command:aarch64-linux-gnu-g++  g++-aarch64-linux-gnu  -                 -              -
      neon  command:qemu-aarch64           qemu-user              -                 -              -
'

job=demo
install=yes
install_only=no
dry_run=no
assume_yes=no

usage() {
  echo "usage: ./run.sh [demo|test|neon] [--no-install] [--install-only] [--dry-run] [--yes]"
}

fail() {
  echo "run.sh: $*" >&2
  exit 1
}

for argument in "$@"; do
  case $argument in
    demo | test | neon) job=$argument ;;
    --no-install) install=no ;;
    --install-only) install_only=yes ;;
    --dry-run) dry_run=yes ;;
    --yes | -y) assume_yes=yes ;;
    --help | -h)
      usage
      exit 0
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
done

# Prints the command, then runs it unless this is a dry run.
run() {
  echo "+ $*"
  [ "$dry_run" = yes ] || "$@"
}

has_command() {
  command -v "$1" >/dev/null 2>&1
}

has_header() {
  prefixes=$(echo "${CMAKE_PREFIX_PATH:-}" | tr ':;' '  ')
  for prefix in $prefixes /usr /usr/local /opt/homebrew; do
    for folder in "" /eigen3 /stb; do
      [ ! -e "$prefix/include$folder/$1" ] || return 0
    done
  done
  return 1
}

# Names the packages that are missing, one a line; git stands in for those without a package.
missing_packages() {
  needs_git=no
  echo "$table" | {
    while read -r for_job need apt dnf pacman brew; do
      [ -n "$for_job" ] || continue
      case $for_job,$job in
        demo,* | test,test | test,neon | neon,neon) ;;
        *) continue ;;
      esac
      case $need in
        command:*) ! has_command "${need#command:}" || continue ;;
        header:*) ! has_header "${need#header:}" || continue ;;
      esac
      case $manager in
        apt) package=$apt ;;
        dnf) package=$dnf ;;
        pacman) package=$pacman ;;
        brew) package=$brew ;;
        *) package=${need#*:} ;;
      esac
      case $need,$package in
        command:c++,-) echo "a-compiler(xcode-select--install)" ;;
        command:*,-) echo "an-apt-package(for-${need#command:})" ;;
        *,-) needs_git=yes ;;
        *) echo "$package" ;;
      esac
    done
    if [ "$needs_git" = yes ] && ! has_command git; then
      echo git
    fi
  }
}

manager=none
for candidate in apt-get dnf pacman brew; do
  if has_command "$candidate"; then
    manager=${candidate%-get}
    break
  fi
done

# Word splitting is wanted: package names have no spaces.
# shellcheck disable=SC2046
set -- $(missing_packages)

if [ $# -gt 0 ]; then
  echo "Missing: $*"
  case $* in
    *a-compiler*) fail "install a C++ compiler first: xcode-select --install" ;;
    *an-apt-package*) fail "the tools for 64-bit Arm are taken from Debian's or Ubuntu's packages; install them yourself and run again" ;;
  esac
  [ "$install" = yes ] || fail "not installed because of --no-install"
  [ "$manager" != none ] || fail "found none of apt-get, dnf, pacman, brew; install the above yourself and run again"

  as_root=
  if [ "$manager" != brew ] && [ "$(id -u)" -ne 0 ]; then
    has_command sudo || [ "$dry_run" = yes ] || fail "installing needs root: run as root, or install the above yourself"
    as_root=sudo
  fi
  # Without a terminal nobody can answer the package manager.
  [ -t 0 ] || assume_yes=yes
  yes_flag=
  if [ "$assume_yes" = yes ]; then
    case $manager in
      apt | dnf) yes_flag=-y ;;
      pacman) yes_flag=--noconfirm ;;
    esac
  fi
  # shellcheck disable=SC2086
  case $manager in
    apt)
      run $as_root apt-get update || echo "run.sh: the package lists could not be refreshed; trying with those at hand" >&2
      run $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --no-install-recommends $yes_flag "$@"
      ;;
    dnf) run $as_root dnf install $yes_flag "$@" ;;
    pacman) run $as_root pacman -S --needed $yes_flag "$@" ;;
    brew) run brew install "$@" ;;
  esac || fail "the packages could not be installed: $*"
fi

[ "$install_only" = no ] || exit 0

if [ "$dry_run" = no ]; then
  # Presets and their workflows need CMake 3.25.
  version=$(cmake --version | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  major=${version% *}
  minor=${version#* }
  if [ "$major" -lt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -lt 25 ]; }; then
    fail "cmake $major.$minor is too old; 3.25 or newer is needed (https://cmake.org/download, or: pip install cmake)"
  fi
fi

run cmake --workflow --preset "$job" || fail "$job failed"

if [ "$job,$dry_run" = demo,no ]; then
  echo "See $(pwd)/out: overlay.png, labels.png, result.json, cells/overlay.png, cells/result.json"
fi

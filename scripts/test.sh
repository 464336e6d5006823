#!/bin/sh
# Builds everything and runs all tests.
#   sh scripts/test.sh [PRESET ...]      default: dev
set -eu
cd "$(dirname "$0")/.."
sh scripts/install_deps.sh
[ $# -gt 0 ] || set -- dev
for preset in "$@"; do
  cmake --preset "$preset"
  cmake --build --preset "$preset"
  ctest --preset "$preset"
done

#!/bin/sh
# Runs clang-tidy with the checks of .clang-tidy over all compiled units, two at a time. Prints what it finds; nothing means that all is well.
#   sh scripts/tidy.sh [PART OF A FILE'S PATH ...]      default: the library's units and the program
# Environment: CLANG_TIDY, default clang-tidy or clang-tidy-14.
set -eu
cd "$(dirname "$0")/.."
tidy="${CLANG_TIDY:-$(command -v clang-tidy || command -v clang-tidy-14 || true)}"
[ -n "$tidy" ] || { echo "error: clang-tidy is not installed: apt-get install clang-tidy" >&2; exit 2; }
[ $# -gt 0 ] || set -- /units/ /tools/qlib/
# Units are written when the build is configured, so that nothing has to be compiled.
cmake -S . -B build/tidy -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DQLIB_BUILD_TESTS=OFF -DQLIB_BUILD_EXAMPLES=OFF \
  -DCMAKE_CXX_COMPILER_LAUNCHER= >/dev/null
files=""
for part in "$@"; do
  files="$files $(sed -n 's/^ *"file": "\(.*\)",*$/\1/p' build/tidy/compile_commands.json | grep -F -- "$part" || true)"
done
[ -n "$(echo $files)" ] || { echo "error: no unit has such a path: $*" >&2; exit 2; }
# Headers that only one unit in a program may see first (Highway's) and GCC's own flags need no word about them.
printf '%s\n' $files | sort -u | xargs -P 2 -n 1 "$tidy" -p build/tidy --quiet --extra-arg=-Wno-unknown-warning-option \
  --extra-arg=-Wno-ignored-optimization-argument 2>build/tidy/log || { status=$?; grep -E "error:|Error" build/tidy/log >&2 || true; exit $status; }

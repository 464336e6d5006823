#!/bin/sh
# Installs what the build needs, by Debian 12 package names. Says what it installs; asks for nothing that is already there.
#   sh scripts/install_deps.sh
set -eu
packages="g++ cmake ninja-build pkg-config libhwy-dev nlohmann-json3-dev libyaml-cpp-dev libpcre2-dev libutf8proc-dev libdnnl-dev libcli11-dev libfmt-dev \
libeigen3-dev doctest-dev libbenchmark-dev"
missing=""
for package in $packages; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
echo "installing:$missing" >&2
if [ "$(id -u)" -eq 0 ]; then as_root=""
elif command -v sudo >/dev/null 2>&1; then as_root="sudo"
else echo "error: not root and no sudo: install$missing, then run this again" >&2; exit 2
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null

#!/usr/bin/env bash
# Install one Debian package where that is allowed, saying which and why. Usage: debian_packages.sh PACKAGE REASON
# Exit status 0: it is installed. 1: it is not; the message says what to do.
set -euo pipefail

package=$1
reason=$2

if ! command -v apt-get >/dev/null; then
    echo "setup: $package is missing ($reason) and this is no Debian system: install it by hand" >&2
    exit 1
fi
if dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
    echo "setup: Debian package $package is there already"
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "setup: $package is missing ($reason) and may not be installed from here: sudo apt-get install $package" >&2
    exit 1
fi

echo "setup: installing Debian package $package: $reason"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package"

#!/usr/bin/env bash
# Install Debian packages in one go where that is allowed, saying which and why.
# Usage: debian_packages.sh REASON PACKAGE...
# DEBIAN_PACKAGES=no: install none, only say what is missing.
# Exit status 0: all are installed. 1: some are not; the message says what to do.
set -euo pipefail

reason=$1
shift

installed() { [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v apt-get >/dev/null; then
    echo "setup: this is no Debian system: install by hand what these packages hold: $* ($reason)" >&2
    exit 1
fi
missing=()
for package in "$@"; do
    installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: Debian packages are there already: $*"
    exit 0
fi
by_hand="sudo apt-get install --no-install-recommends ${missing[*]}"
if [ "${DEBIAN_PACKAGES:-}" = no ]; then
    echo "setup: not installed, as DEBIAN_PACKAGES=no ($reason): $by_hand" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    echo "setup: missing, and may not be installed from here ($reason): $by_hand" >&2
    exit 1
fi

echo "setup: installing Debian packages ($reason): ${missing[*]}"
# Patient with another apt that runs, not with a mirror that does not answer.
options=(-qq -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=30 -o Acquire::Retries=1)
if ! "${as_root[@]}" apt-get "${options[@]}" update ||
    ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}"; then
    echo "setup: apt-get could not install ${missing[*]} ($reason); when it can: $by_hand" >&2
    exit 1
fi

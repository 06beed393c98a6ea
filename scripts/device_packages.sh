#!/usr/bin/env bash
# The clients and libraries of real devices, as Debian packages: drivers iio and uhd need them, and the tests that let
# real clients talk to the simulated devices. Exit status 1: some are missing, and the tests that need them are skipped.
set -euo pipefail
cd "$(dirname "$0")"

exec bash debian_packages.sh \
    "drivers iio and uhd, tests against real clients; with what they need 470 packages, 1.7 GB on disk" \
    libiio0 libiio-utils iiod python3-uhd uhd-host gnuradio

"""Whether the clients of real devices are here: where one is missing, the tests that need it are skipped.

A machine that must have them all (continuous integration) says so by ``HIL_REQUIRE_CLIENTS=1``: then one that is
missing fails here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from ctypes.util import find_library
from pathlib import Path

import pytest

from drivers import uhd_interpreter
from tests.drivers.gnuradio_here import PYTHONS

SETUP = Path(__file__).parents[1] / "scripts" / "device_packages.sh"


def has_gnuradio() -> bool:
    command = ["-c", "from gnuradio import gr, iio, zeromq"]
    pythons = [path for path in map(shutil.which, PYTHONS) if path is not None]
    return any(
        subprocess.run([python, *command], capture_output=True, check=False).returncode == 0 for python in pythons
    )


#: By Debian package.
CLIENTS = {
    "libiio0": lambda: find_library("iio") is not None,
    "libiio-utils": lambda: shutil.which("iio_info") is not None,
    "iiod": lambda: shutil.which("iiod", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None,
    "python3-uhd": lambda: uhd_interpreter.first_usable() is not None,
    "uhd-host": lambda: shutil.which("uhd_usrp_probe") is not None,
    "gnuradio": has_gnuradio,
}


def test_set_up_installs_each_of_them() -> None:
    words = SETUP.read_text().split()
    assert not [package for package in CLIENTS if package not in words]


@pytest.mark.parametrize("package", CLIENTS)
def test_the_client_is_here(package: str) -> None:
    if CLIENTS[package]():
        return
    if os.environ.get("HIL_REQUIRE_CLIENTS"):
        pytest.fail(f"{package} is missing, and HIL_REQUIRE_CLIENTS is set: make devices, or apt-get install {package}")
    pytest.skip(f"Debian package {package} is not installed: tests against its clients are skipped (make devices)")

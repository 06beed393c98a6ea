"""The GNU Radio of this machine, where it has one."""

import functools
import subprocess
from pathlib import Path

import pytest

PEER = Path(__file__).with_name("gnuradio_peer.py")
PYTHONS = ("/usr/bin/python3", "python3")


@functools.cache
def _python() -> str | None:
    for python in PYTHONS:
        try:
            done = subprocess.run([python, "-c", "from gnuradio import zeromq"], capture_output=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def gnuradio_python() -> str:
    """The interpreter that has GNU Radio; skips where there is none."""
    python = _python()
    if python is None:
        pytest.skip("no Python here has GNU Radio: install the Debian package gnuradio")
    return python

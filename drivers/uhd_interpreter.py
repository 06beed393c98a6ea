"""Which Python has UHD. Distributions build its module for their own interpreter and NumPy; PyPI has none for Linux."""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

#: Oldest UHD whose interface the driver speaks.
OLDEST = (4, 0)
PACKAGE = "python3-uhd"
_TIMEOUT_S = 30.0

_PROBE = """
import sys
import numpy
import uhd
uhd.usrp.MultiUSRP, uhd.types.RXMetadata
with open("/proc/self/maps") as maps:
    names = [line.rpartition("libuhd.so.")[2].strip() for line in maps if "libuhd.so." in line]
print("found", names[0] if names else "unknown", numpy.__version__)
"""


class Interpreter(NamedTuple):
    """Attributes:
    path: Of the Python.
    version: Of its UHD; ``None``: it cannot be used.
    why_not: In words, where it cannot.
    """

    path: str
    version: str | None
    why_not: str | None = None


def candidates() -> list[str]:
    """Interpreters of this machine: the running one, the system's, what is on the path."""
    found = [sys.executable, "/usr/bin/python3", "/usr/local/bin/python3", shutil.which("python3") or ""]
    found += sorted(glob.glob("/usr/bin/python3.[0-9]*"))
    known: dict[str, str] = {}
    for path in found:
        # an environment's Python is a link to another one, but not the same: it has packages of its own
        if path and os.access(path, os.X_OK) and re.fullmatch(r"python[0-9.]*", Path(path).name):
            known.setdefault(str(Path(path).parent.resolve()) + str(Path(path).resolve()), path)
    return list(known.values())


@functools.cache
def probe(path: str) -> Interpreter:
    """Try to import UHD there; asked once a process."""
    # the environment of this interpreter would give it packages that do not fit
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    try:
        done = subprocess.run(
            [path, "-c", _PROBE], env=environment, cwd="/", capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Interpreter(path, None, f"it cannot be run: {error}")
    words = done.stdout.split()
    if done.returncode != 0 or words[:1] != ["found"]:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return Interpreter(path, None, lines[-1] if lines else f"it ended with status {done.returncode}")
    version = words[1]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return Interpreter(path, None, f"its UHD is {version}; the driver needs {'.'.join(map(str, OLDEST))} or newer")
    return Interpreter(path, version)


def find_interpreters() -> list[Interpreter]:
    """All interpreters of this machine, each with the version of its UHD or why it cannot be used."""
    return [probe(path) for path in candidates()]


def first_usable() -> Interpreter | None:
    """The first that can be used; the others are not asked."""
    return next((found for path in candidates() if (found := probe(path)).version is not None), None)

"""Libraries and programs of device families: whether they are there, and fit together."""

from __future__ import annotations

import ctypes.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

from hil.discovery.child import ChildFailed, ask_child
from hil.doctor.finding import Finding
from hil.doctor.packages import numbers

#: Time that an import may take, on a slow disk.
_IMPORT_S = 30.0
_IIO = """
import importlib.metadata, json
import iio
print(json.dumps([list(iio.version[:2]), importlib.metadata.version("pylibiio"), iio.backends]))
"""
_ADI = """
import importlib.metadata, json
import adi
print(json.dumps(importlib.metadata.version("pyadi-iio")))
"""
_GNURADIO = """
import json
from gnuradio import gr, zeromq
print(json.dumps(gr.version()))
"""
_GNURADIO_OLDEST = (3, 8)


class HasUhd(Protocol):
    """An interpreter, and what became of importing uhd there."""

    @property
    def path(self) -> str: ...
    @property
    def version(self) -> str | None: ...
    @property
    def why_not(self) -> str | None: ...


def check_iio() -> Iterator[Finding]:
    """libiio, its binding and pyadi-iio, as this interpreter imports them."""
    if ctypes.util.find_library("iio") is None:
        yield Finding("devices", "libiio", "warn", "not installed: no IIO radios", "sudo apt-get install libiio0")
    else:
        yield _check_binding()
        try:
            version = ask_child([sys.executable, "-c", _ADI], _IMPORT_S)
            yield Finding("devices", "pyadi-iio", "ok", str(version))
        except ChildFailed as error:
            yield Finding("devices", "pyadi-iio", "warn", str(error), "pip install 'hil-receiver[iio]'")
    yield _check_programs("libiio's tools", ("iio_info", "iio_readdev"), "libiio-utils")


def _check_binding() -> Finding:
    what = "libiio and pylibiio"
    try:
        library, binding, backends = ask_child([sys.executable, "-c", _IIO], _IMPORT_S)
    except ChildFailed as error:
        fix = "pip install 'pylibiio<1', as pylibiio 1.x needs libiio 1.x"
        return Finding("devices", what, "warn", f"iio cannot be imported: {error}", fix)
    says = f"libiio {library[0]}.{library[1]}, pylibiio {binding}, backends {' '.join(backends)}"
    if library[0] != numbers(binding)[0]:
        return Finding("devices", what, "warn", f"{says} do not fit", "pip install 'pylibiio<1' for libiio 0.x")
    return Finding("devices", what, "ok", says)


def check_uhd(interpreters: Sequence[HasUhd]) -> Iterator[Finding]:
    """The interpreters of this host, of which one must have UHD."""
    usable = [i for i in interpreters if i.version is not None]
    if usable:
        says = f"{usable[0].version} under {usable[0].path}, which the driver uhd takes"
        yield Finding("devices", "UHD", "ok", says)
    else:
        why = "; ".join(f"{i.path}: {i.why_not}" for i in interpreters) or "no interpreter was found"
        yield Finding(
            "devices", "UHD", "warn", f"no Python here can import it: {why}", "sudo apt-get install python3-uhd"
        )
    programs = _check_programs("UHD's tools", ("uhd_find_devices", "uhd_usrp_probe"), "uhd-host")
    version = _uhd_tools_version() if programs.state == "ok" else ""
    if usable and version and numbers(version)[:2] != numbers(str(usable[0].version))[:2]:
        says = (
            f"of version {version}, the driver's is {usable[0].version}: one of them will not fit a device's firmware"
        )
        programs = Finding("devices", programs.what, "warn", says, "install uhd-host and python3-uhd of one release")
    yield programs


def _uhd_tools_version() -> str:
    """``"4.3.0"``, empty where the tools do not say."""
    try:
        done = subprocess.run(
            ["uhd_config_info", "--version"], capture_output=True, text=True, timeout=_IMPORT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"UHD (\d+\.\d+\.\d+)", done.stdout)
    return match[1] if match else ""


def check_gnuradio(python: str = "/usr/bin/python3") -> Iterator[Finding]:
    """GNU Radio, which no driver needs: its flowgraphs may run on another host."""
    try:
        version = str(ask_child([python, "-c", _GNURADIO], _IMPORT_S, clean=True))
    except ChildFailed as error:
        says = f"not here ({error}); the driver gnuradio needs none, as it speaks ZeroMQ to it"
        yield Finding("devices", "GNU Radio", "warn", says, "sudo apt-get install gnuradio, to run flowgraphs here")
        return
    if numbers(version) < _GNURADIO_OLDEST:
        yield Finding("devices", "GNU Radio", "warn", version, "version 3.8 or newer, whose tags are of this form")
    else:
        yield Finding("devices", "GNU Radio", "ok", f"{version} under {python}")


def _check_programs(what: str, names: Sequence[str], package: str) -> Finding:
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        return Finding("devices", what, "warn", f"missing: {', '.join(missing)}", f"sudo apt-get install {package}")
    return Finding("devices", what, "ok", ", ".join(names))

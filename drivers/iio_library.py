"""libiio and its Python bindings, imported when a device is opened; what is wrong with them said in one sentence."""

from __future__ import annotations

import errno
import importlib
import socket
from ctypes.util import find_library
from types import ModuleType
from typing import NamedTuple

#: Port of iiod where an address names none.
DEFAULT_PORT = 30431


class Trouble(NamedTuple):
    """Why something cannot be, and what to do; :meth:`drivers.base.Driver.failure` makes an error of it."""

    what: str
    why: str
    fix: str


class IioTrouble(Exception):
    """Carries a :class:`Trouble` to the driver."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}; {fix}")
        self.trouble = Trouble(what, why, fix)


def import_libiio() -> ModuleType:
    """Return the module ``iio`` of pylibiio 0.x on libiio 0.x.

    Raises:
        IioTrouble: One of the two is missing, or their versions differ.
    """
    what = "libiio cannot be used"
    if find_library("iio") is None:
        raise IioTrouble(what, "the system has no libiio.so", "install the Debian package libiio0")
    try:
        iio = importlib.import_module("iio")
    except ModuleNotFoundError as error:
        raise IioTrouble(what, str(error), "pip install 'hil-receiver[iio]' (it brings pylibiio<1)") from error
    except (AttributeError, OSError, TypeError) as error:
        raise IioTrouble(
            what,
            f"the module iio does not fit the system's library ({error})",
            "pylibiio 1.x needs libiio 1.x, which Debian has not: pip install 'pylibiio<1'",
        ) from error
    version = getattr(iio, "version", None)
    if version is None or version[0] != 0:
        raise IioTrouble(
            what,
            f"libiio 0.x is needed, the library is {version}",
            "install the Debian package libiio0 and pip install 'pylibiio<1'",
        )
    return iio


def import_adi() -> ModuleType:
    """Return the module ``adi`` of pyadi-iio.

    Raises:
        IioTrouble: It is missing.
    """
    try:
        return importlib.import_module("adi")
    except ImportError as error:
        raise IioTrouble("pyadi-iio cannot be used", str(error), "pip install 'hil-receiver[iio]'") from error


def probe(uri: str, timeout_s: float) -> None:
    """See whether something listens at an ``ip:`` address: libiio itself waits long and says little.

    Raises:
        IioTrouble: Nothing does, or the address is none.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in ("ip", "usb", "local", "serial", "xml"):
        raise IioTrouble(f"{uri!r} is no address", "it names no backend", "write ip:HOST, ip:HOST:PORT, usb: or local:")
    if scheme != "ip" or not rest:
        return
    host, port = _host_and_port(uri, rest)
    try:
        socket.create_connection((host, port), timeout_s).close()
    except socket.gaierror as error:
        raise IioTrouble(f"no IIO device at {uri}", f"the name {host} is not known", "correct uri") from error
    except TimeoutError as error:
        raise IioTrouble(
            f"no IIO device at {uri}", f"no answer in {timeout_s:g} s", "see to cable, power and address"
        ) from error
    except ConnectionRefusedError as error:
        raise IioTrouble(
            f"no IIO device at {uri}", f"nothing listens on port {port}", "start iiod there, or correct uri"
        ) from error
    except OSError as error:
        raise IioTrouble(f"no IIO device at {uri}", str(error), "see to cable, power and address") from error


def _host_and_port(uri: str, rest: str) -> tuple[str, int]:
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
    else:
        host, _, port = rest.partition(":") if rest.count(":") == 1 else (rest, "", "")
    if not port:
        return host, DEFAULT_PORT
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise IioTrouble(f"{uri!r} is no address", f"{port!r} is no port", "write ip:HOST or ip:HOST:PORT")
    return host, int(port)


def why(error: OSError) -> tuple[str, str]:
    """What an error number of libiio means here, and what to do."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return "permission denied", "join the group plugdev (USB), or let iiod run as root; see docs/devices/iio.md"
        case errno.EBUSY:
            return "another program has it", "close the other program, or use its iiod over ip:"
        case errno.ETIMEDOUT:
            return "no answer in time", "see to cable and power, and whether the device streams (clocks, triggers)"
        case errno.ENOMEM:
            return "the device has no memory for such buffers", "choose a smaller n_samples"
        case errno.ENODEV | errno.ENXIO | errno.ENOENT:
            return f"there is none ({error.strerror})", "iio_info -S lists the devices there are, iio_info -u URI one's"
    return str(error), "see iio_info -u URI, and the device's own log"

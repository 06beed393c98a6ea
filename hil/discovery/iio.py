"""IIO contexts: what libiio finds on USB and by multicast DNS, and what answers at an address."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from hil.discovery.child import ChildFailed, ask_child
from hil.discovery.exchange import exchange
from hil.discovery.found import Found

PORT = 30431
#: Complex channels of the devices with buffered input, by name; the receiver is the one with most of them.
_LOOK = """
import json, sys
import iio
context = iio.Context(sys.argv[1])
told = {}
for device in context.devices:
    scan = [c for c in device.channels if c.scan_element and not c.output]
    if len(scan) > 1:
        told[device.name or device.id] = len(scan) // 2
print(json.dumps({"name": context.attrs.get("hw_model") or context.description, "receivers": told,
                  "names": [d.name for d in context.devices if d.name]}))
"""
_SCANNED = re.compile(r"^\s*\d+: (.*) \[(.*)\]\s*$")


def scan(timeout_s: float) -> list[Found]:
    """Search USB, this host and, where an Avahi daemon runs, the network.

    Raises:
        ChildFailed: libiio's tools are not installed, or hang.
    """
    program = shutil.which("iio_info")
    if program is None:
        raise ChildFailed("iio_info is missing: sudo apt-get install libiio-utils")
    uris: dict[str, str] = {}
    # One after the other, as a failure of one (no Avahi daemon, no USB) would hide what the others found.
    for backend in ("usb", "local", "ip"):
        try:
            done = subprocess.run(
                [program, "-S", backend], capture_output=True, text=True, timeout=timeout_s / 3, check=False
            )
        except subprocess.TimeoutExpired:
            continue
        for line in done.stdout.splitlines():
            match = _SCANNED.match(line)
            if match:
                uris[match[2]] = match[1]
    return [ask_uri(uri, timeout_s) or Found("iio", uri, "iio", name=name) for uri, name in uris.items()]


def ask(host: str, port: int, timeout_s: float) -> Found | None:
    """See whether an iiod listens there, and what it has."""
    came = exchange(host, port, b"VERSION\r\n", 8, min(timeout_s, 2.0), b"EXIT\r\n")
    if came is None or not re.match(rb"\d+\.\d+\.", came):
        return None
    uri = f"ip:{host}" if port == PORT else f"ip:{host}:{port}"
    return ask_uri(uri, timeout_s) or Found("iio", uri, "iio")


def ask_uri(uri: str, timeout_s: float) -> Found | None:
    """Open the context in a process of its own; ``None`` where it cannot be."""
    try:
        told = ask_child([sys.executable, "-c", _LOOK, uri], timeout_s)
    except ChildFailed:
        return None
    receivers = {name: n for name, n in told["receivers"].items() if n}
    chips = [name for name in told["names"] if re.match(r"ad9\d\d\d|adrv", name)]
    kind = " ".join(["iio", *(["fmcomms5"] if "ad9361-phy-B" in chips else [c.partition("-")[0] for c in chips[:1]])])
    return Found(kind, uri, "iio", max(receivers.values(), default=0), told["name"], {"receivers": receivers})

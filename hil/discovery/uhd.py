"""USRPs: what UHD finds, asked under an interpreter that has it."""

from __future__ import annotations

from typing import Any

from hil.discovery.child import ask_child
from hil.discovery.found import Found

_FIND = """
import json, sys
import uhd
found = []
for args in sys.argv[1:]:
    found += [device.to_dict() for device in uhd.find(args)]
print(json.dumps(found))
"""
#: Receive channels by product, where it has always the same.
_CHANNELS = {"b200": 1, "b210": 2, "e310": 2, "e320": 2, "n300": 2, "n310": 4, "n320": 2, "n321": 2, "x410": 4}
#: What tells one device from another, best first.
_ADDRESS_KEYS = ("addr", "mgmt_addr", "serial", "resource", "name")


def find(interpreter: str, arguments: list[str], timeout_s: float) -> list[Found]:
    """Ask UHD for each of the device arguments, ``""`` for all that it finds by itself.

    Args:
        interpreter: A Python that can import uhd.

    Raises:
        ChildFailed: It could not be asked.
    """
    told = ask_child([interpreter, "-c", _FIND, *arguments], timeout_s, clean=True)
    found: dict[str, Found] = {}
    for device in told:
        one = _found(device)
        found.setdefault(str(device.get("serial") or one.address), one)
    return list(found.values())


def _found(device: dict[str, Any]) -> Found:
    key = next((key for key in _ADDRESS_KEYS if device.get(key)), "type")
    address = f"{'addr' if key == 'mgmt_addr' else key}={device.get(key, '')}"
    product = str(device.get("product") or device.get("type") or "").lower()
    details = {k: v for k, v in device.items() if k in ("serial", "product", "type", "claimed", "fpga")}
    return Found(
        f"usrp {product}".strip(), address, "uhd", _CHANNELS.get(product), str(device.get("name", "")), details
    )

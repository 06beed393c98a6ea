"""Simulated devices that run on this host, by the notes that they leave."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from hil.array_params import Array, build_array
from hil.discovery.found import Found
from hil.errors import HilError
from hil.runtime import registry
from hil.runtime.control import ControlClient


def find(timeout_s: float) -> list[Found]:
    """Ask each what it is; one that does not answer is listed by its note."""
    found = []
    for note in registry.running():
        if note["kind"] != "device" or "uri" not in note:
            continue
        told: dict[str, Any] = {}
        with contextlib.suppress(HilError), ControlClient(note["control"], timeout_s) as client:
            told = client.request("describe")
        details = {"control": note["control"], "pid": note["pid"]}
        name = str(note["name"])
        driver = "xl_array" if note["uri"].startswith("tcp://") and name == "xl-array" else None
        found.append(Found(name, note["uri"], driver, _channels(told), f"hil sim {name}", details, simulated=True))
    return found


def _channels(told: dict[str, Any]) -> int | None:
    """Of the simulated array behind the device."""
    params = told.get("device") or told.get("params") or {}
    try:
        array = msgspec.convert(params["array"], Array)
        return len(build_array(array, 0, params.get("frequency_hz")).channel_map)
    except (KeyError, HilError, msgspec.ValidationError):
        return None

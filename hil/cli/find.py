"""Running graphs and devices, by address, name or process number."""

from __future__ import annotations

from typing import Any

from hil.errors import ControlError
from hil.runtime import registry


def find_control(wanted: str | None = None) -> str:
    """Address of a control plane.

    Args:
        wanted: An address, or the name or process number of what runs on this host; ``None``: the only graph that
            runs, or else the only device.

    Raises:
        ControlError: Nothing runs, nothing of that name, or it is not clear which; lists what runs.
    """
    if wanted is not None and "://" in wanted:
        return wanted
    notes = registry.running()
    if wanted is not None:
        found = [n for n in notes if wanted in (n["name"], str(n["pid"]))]
    else:
        found = [n for n in notes if n["kind"] == "graph"] or notes
    if len(found) == 1:
        return str(found[0]["control"])
    listed = ", ".join(f"{n['name']} (process {n['pid']}) at {n['control']}" for n in found or notes)
    if not notes:
        raise ControlError("nothing runs here: start something with hil run or hil sim, or give an address, tcp://...")
    if not found:
        raise ControlError(f"nothing named {wanted!r} runs here, but {listed}")
    raise ControlError(f"say which one, by address or process number: {listed}")


def is_target(word: str) -> bool:
    """Whether ``word`` is an address or the name or process number of what runs here."""
    return "://" in word or any(word in (n["name"], str(n["pid"])) for n in registry.running())


def running() -> list[dict[str, Any]]:
    """Notes of all that runs on this host, newest first."""
    return registry.running()

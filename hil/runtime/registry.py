"""Which graphs and devices run on this host, so that ``hil top`` and ``hil ctl`` find them without an address."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def directory() -> Path:
    """Where running graphs leave a note, readable by this user only."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    path = Path(base) / "hil" if base else Path(tempfile.gettempdir()) / f"hil-runs-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def registered(name: str, control: str, kind: str = "graph", **more: str) -> Iterator[None]:
    """Leave a note while the context lasts: where it is controlled, and ``more`` that others want to know."""
    path = directory() / f"{kind}-{os.getpid()}-{name.replace('/', '_')}.json"
    note = {"name": name, "kind": kind, "pid": os.getpid(), "control": control, "started_ns": time.time_ns()}
    note |= more
    path.write_text(json.dumps(note))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running() -> list[dict[str, Any]]:
    """Notes of what still runs, newest first; notes of the dead are removed."""
    found = []
    for path in directory().glob("*.json"):
        try:
            note = json.loads(path.read_text())
            os.kill(int(note["pid"]), 0)
        except (OSError, ValueError, KeyError):
            path.unlink(missing_ok=True)
            continue
        found.append(note)
    return sorted(found, key=lambda n: -n["started_ns"])

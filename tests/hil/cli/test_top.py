"""What ``hil top --once`` prints where there is little room."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from hil.cli.top import _print, _Sample

NODE = "a_node_with_a_name_that_is_rather_long"
EDGE = f"{NODE}.positions -> another_node_with_a_long_name.estimates"


def stats() -> dict[str, Any]:
    times = {"p50_ms": 1.5, "p99_ms": 3.25}
    node = {"frames_out": 123456, "frames_in": 0, "skipped": 7, "stats": {"says_much": 1, "and_more" * 20: 2.5}}
    edge = {"frames": 99, "bytes": 3, "depth": 1, "capacity": 16, "dropped": 0, "lost_in_flight": 0, "blocked_ms": 1.0}
    return {
        "graph": "g",
        "drops": {},
        "events": [],
        "nodes": {NODE: node},
        "latency": {NODE: {"service": times, "age": times}},
        "edges": {EDGE: edge},
    }


@pytest.mark.parametrize("columns", [40, 100, 140, 400])
def test_nothing_is_cut(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    _print(_Sample(stats()), None)
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith(NODE) and "123456" in line).split()
    assert row[:8] == [NODE, "123456", "-", "1.5", "3.25", "1.5", "3.25", "7"]
    assert row[8:] == ["says_much", "1,", "and_more" * 20, "2.5"]
    assert any(line.startswith(f"{EDGE} ") and "1/16" in line for line in lines)

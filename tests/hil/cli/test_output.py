"""What people see: the live table, progress, words for a frame."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
from rich.console import Console

from hil.cli.output import LiveTable, Progress, line_of, make_printer, nearest_truth_m, spread_m, write_json
from hil.cli.session import event_words


def source(**known: Any) -> dict[str, Any]:
    keys = ("id", "azimuth_rad", "elevation_rad", "range_m", "x_m", "y_m", "z_m", "covariance", "power_db")
    return {**dict.fromkeys(keys), **known}


def record(*sources: dict[str, Any], truth: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {"t_ns": 1, "seq": 4, "epoch": 0, "calibration": "none", "sources": [*sources], "truth": truth, **more}


def drawn(table: LiveTable) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table._render())
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


HERE = source(id=3, x_m=1.0, y_m=2.0, z_m=2.0, azimuth_rad=math.pi / 6, covariance=[[1.0, 0, 0], [0, 4, 0], [0, 0, 4]])


def test_the_live_table_shows_the_newest_frame() -> None:
    table = LiveTable("mine", seconds=10)
    assert "mine: starting" in drawn(table)
    table.show(record(source(id=99)))
    table.show(record(HERE, truth=[source(x_m=1.0, y_m=2.0, z_m=4.5)]))
    text = drawn(table)
    assert "of 10 s, 2 frames" in text
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["3"])
    # id, azimuth, range, x, y, z, deviation, power, error
    assert row == ["3", "30.000", "-", "1.000", "2.000", "2.000", "3.000", "-", "2.500"]
    assert "99" not in text


def test_the_live_table_shows_poses_and_frames() -> None:
    table = LiveTable("mine")
    table.show(record(pose={"x_m": 1.0, "y_m": 2.0, "z_m": 0.0, "heading_rad": math.pi / 2, "covariance": None}))
    assert "here: x 1.00 y 2.00 m, heading 90.0°" in drawn(table)
    listed = {"stream": "a.iq", "arrays": {"iq": {"dtype": "complex64", "axes": ["sensor"], "shape": [4]}}}
    table.show({k: v for k, v in record(**listed).items() if k not in ("sources", "truth")})
    assert "a.iq: iq complex64 [4]" in drawn(table)


def test_words() -> None:
    assert line_of(record()).endswith("#4  no source")
    assert "calibration stale" in line_of({**record(), "calibration": "stale"})
    assert line_of({**record(), "t_ns": None}) == "#4  no source"
    assert line_of({**record(), "t_ns": 1_700_000_000_123_000_000}).startswith("22:13:20.123 #4")
    assert spread_m(HERE) == 3.0 and spread_m(source()) is None
    assert nearest_truth_m(HERE, []) is None and nearest_truth_m(source(), [HERE]) is None


def test_progress_counts() -> None:
    progress = Progress("mine", None, 20)
    progress.n_frames = 5
    assert progress.text().startswith("mine: 0 s, 5 of 20 frames")


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"a": math.inf, "b": math.nan, "c": [1.5]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": None, "c": [1.5]}


def test_ticks_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (True, False):
        with make_printer("mine", as_json=as_json) as printer:
            printer.tick()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ""),
        ({"seconds": 2.0718}, " after 2.1 s"),
        ({"why": "it's gone", "seconds": 0.0}, " after 0.0 s: it's gone"),
        ({"samples": None, "frequency_hz": 434.5e6, "n": 3}, " frequency_hz 4.345e+08, n 3"),
    ],
)
def test_events_are_told_in_words(values: dict[str, Any], words: str) -> None:
    assert event_words(values) == words

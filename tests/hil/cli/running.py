"""Calling ``hil`` in tests: in this process, or as one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from hil.cli import app

CIRCLING = str(Path(__file__).with_name("circling.py"))
POSITION_KEYS = ["t_ns", "seq", "epoch", "calibration", "sources", "truth"]
SOURCE_KEYS = ["id", "azimuth_rad", "elevation_rad", "range_m", "x_m", "y_m", "z_m", "covariance", "power_db"]


def hil(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from hil.cli import main; main()", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **options})


def lines_of(text: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records and summary of what ``--json`` printed."""
    records = [json.loads(line, parse_constant=_refuse) for line in text.splitlines()]
    assert list(records[-1]) == ["summary"]
    return records[:-1], records[-1]["summary"]


def check_records(records: list[dict[str, Any]]) -> None:
    """Each line has exactly the keys that were promised."""
    for record in records:
        assert list(record)[:6] == POSITION_KEYS
        assert set(record) - set(POSITION_KEYS) <= {"pose"}
        for source in [*record["sources"], *(record["truth"] or [])]:
            assert list(source) == SOURCE_KEYS


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")

"""Each benchmark runs and tells rows that are whole. What they say is not asserted here, except where it is a count."""

import json
import math
import subprocess
import sys

import pytest

from benchmarks.losses import Came, account

KEYS = {"benchmark", "case", "metric", "value", "unit", "n", "ci95", "against", "ratio", "target", "meets", "machine"}


def rows_of(name):
    command = [sys.executable, "-W", "error", "-m", f"benchmarks.{name}", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        assert set(row) >= KEYS and row["benchmark"] == name
        assert math.isfinite(row["value"]) and row["n"] >= 1
        assert (row["target"] is None) == (row["meets"] is None)
        assert row["ci95"] is None or row["ci95"][0] <= row["value"] <= row["ci95"][1]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transport", "overhead", "end_to_end"])
def test_rows_are_whole(name):
    rows = rows_of(name)
    assert any(row["target"] is not None for row in rows)


@pytest.mark.slow
def test_every_loss_is_accounted():
    rows = rows_of("losses")
    wrong = [r for r in rows if r["unit"] == "frames" and r["meets"] is False]
    assert not wrong


def test_account_finds_what_is_not_told():
    told = [Came(0, 0, 0.0), Came(1, 0, 0.1), Came(4, 2, 0.5)]
    assert account(told, 1, 6) == (3, 0, 0, 0)
    assert account(told, 0, 6) == (3, 1, 0, 0)
    silent = [Came(0, 0, 0.0), Came(2, 0, 0.1), Came(2, 0, 0.2)]
    assert account(silent, 0, 3) == (1, 1, 0, 1)
    assert account([Came(0, 1, 0.0)], 0, 1) == (0, 0, 1, 0)

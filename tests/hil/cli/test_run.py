"""``hil run``: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.hil.cli.running import CIRCLING, check_records, hil, lines_of, start


def test_json_lines_and_summary() -> None:
    result = hil("run", CIRCLING, "--json", "--inline")
    assert result.exit_code == 0, result.stderr
    records, summary = lines_of(result.stdout)
    check_records(records)
    assert [r["seq"] for r in records] == list(range(20))
    first = records[0]
    assert (first["t_ns"], first["epoch"], first["calibration"]) == (0, 2, "none")
    assert [s["id"] for s in first["sources"]] == [7, 8]
    assert first["sources"][0]["covariance"][0] == [0.01, 0.0, 0.0]
    assert first["truth"][0]["range_m"] == pytest.approx(13.0)  # by the array of the descriptor
    assert summary["frames"] == 20 and summary["drops"] == {}
    assert summary["rmse_m"] == pytest.approx(0.25)
    assert (summary["missed"], summary["false"]) == (0, 0)
    # the median comes from a histogram
    assert summary["median_error_m"] == pytest.approx(0.25, rel=0.01)
    stage = summary["latency"]["stages"]["evaluate"]
    assert stage["n"] == 40 and 0 <= stage["p50_ms"] <= stage["p99_ms"]


def test_plain_lines_and_summary_for_people() -> None:
    result = hil("run", CIRCLING, "--inline", "--set", "source.error_m=0.5")
    assert result.exit_code == 0, result.stderr
    assert "7: x 0.50 y 13.00" in result.stdout
    assert "circling: 20 frames" in result.stdout and "0.500" in result.stdout
    assert "\x1b[" not in result.stdout


def test_frames_limit_and_settings() -> None:
    records, summary = lines_of(hil("run", CIRCLING, "--json", "--inline", "--frames", "4").stdout)
    assert len(records) == summary["frames"] == 4
    _, summary = lines_of(hil("run", CIRCLING, "--json", "--inline", "--set", "source.n_frames=7").stdout)
    assert summary["frames"] == 7


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "nope"], "no flowgraph 'nope': there are .*flowgraphs.near_field_music"),
        (["run"], "which flowgraph\\? there are"),
        (["run", "nope.py"], "there is no such file"),
        (["run", "hil.errors"], "is no flowgraph: expected a class Settings"),
        (["run", CIRCLING, "--set", "group.depth=99"], "group.depth=99: Expected `int` <= 9"),
        (["run", CIRCLING, "--set", "sauce=1"], "no setting 'sauce'.* settings: source.n_frames"),
        (["run", CIRCLING, "--inline", "--set", "source.fail_at=0"], "the cable is out: plug it in"),
        (["run", CIRCLING, "--picture", "x.bmp"], "x.bmp: expected a picture's name"),
        (["run", CIRCLING, "--record", "x.wav"], "x.wav: expected a name that ends in .mcap"),
        (["replay", "nothing.mcap"], "nothing.mcap"),
        (["replay", "nothing.txt"], "nothing.txt is no recording"),
        (["replay", "a.mcap", "--into", "x", "--estimator", "y"], "not both"),
        (["inspect", "nothing.mcap"], "cannot read nothing.mcap"),
        (["record", "nodriver", "x.mcap"], "no driver 'nodriver': there are .*xl_array"),
        (["record", "hil.errors:HilError", "x.mcap"], "is no driver"),
        (["sim", "toaster"], "no simulated device 'toaster': there are xl-array"),
        (["sim", "xl-array", "--set", "n_snapshots=0"], "n_snapshots"),
        (["ctl", "tcp://127.0.0.1:1"], "which verb"),
        (["ctl", "tcp://127.0.0.1:1", "describe", "--timeout", "0.05"], "did not answer 'describe'"),
        (["ctl", "tcp://127.0.0.1:1", "stats", "x", "--timeout", "0.05"], "stats: expected KEY=VALUE, got 'x'"),
    ],
)
def test_refusals_are_one_line_on_stderr(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hil(*words)
    assert result.exit_code == 1
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("hil: ") and "Traceback" not in result.stderr
    assert re.search(text, last), last


def test_traceback_only_when_asked() -> None:
    result = hil("run", CIRCLING, "-v", "--set", "group.depth=99")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr and result.stderr.strip().splitlines()[-1].startswith("hil: ")


def test_unknown_option_is_a_usage_error() -> None:
    assert hil("run", "--nonsense").exit_code == 2


def test_settings_are_listed() -> None:
    result = hil("run", CIRCLING, "--help-settings")
    assert result.exit_code == 0
    assert "group.depth" in result.stdout and ">= 1, <= 9" in result.stdout and "how deep" in result.stdout


def test_ctrl_c_drains_and_prints_the_summary() -> None:
    process = start("run", CIRCLING, "--json", "--set", "source.n_frames=1000000", "--set", "source.period_s=0.01")
    try:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    records, summary = lines_of("".join(seen) + rest)
    assert [r["seq"] for r in records] == list(range(len(records)))
    assert summary["frames"] == len(records) >= 5


def test_a_reader_that_leaves_ends_the_run_quietly() -> None:
    process = start("run", CIRCLING, "--json", "--set", "source.n_frames=1000000", "--set", "source.period_s=0.01")
    try:
        assert process.stdout is not None and process.stderr is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 0
        assert errors == ""
        process.stderr.close()
    finally:
        process.kill()


def test_colour_only_where_it_is_wanted() -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    process = start("--help", env=environment)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "\x1b[3" not in out


def test_help_teaches() -> None:
    out = hil("--help").stdout
    for command in ("run", "replay", "record", "inspect", "sim", "top", "ctl"):
        assert command in out
        assert f"hil {command}" in hil(command, "--help").stdout
    assert "hil run near_field_music --for 10" in out

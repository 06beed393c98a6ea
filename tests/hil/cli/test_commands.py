"""``record``, ``replay``, ``inspect``, ``sim``, ``top``, ``ctl``: together, as one would use them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.cli.inspect import _cells, _ranges
from tests.hil.cli.running import CIRCLING, check_records, hil, lines_of, start


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others run on this host is not found."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def slow_run() -> Iterator[subprocess.Popen[str]]:
    long = ("--set", "source.n_frames=1000000", "--set", "source.period_s=0.005")
    process = start("run", CIRCLING, "--json", *long, stdout=subprocess.DEVNULL)
    until(lambda: "evaluate" in json.loads(hil("top", "--once", "--json").stdout or '{"nodes": {}}')["nodes"])
    yield process
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


@pytest.fixture
def device() -> Iterator[dict[str, Any]]:
    scene = '[{"id": 1, "motion": {"kind": "stand", "position_m": [3, 20, 0]}}]'
    process = start("sim", "xl-array", "--json", "--set", f"sources={scene}", "--set", "frame_period_s=0.02")
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_recorded_run_replays_to_the_same_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "run.mcap")
    live = hil("run", CIRCLING, "--json", "--inline", "--record", path)
    assert live.exit_code == 0, live.stderr
    records, summary = lines_of(live.stdout)
    assert summary["stats"]["recorder"]["frames"] > 0

    as_recorded, _ = lines_of(hil("replay", path, "--json").stdout)
    assert as_recorded == records
    through, again = lines_of(hil("replay", path, "--into", CIRCLING, "--json").stdout)
    assert through == records
    assert again["rmse_m"] == summary["rmse_m"]

    told = json.loads(hil("inspect", path, "--json").stdout)
    assert set(told["streams"]) == {"circling.positions", "circling.truth"}
    assert told["streams"]["circling.positions"]["frames"] == 20
    words = hil("inspect", path).stdout
    assert "circling.truth" in words and "aperture 0.090 m" in words

    refused = hil("run", CIRCLING, "--inline", "--record", path)
    assert refused.exit_code == 1 and "--overwrite" in refused.stderr
    assert hil("run", CIRCLING, "--inline", "--record", path, "--overwrite").exit_code == 0


def test_replay_says_which_stream_is_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "run.mcap")
    assert hil("run", CIRCLING, "--inline", "--record", path).exit_code == 0
    result = hil("replay", path, "--into", "near_field_music")
    assert result.exit_code == 1
    assert "the recording has none for sim.iq (of circling" in result.stderr
    result = hil("replay", path, "--set", "x=1")
    assert result.exit_code == 1 and "--set needs --into" in result.stderr


def test_picture_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "run.png"
    result = hil("run", CIRCLING, "--inline", "--json", "--picture", str(path))
    assert result.exit_code == 0, result.stderr
    assert path.read_bytes().startswith(b"\x89PNG")
    assert lines_of(result.stdout)[1]["picture"] == str(path)


def test_top_and_ctl_talk_to_what_runs(slow_run: subprocess.Popen[str]) -> None:
    (note,) = (json.loads(line) for line in hil("ctl", "--list", "--json").stdout.splitlines())
    assert (note["name"], note["kind"], note["pid"]) == ("circling", "graph", slow_run.pid)
    described = json.loads(hil("ctl", "describe", "--json").stdout)
    assert set(described["nodes"]) == {"circling", "evaluate"}
    assert json.loads(hil("ctl", "circling", "get", "circling.period_s").stdout) == 0.005
    assert hil("ctl", "set", "evaluate.gate_m=2.5").exit_code == 0
    assert json.loads(hil("ctl", str(slow_run.pid), "get", "evaluate.gate_m").stdout) == 2.5
    refused = hil("ctl", "set", "evaluate.gate_m=-1")
    assert refused.exit_code == 1 and "gate_m" in refused.stderr and "> 0" in refused.stderr
    n_frames = 0
    while n_frames == 0:  # workers report a few times a second
        n_frames = json.loads(hil("top", "--once", "--json").stdout)["nodes"]["circling"]["frames_out"]
    words = hil("top", "--once").stdout
    assert "circling.truth -> evaluate.truth" in words and "tap-" not in words


def test_nothing_runs() -> None:
    result = hil("top", "--once")
    assert result.exit_code == 1 and "nothing runs here" in result.stderr
    assert hil("ctl", "--list").exit_code == 0


@pytest.mark.slow
def test_device_is_recorded_and_commanded(device: dict[str, Any], tmp_path: Path) -> None:
    address = device["endpoint"]
    assert json.loads(hil("ctl", "xl-array", "get", "n_snapshots").stdout) == 100
    assert json.loads(hil("ctl", device["control"], "inject_fault", "element=3", "kind=dead").stdout) == [3]
    refused = hil("ctl", "xl-array", "inject_fault", "element=99")
    assert refused.exit_code == 1 and "elements 0 to 63" in refused.stderr

    for name in ("field.mcap", "field.sigmf-meta"):
        path = str(tmp_path / name)
        recorded = hil("record", address, path, "--frames", "20", "--json")
        assert recorded.exit_code == 0, recorded.stderr
        assert json.loads(recorded.stdout.splitlines()[-1])["summary"]["frames"] == 20
        result = hil("replay", path, "--estimator", "near_field_music", "--set", "parameters.n_sources=1", "--json")
        assert result.exit_code == 0, result.stderr
        records, summary = lines_of(result.stdout)
        check_records(records)
        # the bound at 20 m is 0.08 m; one element of 64 is dead
        assert summary["evaluation"]["single_frame"]["rmse_m"] < 0.5
        listed = hil("replay", path, "--json")
        assert json.loads(listed.stdout.splitlines()[0])["stream"] in ("replay.iq", "replay.truth")


def test_epochs_are_told_in_runs() -> None:
    assert _ranges([0, 1, 2, 5, 7, 8]) == "0..2, 5, 7..8" and _ranges([3]) == "3" and _ranges([]) == ""


def test_what_was_lost_is_told_by_kind() -> None:
    stream = {
        "frames": 9, "frames_per_s": 2.0, "first_seq": 0, "last_seq": 12, "epochs": [0], "missing": None,
        "lost": {"frames": 3, "samples": 1500, "clipped": 0}, "calibration": {"none": 9}, "arrays": {},
    }  # fmt: skip
    whole = {**stream, "lost": {"frames": 0, "samples": 0, "clipped": 0}}
    assert _cells(stream)[5] == "3 frames, 1500 samples" and _cells(whole)[5] == "0"

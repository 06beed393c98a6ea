"""What the benchmark of drivers counts: ages, losses, turns."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from benchmarks.drivers import heimdall, rig
from benchmarks.drivers.meter import age_of
from drivers.base import Driver
from hil.frame import Frame, Header, Loss
from hil.source import Reading

RATE_HZ = 1e6


def frame(n: int = 100, kind: str = "data", **header: Any) -> Frame:
    samples = np.zeros((2, n), np.complex64)
    return Frame.of(Header(stream="r.iq", seq=0, kind=kind, **header), iq=(samples, "sensor snapshot", "FS"))  # type: ignore[arg-type]


def test_age_is_that_of_the_last_sample() -> None:
    at: dict[str, Any] = {"time_ns": 5_000_000, "sample_rate_hz": RATE_HZ}
    assert age_of(frame(timebase="utc", **at), 6_000_000) == pytest.approx(1e-3 - 100e-6)
    assert age_of(frame(timebase="device", host_time_ns=2_000_000, **at), 6_000_000) == pytest.approx(4e-3)
    assert age_of(frame(timebase="device", **at), 6_000_000) is None
    assert age_of(frame(kind="event"), 6_000_000) is None


class Queued(Driver):
    """Gives frames that were made before, one a read, then the last one again and again."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__("queued")
        self._frames = frames

    def read(self, timeout_s: float) -> Reading:
        return [("iq", self._frames.pop(0) if len(self._frames) > 1 else self._frames[0])]


def test_what_is_lost_before_the_first_frame_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "_SETTLE_S", 0.0)
    lost = [Loss(7, 700), Loss(1, 100), Loss(2, 50), Loss()]
    read = rig.read_by_clock(Queued([frame(lost=loss, host_time_ns=1) for loss in lost]), 0.05)
    assert (read.lost_frames, read.lost_samples) == (3, 150)
    assert read.n_samples == 100 * read.n_frames and len(read.ages_s) == read.n_frames
    assert 0 < read.seconds <= 0.06


@pytest.mark.parametrize("packet", [3, 63])
def test_packets_without_a_number_are_found_by_their_samples(packet: int) -> None:
    n = heimdall.N_SAMPLES[2]
    loop = np.random.default_rng(1).integers(0, 256, (5, heimdall.LOOP_TICKS, 2), np.uint8)
    ticks = heimdall.Ticks(loop, 0, 24e6)
    n_samples = 0
    for k in (packet, packet + 1, packet + 4):  # two are missing
        start = k * n
        place = start % heimdall.LOOP_TICKS
        sent = Frame.of(
            Header(stream="r.iq", seq=0), iq=(loop[:, place : place + n], "sensor snapshot component", "count")
        )
        now_ns = round((start + n) / 24e6 * 1e9) + 2_000_000
        assert ticks.age(sent, now_ns) == pytest.approx(2e-3, abs=1e-7)
        n_samples += n
    read = rig.ByClock(1.0, 3, n_samples, 0, 0, 0.0, ())
    assert ticks.lost(read) == 2 * n


def test_rates_are_of_each_turn() -> None:
    taken = rig.in_turns({"a": lambda: 2, "b": lambda: 1}, 3, 0.01)
    assert [len(t.rates) for t in taken.values()] == [3, 3]
    assert all((t.rates > 0).all() for t in taken.values())


@pytest.mark.slow
def test_families_without_a_library_of_their_own_give_whole_rows() -> None:
    command = [sys.executable, "-m", "benchmarks.drivers", "--quick", "--json"]
    families = ["heimdall", "gnodeb", "srsran"]
    done = subprocess.run([*command, *(f"--family={f}" for f in families)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["benchmark"] for row in rows} == {"drivers"} and len(rows) >= 12
    assert all(row["value"] >= 0 and row["n"] >= 1 for row in rows)

"""The receiver as drawn, and its bearings from the simulated unit, in both versions and through a retune."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from flowgraphs.live_heimdall import Settings, build
from hil.cli.settings import build_settings
from hil.errors import DriverError
from hil.frame import Frame
from hil.runtime.control import ControlClient

AZIMUTH_RAD = math.radians(40.0)
QUICK = [
    "simulated.real_time=false", "simulated.n_samples=4096", "simulated.loop_ticks=8192", "simulated.calibration_s=0.1",
    "kraken.settle_s=0.1", "kraken.noise_settle_s=0.05",
]  # fmt: skip


def settings(*more: str) -> Settings:
    return build_settings(Settings, [*QUICK, *more], "test")


def bearings(drawn: Settings) -> list[Frame]:
    """Estimates of a run in this process."""
    came: list[Frame] = []
    on_frame = {"music.estimates": lambda f: came.append(f.copy())}
    build(drawn).run(inline=True, frames=40, seconds=60.0, on_frame=on_frame)
    return [f for f in came if f.header.kind == "data"]


@pytest.mark.parametrize("version", [1, 2])
def test_bearings_are_those_of_the_source(version: int) -> None:
    came = bearings(settings(f"simulated.version={version}"))
    assert len(came) > 5
    errors = [float(f["azimuth_rad"][0]) - AZIMUTH_RAD for f in came]
    # 20 dB over noise, 4096 snapshots of five sensors: the bound is below 1 mrad; 8 bits cost little
    assert np.abs(errors).max() < 0.01
    assert all(f.header.meta["n_requested"] == 1 for f in came)


@pytest.mark.parametrize("version", [1, 2])
def test_this_graph_corrects_a_unit_that_does_not(version: int) -> None:
    came = bearings(settings(f"simulated.version={version}", "kraken.calibration=graph"))
    valid = [f for f in came if f.header.calibration == "valid"]
    assert len(valid) > 5
    assert np.abs([float(f["azimuth_rad"][0]) - AZIMUTH_RAD for f in valid]).max() < 0.02


def test_a_retune_while_it_runs() -> None:
    came: list[Frame] = []
    graph = build(settings("simulated.real_time=true", "simulated.n_samples=2048"))
    asked: list[str] = []
    ended = threading.Event()

    def retune() -> None:
        while not (asked and sum(f.header.kind == "data" for f in came) > 4):
            if ended.wait(0.02):
                return
        with ControlClient(asked[0]) as control:
            control.request("kraken.tune", frequency_hz=434.5e6)

    thread = threading.Thread(target=retune)
    thread.start()
    try:
        graph.run(seconds=2.0, on_frame={"music.estimates": lambda f: came.append(f.copy())}, on_ready=asked.append)
    finally:
        ended.set()
        thread.join()
    data = [f for f in came if f.header.kind == "data"]
    assert {f.header.frequency_hz for f in data} == {433.92e6, 434.5e6}
    assert {f.header.meta["event"] for f in came if f.header.kind == "event"} >= {"retune", "sync_lost", "synchronized"}
    # what came while the unit calibrated itself is told as left out
    assert sum(f.header.lost.frames for f in data) > 5
    # the samples repeat those of the first frequency: the source moves by the ratio of the wavelengths
    assert np.abs([float(f["azimuth_rad"][0]) - AZIMUTH_RAD for f in data]).max() < 0.02


def test_positions_where_the_circle_tells_ranges() -> None:
    near = '[{"id": 1, "motion": {"kind": "stand", "position_m": [0.3, 0.5, 0.0]}, "power_db": -20}]'
    came: list[Frame] = []
    graph = build(settings("ranges=true", f"simulated.sources={near}"))
    graph.run(inline=True, frames=40, seconds=60.0, on_frame={"cartesian.positions": lambda f: came.append(f.copy())})
    positions = [f["position_m"] for f in came if f.header.kind == "data" and len(f["position_m"])]
    assert len(positions) > 5
    np.testing.assert_allclose(np.concatenate(positions), [[0.3, 0.5, 0.0]] * len(positions), atol=0.02)


def test_a_real_unit_takes_the_place_of_the_simulated_one() -> None:
    graph = build(build_settings(Settings, ["kraken.uri=heimdall://127.0.0.1:1"], "test"))
    params = graph.nodes["kraken"].params
    assert (params.uri, params.embedded, params.device) == ("heimdall://127.0.0.1:1", False, {})  # type: ignore[attr-defined]
    with pytest.raises(DriverError, match=r"no heimdall answers at 127.0.0.1:1"):
        graph.run(inline=True, frames=1)

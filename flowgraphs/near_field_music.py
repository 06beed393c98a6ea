"""Two moving sources in the near field of a 64-element line: device -> MUSIC -> positions -> tracks, against the truth.

Run: ``python -m flowgraphs.near_field_music`` or ``hil run flowgraphs.near_field_music``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from blocks.evaluation.evaluate import Evaluate, EvaluateParams
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from blocks.tracking.tracker import Tracker, TrackerParams
from drivers.xl_array import XlArray
from hil.graph import Graph
from hil.params import Count, Hz, Params, Seed, params_to_plain
from sim_device.scene import Source

#: Power of each source at the array's centre: two of them stay well below full scale.
_SOURCE_POWER_DB = -20.0

#: Closed paths of two sources between the Fresnel distance (3.0 m at the standard array) and half the Fraunhofer
#: distance (59.5 m): ellipses, each with its centre and half axes (x, y). ``apart`` keeps a gap of 12 degrees. In
#: ``crossing`` the near source passes in front of the far one: for a moment they are told apart by range alone.
_ELLIPSES_M = {
    "apart": (((-9.0, 16.0), (5.0, 9.0)), ((12.0, 43.0), (12.0, 11.0))),
    "crossing": (((-3.0, 17.0), (12.0, 9.0)), ((0.0, 43.0), (20.0, 9.0))),
}
#: Points of a path: the turn from one to the next is far below what one frame can see.
_N_POINTS = 720


class Device(Params, frozen=True):
    """The array, simulated unless ``endpoint`` names one that runs."""

    endpoint: Annotated[
        str | None, Meta(description="frames of a running array, tcp://127.0.0.1:5555; absent: start a simulated one")
    ] = None
    n_elements: Annotated[int, Meta(ge=4, le=1024, description="elements of the line, half a wavelength apart")] = 64
    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre frequency")] = 5e9
    n_snapshots: Annotated[Count, Meta(le=100_000, description="samples of a frame")] = 100
    frame_rate_hz: Annotated[Hz, Meta(le=10_000, description="frames a second of the device's time")] = 50.0
    snr_db: Annotated[
        float,
        Meta(
            ge=-40, le=80, description="power of each source over noise, per element", extra_json_schema={"unit": "dB"}
        ),
    ] = 10.0
    motion: Annotated[
        Literal["apart", "crossing", "wander"],
        Meta(description="closed paths apart in angle, closed paths that cross in angle, or seeded random walks"),
    ] = "apart"
    speed_m_per_s: Annotated[
        float, Meta(gt=0, le=300, description="of each source", extra_json_schema={"unit": "m/s"})
    ] = 6.0
    sources: Annotated[
        tuple[Source, ...],
        Meta(max_length=64, description="in place of the two, as docs/sim-device.md says; noise is at -20 - snr_db"),
    ] = ()
    real_time: Annotated[bool, Meta(description="keep to the clock; else as fast as frames are worked on")] = True
    seed: Annotated[Seed, Meta(description="of every draw of the device")] = 1


class Settings(Params, frozen=True):
    device: Device = Device()
    music: NearFieldMusicParams = NearFieldMusicParams(n_sources=2, azimuth_limit_rad=1.05, spectrum_every=10)
    tracker: TrackerParams = TrackerParams(acceleration_psd_m2_per_s3=5.0)
    evaluate: EvaluateParams = EvaluateParams()


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("near_field_music")
    # Blocks
    graph.add(XlArray("sim", **source_params(settings.device)))
    graph.add(NearFieldMusic("music", **params_to_plain(settings.music)))
    graph.add(PolarToCartesian("cartesian"))
    graph.add(Tracker("tracker", **params_to_plain(settings.tracker)))
    graph.add(Evaluate("single_frame", **params_to_plain(settings.evaluate)))
    graph.add(Evaluate("tracked", **params_to_plain(settings.evaluate)))
    # Connections
    graph.connect("sim.iq", "music")
    graph.connect("music.estimates", "cartesian")
    graph.connect("cartesian.positions", "tracker")
    graph.connect("cartesian.positions", "single_frame.positions")
    graph.connect("sim.truth", "single_frame.truth")
    graph.connect("tracker", "tracked.positions")
    graph.connect("sim.truth", "tracked.truth")
    return graph.expose(
        positions="tracker.tracks",
        truth="sim.truth",
        iq="sim.iq",
        estimates="music.estimates",
        spectrum="music.spectrum",
    )


def source_params(device: Device) -> dict[str, Any]:
    """Parameters of the driver: where the array is, or which one to simulate."""
    if device.endpoint is not None:
        return {"endpoint": device.endpoint}
    simulated = {
        "array": {"kind": "ula", "n": device.n_elements},
        "sources": msgspec.to_builtins(device.sources) or _two_sources(device),
        "frequency_hz": device.frequency_hz,
        "n_snapshots": device.n_snapshots,
        "frame_period_s": 1 / device.frame_rate_hz,
        "noise_power_db": _SOURCE_POWER_DB - device.snr_db,
        "real_time": device.real_time,
        "seed": device.seed,
    }
    return {"embedded": True, "device": simulated}


def _two_sources(device: Device) -> list[dict[str, Any]]:
    return [{"id": i + 1, "motion": _motion(device, i), "power_db": _SOURCE_POWER_DB} for i in range(2)]


def _motion(device: Device, which: int) -> dict[str, Any]:
    (x_m, y_m), (a_m, b_m) = _ELLIPSES_M["apart" if device.motion == "wander" else device.motion][which]
    if device.motion == "wander":
        centre, extent = (x_m, y_m, 0.0), (a_m, b_m, 0.0)
        return {"kind": "wander", "centre_m": centre, "extent_m": extent, "speed_m_per_s": device.speed_m_per_s}
    # The two go round in opposite directions, a quarter of a turn apart.
    turns = [(-1) ** which * 2 * math.pi * k / _N_POINTS + which * math.pi / 2 for k in range(_N_POINTS)]
    points = [(x_m + a_m * math.sin(t), y_m - b_m * math.cos(t), 0.0) for t in turns]
    return {"kind": "waypoints", "points_m": points, "speed_m_per_s": device.speed_m_per_s, "repeat": "loop"}


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.near_field_music")


if __name__ == "__main__":
    main()

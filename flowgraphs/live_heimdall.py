"""Bearings from a KrakenSDR: heimdall -> complex samples -> what is usable, or calibrated -> MUSIC on a circle of five.

The unit is simulated, with a source that stands at 40 degrees, unless ``kraken.uri`` names a real one.

Run: ``python -m flowgraphs.live_heimdall`` or ``hil run flowgraphs.live_heimdall``; with hardware
``hil run live_heimdall --set kraken.uri=heimdall://192.168.1.20 --set kraken.array.radius_m=0.25`` (version 1) or
``--set kraken.uri=heimdall://192.168.1.20:8091`` (version 2).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from msgspec import Meta

from blocks.calibration.follow_calibration import FollowCalibration
from blocks.front_end.to_complex import ToComplex
from blocks.front_end.usable_only import UsableOnly
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import FarFieldMusic, NearFieldMusic
from blocks.subspace.music_block import MusicParams
from drivers.heimdall import Heimdall
from hil.array_params import Array, Uca
from hil.graph import Graph
from hil.params import Count, Hz, Params, Seconds, params_to_plain
from sim_device.scene import Bearing, Source
from sim_device.simulated_radio import SimulatedRadio

#: A tuner's delay against another, before the correction, stays below this.
_MAX_DELAY_SAMPLES = 64


class Kraken(Params, frozen=True):
    """The KrakenSDR, simulated unless ``uri`` names one."""

    uri: Annotated[
        str | None, Meta(description="heimdall://HOST (version 1) or heimdall://HOST:8091; absent: simulate one")
    ] = None
    array: Annotated[Array, Meta(description="where the antennas are")] = Uca(n=5, radius_m=0.294, array_id="kraken")
    calibration: Annotated[
        Literal["unit", "graph"],
        Meta(description="the unit corrects its channels, or this graph does, from frames with the noise source on"),
    ] = "unit"
    settle_s: Annotated[Seconds, Meta(le=600, description="version 2: data settle so long after a retune")] = 3.0
    noise_settle_s: Annotated[
        Seconds, Meta(le=600, description="version 2: ... and so long after the noise source went off")
    ] = 0.75


class Simulated(SimulatedRadio, frozen=True):
    """What the simulated unit is and receives."""

    version: Annotated[Literal[1, 2], Meta(description="of heimdall's protocol")] = 1
    sources: Annotated[tuple[Source, ...], Meta(max_length=64)] = (
        Source(id=1, motion=Bearing(azimuth_rad=math.radians(40.0), range_m=500.0), power_db=-20.0),
    )
    noise_power_db: Annotated[
        float, Meta(ge=-200, le=0, description="of each channel", extra_json_schema={"unit": "dB"})
    ] = -40.0
    frequency_hz: Annotated[
        float, Meta(ge=24e6, le=1.766e9, description="centre frequency", extra_json_schema={"unit": "Hz"})
    ] = 433.92e6
    sample_rate_hz: Annotated[Hz, Meta(le=3.2e6, description="of the samples, after decimation")] = 240e3
    n_samples: Annotated[Count, Meta(le=65_536, description="samples a channel in a frame")] = 8192
    calibration_s: Annotated[Seconds, Meta(le=600, description="the unit calibrates itself for so long")] = 0.5


class Settings(Params, frozen=True):
    kraken: Kraken = Kraken()
    simulated: Simulated = Simulated()
    music: MusicParams = MusicParams(n_sources=1)
    ranges: Annotated[
        bool, Meta(description="look for ranges too: the circle tells them within about a metre at 434 MHz")
    ] = False


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("live_heimdall")
    # Blocks
    graph.add(Heimdall("kraken", **kraken_params(settings)))
    graph.add(ToComplex("complex"))
    if settings.kraken.calibration == "unit":
        graph.add(UsableOnly("ready"))
    else:
        graph.add(FollowCalibration("ready", max_delay_samples=_MAX_DELAY_SAMPLES))
    music = NearFieldMusic if settings.ranges else FarFieldMusic
    graph.add(music("music", **params_to_plain(settings.music)))
    # Connections
    graph.connect("kraken", "complex")
    graph.connect("complex", "ready")
    graph.connect("ready", "music")
    if not settings.ranges:
        return graph.expose(estimates="music.estimates", iq="ready.iq", spectrum="music.spectrum")
    graph.add(PolarToCartesian("cartesian"))
    graph.connect("music.estimates", "cartesian")
    return graph.expose(
        positions="cartesian.positions", estimates="music.estimates", iq="ready.iq", spectrum="music.spectrum"
    )


def kraken_params(settings: Settings) -> dict[str, Any]:
    """Parameters of the driver: where the unit is, or which one to simulate."""
    kraken, simulated = settings.kraken, settings.simulated
    params = {
        "array": params_to_plain(kraken)["array"],
        "require_sync": kraken.calibration == "unit",
        "settle_s": kraken.settle_s,
        "noise_settle_s": kraken.noise_settle_s,
    }
    if kraken.uri is not None:
        return {**params, "uri": kraken.uri}
    device = simulated.array_device(params["array"], simulated.frequency_hz, simulated.sample_rate_hz)
    unit = {
        "version": simulated.version,
        "n_samples": simulated.n_samples,
        "calibration_s": simulated.calibration_s,
        "corrects": kraken.calibration == "unit",
        "loop_ticks": simulated.loop_ticks,
        "device": device,
    }
    return {**params, "embedded": True, "device": unit, "sample_rate_hz": simulated.sample_rate_hz}


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.live_heimdall")


if __name__ == "__main__":
    main()

"""A source in the near field of coherent USRPs: UHD -> complex samples -> MUSIC -> positions -> tracks.

Four boards with two channels each, simulated as UHD sees them unless ``radio.uri`` names real ones.

Run: ``python -m flowgraphs.live_uhd`` or ``hil run flowgraphs.live_uhd``; with hardware
``hil run live_uhd --set radio.uri=addr0=192.168.10.2,addr1=192.168.10.3 --set radio.gain_db=40``.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from blocks.front_end.to_complex import ToComplex
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from blocks.tracking.tracker import Tracker, TrackerParams
from drivers.uhd import Uhd
from hil.array_params import Array, Ula
from hil.graph import Graph
from hil.params import Count, Hz, Params, Seed, params_to_plain
from sim_device.scene import Source, Stand


class Radio(Params, frozen=True):
    """The USRPs, simulated unless ``uri`` names some."""

    uri: Annotated[
        str | None, Meta(description="device arguments as UHD takes them; absent: start simulated boards")
    ] = None
    interpreter: Annotated[str | None, Meta(description="Python that has UHD; absent: the first found")] = None
    array: Annotated[Array, Meta(description="where the antennas are, board by board")] = Ula(n=8)
    frequency_hz: Annotated[Hz, Meta(le=6e9, description="centre frequency")] = 2.45e9
    sample_rate_hz: Annotated[Hz, Meta(le=250e6)] = 500e3
    gain_db: Annotated[
        float | None, Meta(description="of all channels; absent: as it is", extra_json_schema={"unit": "dB"})
    ] = None
    clock_source: Annotated[str | None, Meta(description="absent: external for several boards")] = None
    time_source: Annotated[str | None, Meta(description="absent: external for several boards")] = None
    n_samples: Annotated[Count, Meta(le=1 << 20, description="snapshots in a frame")] = 16384


class Simulated(Params, frozen=True):
    """What the simulated boards receive."""

    sources: Annotated[tuple[Source, ...], Meta(max_length=64)] = (
        Source(id=1, motion=Stand(position_m=(0.4, 1.1, 0.0)), power_db=-20.0),
    )
    noise_power_db: Annotated[
        float, Meta(ge=-200, le=0, description="of each channel", extra_json_schema={"unit": "dB"})
    ] = -50.0
    loop_ticks: Annotated[
        Annotated[Count, Meta(le=1 << 24)] | None,
        Meta(
            description="compute so many samples once and repeat them; absent: all are computed, which keeps up with "
            "some 100 kS/s of 8 channels, and sources move"
        ),
    ] = 65536
    real_time: Annotated[bool, Meta(description="keep to the clock; else as fast as frames are worked on")] = True
    seed: Annotated[Seed, Meta(description="of every draw")] = 1


class Settings(Params, frozen=True):
    radio: Radio = Radio()
    simulated: Simulated = Simulated()
    music: NearFieldMusicParams = NearFieldMusicParams(n_sources=1, azimuth_limit_rad=1.05)
    tracker: TrackerParams = TrackerParams(acceleration_psd_m2_per_s3=0.1)


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("live_uhd")
    # Blocks
    graph.add(Uhd("radio", **radio_params(settings)))
    graph.add(ToComplex("complex"))
    graph.add(NearFieldMusic("music", **params_to_plain(settings.music)))
    graph.add(PolarToCartesian("cartesian"))
    graph.add(Tracker("tracker", **params_to_plain(settings.tracker)))
    # Connections
    graph.connect("radio", "complex")
    graph.connect("complex", "music")
    graph.connect("music.estimates", "cartesian")
    graph.connect("cartesian.positions", "tracker")
    return graph.expose(positions="tracker.tracks", iq="complex.iq", estimates="music.estimates")


def radio_params(settings: Settings) -> dict[str, Any]:
    """Parameters of the driver: where the boards are, or which ones to simulate."""
    radio, simulated = settings.radio, settings.simulated
    params = params_to_plain(radio)
    if radio.uri is not None:
        return params
    device = {
        "array": params["array"],
        "sources": msgspec.to_builtins(simulated.sources),
        "noise_power_db": simulated.noise_power_db,
        "frequency_hz": radio.frequency_hz,
        "sample_rate_hz": radio.sample_rate_hz,
        "real_time": simulated.real_time,
        "seed": simulated.seed,
    }
    boards = {"host": "auto", "loop_ticks": simulated.loop_ticks, "device": device}
    return {**params, "embedded": True, "device": boards}


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.live_uhd")


if __name__ == "__main__":
    main()

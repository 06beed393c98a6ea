"""A source in the near field of coherent USRPs: UHD -> complex samples -> MUSIC -> positions -> tracks.

Four boards with two channels each, simulated as UHD sees them unless ``radio.uri`` names real ones.

Run: ``python -m flowgraphs.live_uhd`` or ``hil run flowgraphs.live_uhd``; with hardware
``hil run live_uhd --set radio.uri=addr0=192.168.10.2,addr1=192.168.10.3 --set radio.gain_db=40``.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from blocks.front_end.to_complex import ToComplex
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from blocks.tracking.tracker import Tracker, TrackerParams
from drivers.uhd import Uhd
from hil.array_params import Array, Ula
from hil.graph import Graph
from hil.params import Count, Hz, Params, params_to_plain
from sim_device.simulated_radio import SimulatedRadio


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


class Settings(Params, frozen=True):
    radio: Radio = Radio()
    simulated: SimulatedRadio = SimulatedRadio()
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
    device = simulated.array_device(params["array"], radio.frequency_hz, radio.sample_rate_hz)
    boards = {"host": "auto", "loop_ticks": simulated.loop_ticks, "device": device}
    return {**params, "embedded": True, "device": boards}


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.live_uhd")


if __name__ == "__main__":
    main()

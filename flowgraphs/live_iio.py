"""A source in the near field of an IIO radio: libiio -> complex samples -> MUSIC -> positions -> tracks.

Eight coherent channels behind one iiod, simulated unless ``radio.uri`` names a real device. An AD9361 (2 channels) or
an FMComms5 (4) works alike: say so in ``simulated.model``, and give ``radio.array`` as many elements.

Run: ``python -m flowgraphs.live_iio`` or ``hil run flowgraphs.live_iio``; with hardware
``hil run live_iio --set radio.uri=ip:192.168.2.1 --set radio.gain_db=40``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from blocks.front_end.to_complex import ToComplex
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from blocks.tracking.tracker import Tracker, TrackerParams
from drivers.iio import Iio
from hil.array_params import Array, Ula
from hil.graph import Graph
from hil.params import Count, Hz, Params, params_to_plain
from sim_device.simulated_radio import SimulatedRadio


class Radio(Params, frozen=True):
    """The IIO device, simulated unless ``uri`` names one."""

    uri: Annotated[
        str | None, Meta(description="ip:HOST, ip:HOST:PORT, usb: or local:; absent: start a simulated device")
    ] = None
    array: Annotated[Array, Meta(description="where the antennas are")] = Ula(n=8)
    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre frequency")] = 2.45e9
    sample_rate_hz: Annotated[Hz, Meta(le=250e6)] = 1e6
    gain_db: Annotated[
        float | None, Meta(description="of all channels; absent: as it is", extra_json_schema={"unit": "dB"})
    ] = None
    n_samples: Annotated[Count, Meta(le=1 << 20, description="snapshots in a frame")] = 16384


class Simulated(SimulatedRadio, frozen=True):
    """What the simulated device is and receives."""

    model: Annotated[
        Literal["iio", "ad9361", "fmcomms5"], Meta(description="as many channels as the array has, 2, or 4")
    ] = "iio"


class Settings(Params, frozen=True):
    radio: Radio = Radio()
    simulated: Simulated = Simulated()
    music: NearFieldMusicParams = NearFieldMusicParams(n_sources=1, azimuth_limit_rad=1.05)
    tracker: TrackerParams = TrackerParams(acceleration_psd_m2_per_s3=0.1)


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("live_iio")
    # Blocks
    graph.add(Iio("radio", **radio_params(settings)))
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
    """Parameters of the driver: where the device is, or which one to simulate."""
    radio, simulated = settings.radio, settings.simulated
    params = params_to_plain(radio)
    if radio.uri is not None:
        return params
    device = simulated.array_device(params["array"], radio.frequency_hz, radio.sample_rate_hz)
    server = {"model": simulated.model, "loop_ticks": simulated.loop_ticks, "device": device}
    return {**params, "embedded": True, "device": server}


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.live_iio")


if __name__ == "__main__":
    main()

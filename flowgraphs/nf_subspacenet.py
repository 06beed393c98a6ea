"""Two coherent sources in the near field of a 15-element line: a network's covariance beside plain 2D MUSIC.

The system of [NF] Section III-A on the stream. Both receivers see the same samples; both are compared with the truth.

Run: ``python -m flowgraphs.nf_subspacenet`` or ``hil run flowgraphs.nf_subspacenet``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from msgspec import Meta

from blocks.evaluation.evaluate import Evaluate, EvaluateParams
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.neural.neural_music import NeuralNearFieldMusic, NeuralNearFieldMusicParams
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from drivers.xl_array import XlArray
from hil.block import Block
from hil.graph import Graph
from hil.params import Count, Hz, Params, Seed, params_to_plain

#: Power of each source at the array's centre: two that add up stay below full scale.
_SOURCE_POWER_DB = -20.0
#: Closed paths of two sources between the Fresnel distance (6.7 m) and half the Fraunhofer distance (49 m): ellipses,
#: each with its centre and half axes (x, y). The array is 7 m long and its beam 7 degrees wide: now and then they are
#: as close as that, where coherent sources leave plain MUSIC no null of their own.
_ELLIPSES_M = (((-4.0, 14.0), (5.0, 5.0)), ((4.0, 20.0), (6.0, 8.0)))
_N_POINTS = 720


class Device(Params, frozen=True):
    """The array, simulated unless ``endpoint`` names one that runs."""

    endpoint: Annotated[
        str | None, Meta(description="frames of a running array, tcp://127.0.0.1:5555; absent: start a simulated one")
    ] = None
    n_elements: Annotated[int, Meta(ge=4, le=1024, description="elements of the line, half a wavelength apart")] = 15
    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre frequency")] = 300e6
    displacement_wavelengths: Annotated[
        float, Meta(ge=0, le=10, description="elements are off by up to this along the line, which nobody tells")
    ] = 0.0
    n_snapshots: Annotated[Count, Meta(le=100_000, description="samples of a frame")] = 100
    frame_rate_hz: Annotated[Hz, Meta(le=10_000, description="frames a second of the device's time")] = 20.0
    snr_db: Annotated[
        float,
        Meta(
            ge=-40, le=80, description="power of each source over noise, per element", extra_json_schema={"unit": "dB"}
        ),
    ] = 20.0
    coherent: Annotated[bool, Meta(description="both send the same waveform, as an echo does")] = True
    speed_m_per_s: Annotated[
        float, Meta(gt=0, le=300, description="of each source", extra_json_schema={"unit": "m/s"})
    ] = 2.0
    real_time: Annotated[bool, Meta(description="keep to the clock; else as fast as frames are worked on")] = True
    seed: Annotated[Seed, Meta(description="of every draw of the device")] = 1


class Settings(Params, frozen=True):
    device: Device = Device()
    network: NeuralNearFieldMusicParams = NeuralNearFieldMusicParams(
        n_sources=2, azimuth_limit_rad=1.05, spectrum_every=10
    )
    music: NearFieldMusicParams = NearFieldMusicParams(n_sources=2, azimuth_limit_rad=1.05, keep_unresolved=True)
    evaluate: EvaluateParams = EvaluateParams()


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    network = NeuralNearFieldMusic("network", **params_to_plain(settings.network))
    return beside_music(Graph("nf_subspacenet"), network, settings.device, settings.music, settings.evaluate)


def beside_music(
    graph: Graph, network: Block, device: Device, music: NearFieldMusicParams, evaluate: EvaluateParams
) -> Graph:
    """Draw ``network`` and plain 2D MUSIC on the same samples, each with its errors."""
    # Blocks
    graph.add(XlArray("sim", **source_params(device)))
    graph.add(network)
    graph.add(NearFieldMusic("music", **params_to_plain(music)))
    for name in ("network", "music"):
        graph.add(PolarToCartesian(f"{name}_cartesian"))
        graph.add(Evaluate(f"{name}_error", **params_to_plain(evaluate)))
    # Connections
    for name in ("network", "music"):
        graph.connect("sim.iq", name)
        graph.connect(f"{name}.estimates", f"{name}_cartesian")
        graph.connect(f"{name}_cartesian.positions", f"{name}_error.positions")
        graph.connect("sim.truth", f"{name}_error.truth")
    return graph.expose(
        positions="network_cartesian.positions",
        music_positions="music_cartesian.positions",
        truth="sim.truth",
        iq="sim.iq",
        estimates="network.estimates",
        spectrum="network.spectrum",
    )


def source_params(device: Device) -> dict[str, Any]:
    """Parameters of the driver: where the array is, or which one to simulate."""
    if device.endpoint is not None:
        return {"endpoint": device.endpoint}
    simulated = {
        "array": {"kind": "ula", "n": device.n_elements},
        "sources": [_source(device, i) for i in range(2)],
        "displacement": {"most_wavelengths": device.displacement_wavelengths, "seed": 1},
        "frequency_hz": device.frequency_hz,
        "n_snapshots": device.n_snapshots,
        "frame_period_s": 1 / device.frame_rate_hz,
        "noise_power_db": _SOURCE_POWER_DB - device.snr_db,
        "real_time": device.real_time,
        "seed": device.seed,
    }
    return {"embedded": True, "device": simulated}


def _source(device: Device, which: int) -> dict[str, Any]:
    (x_m, y_m), (a_m, b_m) = _ELLIPSES_M[which]
    # The two go round in opposite directions, a quarter of a turn apart.
    turns = [(-1) ** which * 2 * math.pi * k / _N_POINTS + which * math.pi / 2 for k in range(_N_POINTS)]
    points = [(x_m + a_m * math.sin(t), y_m - b_m * math.cos(t), 0.0) for t in turns]
    motion = {"kind": "waypoints", "points_m": points, "speed_m_per_s": device.speed_m_per_s, "repeat": "loop"}
    source = {"id": which + 1, "motion": motion, "power_db": _SOURCE_POWER_DB, "phase_rad": 0.7 * which}
    return {**source, "group": 1} if device.coherent else source


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.nf_subspacenet")


if __name__ == "__main__":
    main()

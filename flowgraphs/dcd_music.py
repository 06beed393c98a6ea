"""Two coherent sources in the near field of a 15-element line: DCD-MUSIC beside plain 2D MUSIC.

The system of [NF] Section III-B on the stream, on the device of :mod:`flowgraphs.nf_subspacenet`. Both receivers see
the same samples; both are compared with the truth.

Run: ``python -m flowgraphs.dcd_music`` or ``hil run flowgraphs.dcd_music``.
"""

from __future__ import annotations

from blocks.evaluation.evaluate import Evaluate, EvaluateParams
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.neural.dcd_block import NeuralDcdMusic, NeuralDcdMusicParams
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.music_block import NearFieldMusicParams
from drivers.xl_array import XlArray
from flowgraphs.nf_subspacenet import Device, source_params
from hil.graph import Graph
from hil.params import Params, params_to_plain


class Settings(Params, frozen=True):
    device: Device = Device()
    network: NeuralDcdMusicParams = NeuralDcdMusicParams(n_sources=2, azimuth_limit_rad=1.05, spectrum_every=10)
    music: NearFieldMusicParams = NearFieldMusicParams(n_sources=2, azimuth_limit_rad=1.05, keep_unresolved=True)
    evaluate: EvaluateParams = EvaluateParams()


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("dcd_music")
    # Blocks
    graph.add(XlArray("sim", **source_params(settings.device)))
    graph.add(NeuralDcdMusic("network", **params_to_plain(settings.network)))
    graph.add(NearFieldMusic("music", **params_to_plain(settings.music)))
    for name in ("network", "music"):
        graph.add(PolarToCartesian(f"{name}_cartesian"))
        graph.add(Evaluate(f"{name}_error", **params_to_plain(settings.evaluate)))
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


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.dcd_music")


if __name__ == "__main__":
    main()

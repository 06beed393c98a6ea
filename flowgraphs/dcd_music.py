"""Two coherent sources in the near field of a 15-element line: DCD-MUSIC beside plain 2D MUSIC.

The system of [NF] Section III-B on the stream, on the device of :mod:`flowgraphs.nf_subspacenet`. Both receivers see
the same samples; both are compared with the truth.

Run: ``python -m flowgraphs.dcd_music`` or ``hil run flowgraphs.dcd_music``.
"""

from __future__ import annotations

from blocks.evaluation.evaluate import EvaluateParams
from blocks.neural.dcd_block import NeuralDcdMusic, NeuralDcdMusicParams
from blocks.subspace.music_block import NearFieldMusicParams
from flowgraphs.nf_subspacenet import Device, beside_music
from hil.graph import Graph
from hil.params import Params, params_to_plain


class Settings(Params, frozen=True):
    device: Device = Device()
    network: NeuralDcdMusicParams = NeuralDcdMusicParams(n_sources=2, azimuth_limit_rad=1.05, spectrum_every=10)
    music: NearFieldMusicParams = NearFieldMusicParams(n_sources=2, azimuth_limit_rad=1.05, keep_unresolved=True)
    evaluate: EvaluateParams = EvaluateParams()


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    network = NeuralDcdMusic("network", **params_to_plain(settings.network))
    return beside_music(Graph("dcd_music"), network, settings.device, settings.music, settings.evaluate)


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.dcd_music")


if __name__ == "__main__":
    main()

"""How long the networks take from samples to places, one thread, one frame and 64 frames at a time.

Against the published implementation of [NF] on one thread of its own machine: NF-SubspaceNet 8.83 ms and DCD-MUSIC
4.94 ms a frame, 86 and 696 frames a second in batches of 64, on its 241 x 85 grid. Here places lie off any grid: a
coarse grid and a descent find nulls between its points. Two coherent sources at 20 dB, 15 elements, 100 snapshots,
number of sources given. "refined" adds what the blocks do: the likelihood fit on the samples, and the second opinion
where it leaves more than noise.

Run: ``python -m benchmarks.nf_speed [--quick] [--json]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.report import Report
from blocks.neural.batch_estimates import dcd_batch, subspacenet_batch
from blocks.neural.dcd_block import NeuralDcdMusic
from blocks.neural.dcd_music import DcdMusic
from blocks.neural.fast_surrogate import FastSurrogate
from blocks.neural.near_field_subspace_net import NearFieldSubspaceNet
from blocks.neural.neural_music import NeuralNearFieldMusic
from blocks.neural.weights import load_model, weights_path
from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.near_field_batch import near_field_music_batch
from blocks.subspace.refine_music import Nulls
from blocks.subspace.search_nulls import search_nulls
from hil.array import ArrayGeometry
from hil.block import Block
from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header
from sim_device.near_field_places import NearFieldPlaces

#: Published: milliseconds a frame, frames a second at 64.
PUBLISHED = {"NF-SubspaceNet": (8.83, 86.0), "DCD-MUSIC": (4.94, 696.0), "2D MUSIC": (7.36, 83.0)}
#: The same of the project's goals.
TARGET = {"NF-SubspaceNet": (2.0, 1500.0), "DCD-MUSIC": (2.0, 4000.0)}
_FREQUENCY_HZ = 300e6
_BATCH = 64

Samples = npt.NDArray[np.complex64]
Estimate = Callable[[Samples], Any]


def measure_speed(report: Report, *, rounds: int = 400) -> None:
    """Add the rows to ``report``: medians over ``rounds`` frames, and a twentieth as many batches."""
    torch.set_num_threads(1)
    places = NearFieldPlaces({"coherent": True, "random_phase": True, "snr_db": (20, 20)}, 31, "test")
    frames = places.batch(0, _BATCH)["samples"]
    methods = batch_methods(places)
    for name, method in {**methods, **frame_methods(places)}.items():
        one = _median_ms(method, [frames[i : i + 1] for i in range(_BATCH)], rounds)
        _add(report, name, "networks alone" if name in TARGET else "nulls", one, rounds, 0)
    for name, block in {
        "NF-SubspaceNet": NeuralNearFieldMusic("net", n_sources=2, keep_unresolved=True),
        "DCD-MUSIC": NeuralDcdMusic("net", n_sources=2, keep_unresolved=True),
    }.items():
        feed = _feeder(block, places.array)
        _add(report, name, "refined, the block", _median_ms(feed, list(frames), rounds), rounds, 0)
    for name, method in methods.items():
        batch_ms = _median_ms(method, [frames], max(3, rounds // 20))
        case = "networks alone" if name in TARGET else "nulls"
        _add(report, name, case, _BATCH / batch_ms * 1e3, max(3, rounds // 20), 1)


def batch_methods(places: NearFieldPlaces) -> dict[str, Estimate]:
    """Samples ``[batch, sensor, snapshot]`` to places, by the shipped weights and by plain MUSIC."""
    dictionary = steering_dictionary(places.array, places.wavelength_m)
    subspacenet = load_model(weights_path("nf_subspacenet_n15"))[0]
    dcd = load_model(weights_path("dcd_music_n15"))[0]
    assert isinstance(subspacenet, NearFieldSubspaceNet) and isinstance(dcd, DcdMusic)
    network, angle, distance = (FastSurrogate(m) for m in (subspacenet.network, dcd.angle, dcd.range))
    spacing = dcd.spacing_m / dcd.wavelength_m
    return {
        "NF-SubspaceNet": lambda x: subspacenet_batch(network, x, 2, dictionary),
        "DCD-MUSIC": lambda x: dcd_batch(angle, distance, x, 2, dictionary, spacing),
        "2D MUSIC": lambda x: near_field_music_batch(x, dictionary, 2),
    }


def frame_methods(places: NearFieldPlaces) -> dict[str, Estimate]:
    """The same of one frame ``[1, sensor, snapshot]``, where a search of its own is faster than that of a batch."""
    dictionary = steering_dictionary(places.array, places.wavelength_m)
    subspacenet = load_model(weights_path("nf_subspacenet_n15"))[0]
    assert isinstance(subspacenet, NearFieldSubspaceNet)
    network = FastSurrogate(subspacenet.network)

    def nulls(signal: npt.NDArray[np.complex128]) -> Nulls:
        return search_nulls(np.ascontiguousarray(signal[:, :-3:-1]), dictionary, tolerance=1e-2)

    return {
        "NF-SubspaceNet": lambda x: nulls(np.linalg.eigh(network(x)[0])[1]),
        "2D MUSIC": lambda x: nulls(np.linalg.eigh(x[0].astype(np.complex128) @ x[0].conj().T)[1]),
    }


def _feeder(block: Block, array: ArrayGeometry) -> Estimate:
    """Frames in, estimates out, as the graph does it."""
    header = Header("sim.iq", 0, frequency_hz=_FREQUENCY_HZ, sample_rate_hz=1e6, sample_start=0)
    block.set_up()
    list(block.feed("iq", descriptor_frame(header, array)))
    return lambda x: list(block.feed("iq", Frame.of(header, iq=(x, "sensor snapshot", "FS"))))


def _median_ms(work: Estimate, inputs: list[Samples], n: int) -> float:
    for x in inputs[:3]:
        work(x)
    taken = []
    for i in range(n):
        started = time.perf_counter()
        work(inputs[i % len(inputs)])
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e3


def _add(report: Report, name: str, case: str, value: float, n: int, which: int) -> None:
    published, target = PUBLISHED[name][which], TARGET.get(name, (None, None))[which]
    metric, unit = (("time of a frame", "ms"), (f"frames a second in batches of {_BATCH}", "1/s"))[which]
    better = published / value if which == 0 else value / published
    report.add(
        f"{name}, {case}",
        metric,
        value,
        unit,
        n=n,
        against=f"published code, {published:g} {unit}",
        ratio=better,
        at_most=target if which == 0 else None,
        at_least=target if which == 1 else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run?")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    report = Report("nf_speed", as_json=options.json)
    measure_speed(report, rounds=30 if options.quick else 400)
    report.finish()


if __name__ == "__main__":
    main()

"""Near-field MUSIC of [NF], one frame and 64 at a time, against the dense search."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.estimators.measured import (
    LAMBDA,
    SEED,
    add,
    check,
    dense_noise,
    in_bounds,
    rms,
    scene,
    take_turns,
)
from benchmarks.report import Report, median_ci95
from blocks.subspace.dictionary import Dictionary, Grid, steering_dictionary
from blocks.subspace.near_field_batch import near_field_music_batch
from blocks.subspace.near_field_music import near_field_music_samples
from blocks.subspace.refine_music import Nulls
from blocks.subspace.search_nulls import search_nulls
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from hil.array import ArrayGeometry

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]


def near_field(report: Report, n_rounds: int, n_frames: int) -> None:
    """N=15, M=2, T=100 of [NF], everything included, one and 64 at a time; on 241 x 85 points the dense form."""
    n, t, m = 15, 100, 2
    array, case = ArrayGeometry.ula(n, LAMBDA / 2), "near field 15, M=2, T=100"
    rng = np.random.default_rng(SEED)
    dictionary = steering_dictionary(array, LAMBDA)
    nearest, far = dictionary.grid.range_min_m, dictionary.fraunhofer_m
    frames = []
    for _ in range(n_frames):
        azimuth = np.arcsin(np.array([-0.4, 0.4]) + rng.uniform(-0.3, 0.3, 2))
        frames.append(scene(array, azimuth, rng.uniform(1 / far, 1 / nearest, 2), t, rng))
    dense_grid = Grid(
        azimuth_min_rad=-np.pi / 2, azimuth_max_rad=np.pi / 2, n_azimuth=241, spacing="angle", range_min_m=nearest,
        range_max_m=far, n_range=85,
    )  # fmt: skip
    dense = steering_dictionary(array, LAMBDA, dense_grid)
    batch = np.stack([frame.x for frame in frames])
    together = near_field_music_batch(batch, dictionary, m)
    alone = [near_field_music_samples(frame.x, dictionary, m, polish=False) for frame in frames]
    positions = [_positions(frame.x, dictionary, m) for frame in frames]
    fitted = [near_field_music_samples(frame.x, dictionary, m) for frame in frames]
    on_grid = [
        dense_noise(frame.x, dense.conjugate, m, (241, 85), dense.azimuth_rad, dense.inverse_range_per_m)
        for frame in frames
    ]
    truth = np.stack([frame.azimuth_rad for frame in frames])
    errors = {
        "64 at a time": rms(together.azimuth_rad, truth),
        "positions alone": rms(np.stack([e.azimuth_rad for e in positions]), truth),
        "one at a time": rms(np.stack([e.azimuth_rad for e in alone]), truth),
        "with likelihood fit": rms(np.stack([e.azimuth_rad for e in fitted]), truth),
        "dense grid": rms(np.stack([e[0] for e in on_grid]), truth),
    }
    check(together.resolved.all() and all(e.complete for e in alone), "a source was not resolved")
    check(all(errors[name] <= errors["dense grid"] for name in errors), f"worse than the dense grid: {errors}")
    check(sum(in_bounds(array, f, e.azimuth_rad) for f, e in zip(frames, alone, strict=True)) >= 0.99 * n_frames, "off")
    x, some = frames[0].x, batch[:64]
    signal_rows = np.ascontiguousarray(signal_subspace_from_samples(x, m).T)
    dense_columns = np.ascontiguousarray(dense.conjugate.T)

    def products() -> None:
        x @ x.conj().T
        signal_rows @ dense_columns

    shape = (241, 85)
    took = take_turns(
        {
            "positions": lambda: _positions(x, dictionary, m),
            "one": lambda: near_field_music_samples(x, dictionary, m, polish=False),
            "fit": lambda: near_field_music_samples(x, dictionary, m),
            "noise": lambda: dense_noise(x, dense.conjugate, m, shape, dense.azimuth_rad, dense.inverse_range_per_m),
            "signal": lambda: near_field_music_samples(x, dense, m, polish=False),
            "products": products,
            "batch": lambda: near_field_music_batch(some, dictionary, m),
        },
        n_rounds,
    )
    noise = "plain NumPy, noise subspace on 241 x 85"
    add(report, case, "2D MUSIC off the grid", took["positions"], noise, took["noise"], at_most=0.7)
    add(report, case, "2D MUSIC off the grid", took["positions"], "the products of 241 x 85", took["products"])
    add(report, case, "the same, with powers and errors", took["one"], noise, took["noise"])
    add(report, case, "the same, with powers, errors and likelihood fit", took["fit"], noise, took["noise"])
    add(report, case, "the same with powers, searched on 241 x 85", took["signal"], noise, took["noise"])
    rate = len(some) / took["batch"]
    value, interval = median_ci95(rate)
    against, ratio = "one at a time", float(np.median(rate * took["positions"]))
    report.add(
        case, "64 at a time", value, "1/s", n=n_rounds, ci95=interval, against=against, ratio=ratio, at_least=3000
    )
    for name, error in errors.items():
        report.add(case, f"azimuth RMSE, {name}", error, "rad", n=2 * n_frames)


def _positions(x: C64, dictionary: Dictionary, m: int) -> Nulls:
    """Samples to azimuths and ranges, without powers and errors."""
    return search_nulls(signal_subspace_from_samples(x, m).astype(np.complex128), dictionary, tolerance=1e-2)

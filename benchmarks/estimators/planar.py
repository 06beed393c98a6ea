"""Rectangles: azimuth, elevation and range by a dictionary, plane waves by FFT, batches."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from benchmarks.estimators.measured import (
    LAMBDA,
    SEED,
    SNR_DB,
    add,
    check,
    noise,
    take_turns,
)
from benchmarks.report import Report
from blocks.subspace.planar_grid import PlanarSearch, planar_grid
from blocks.subspace.planar_music import PlanarEstimate, planar_music, planar_music_batch
from blocks.subspace.rectangle_grid import rectangle_grid
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from hil.array import ArrayGeometry
from hil.wavefront import steering_vector_polar

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]

AZIMUTH_RAD, ELEVATION_RAD = np.array([-0.5, 0.1, 0.6]), np.array([0.3, -0.4, 0.2])
M = len(AZIMUTH_RAD)


def planar(report: Report, n_rounds: int) -> None:
    """Azimuth, elevation and range on 16 x 16 elements; plane waves on 16 x 16 and 64 x 64, by FFT."""
    array, rng = ArrayGeometry.ura(16, 16, LAMBDA / 2), np.random.default_rng(SEED)
    grid, case = planar_grid(array, LAMBDA), "rectangle 16 x 16, M=3, T=100"
    k = np.array([5.0, 3.3, 6.7]) * LAMBDA / (2 * array.aperture_m**2)
    frames = [scene(array, k, rng) for _ in range(16)]
    signals = np.stack([signal_subspace_from_samples(x, M) for x in frames])

    def estimate() -> PlanarEstimate:
        return planar_music(signal_subspace_from_samples(frames[0], M), grid)

    found, together = estimate(), planar_music_batch(signals, grid)
    check_found("planar", found, k)
    check(bool(together.resolved.all()), "planar, batch: not resolved")
    check(np.abs(together.azimuth_rad[0] - found.azimuth_rad).max() < 1e-6, "planar: the batch is another")
    took = take_turns({"one": estimate, "batch": lambda: planar_music_batch(signals, grid)}, n_rounds)
    add(report, case, f"azimuth, elevation, range, {len(grid.conjugate)} points", took["one"])
    add(report, case, "a frame of 16 at a time, from their subspaces", took["batch"] / len(frames))
    plane_waves(report, 16, n_rounds)
    plane_waves(report, 64, n_rounds)


def plane_waves(report: Report, side: int, n_rounds: int) -> None:
    """The same rectangle and sources by FFT and, where its dictionary is not too large, by that."""
    array, rng = ArrayGeometry.ura(side, side, LAMBDA / 2), np.random.default_rng(SEED)
    x = scene(array, np.zeros(M), rng)
    signal = signal_subspace_from_samples(x, M)
    grids: dict[str, PlanarSearch] = {"FFT": rectangle_grid(array, LAMBDA)}
    if side <= 32:
        grids["dictionary"] = planar_grid(array, LAMBDA, far_field_only=True)
    for name, grid in grids.items():
        check_found(name, planar_music(signal, grid), np.zeros(M))
    took = take_turns({name: functools.partial(planar_music, signal, grid) for name, grid in grids.items()}, n_rounds)
    fft, other = grids["FFT"], took.get("dictionary")
    name = f"azimuth, elevation by FFT, {len(fft.v)} x {len(fft.u)}, from the subspace"
    add(report, f"rectangle {side} x {side}, M=3, plane waves", name, took["FFT"], "by dictionary", other)


def scene(array: ArrayGeometry, inverse_range_per_m: F64, rng: np.random.Generator) -> C64:
    with np.errstate(divide="ignore"):
        a = steering_vector_polar(
            array.position_m, AZIMUTH_RAD, 1 / inverse_range_per_m, LAMBDA, elevation_rad=ELEVATION_RAD
        ).T
    return (a @ noise(rng, M, 100) * 10 ** (SNR_DB / 20) + noise(rng, len(a), 100)).astype(np.complex64)


def check_found(name: str, found: PlanarEstimate, inverse_range_per_m: F64) -> None:
    order = np.argsort(found.azimuth_rad)
    check(len(order) == M and bool(found.resolved.all()), f"{name}: not resolved")
    check(np.abs(found.azimuth_rad[order] - AZIMUTH_RAD).max() < 2e-3, f"{name}: azimuths are off")
    check(np.abs(found.elevation_rad[order] - ELEVATION_RAD).max() < 2e-3, f"{name}: elevations are off")
    off = np.abs(found.inverse_range_per_m[order] - inverse_range_per_m)
    check(bool((off <= 0.1 * inverse_range_per_m).all()), f"{name}: ranges are off")

"""A line of 256 elements: the grid by FFT, whole estimates, and a stream with the subspace kept warm."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.estimators.measured import (
    LAMBDA,
    SEED,
    Scene,
    add,
    check,
    dense_noise,
    in_bounds,
    scene,
    take_turns,
)
from benchmarks.report import Report
from blocks.subspace.dictionary import Grid, Search, steering_dictionary
from blocks.subspace.fresnel_grid import FresnelGrid, fresnel_grid
from blocks.subspace.line_dictionary import line_dictionary
from blocks.subspace.music import NearFieldMusic
from blocks.subspace.near_field_line import near_field_line
from blocks.subspace.near_field_music import near_field_music_samples
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from blocks.subspace.track_subspace import SubspaceTracker
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]


def large(report: Report, n_rounds: int) -> None:
    """N=256, M=4, T=100: the 512 x 256 grid, the coarse one, and a stream with the subspace kept warm."""
    n, t, m, shape = 256, 100, 4, (512, 256)
    array, case, rng = ArrayGeometry.ula(n, LAMBDA / 2), "near field 256, M=4, T=100", np.random.default_rng(SEED)
    coarse, fine = fresnel_grid(array, LAMBDA), fresnel_grid(array, LAMBDA, n_azimuth=shape[0], n_range=shape[1])
    azimuth = np.arcsin(np.array([-0.6, -0.2, 0.15, 0.5]))
    truth = scene(array, azimuth, np.array([0.1, 0.3, 0.5, 0.7]) / coarse.range_min_m, t, rng)
    x = truth.x

    def search(grid: FresnelGrid) -> F64:
        return near_field_line(signal_subspace_from_samples(x, m), grid).azimuth_rad

    exact = Grid(
        azimuth_min_rad=-np.pi / 2, azimuth_max_rad=np.pi / 2, n_azimuth=shape[0], spacing="sine",
        range_min_m=coarse.range_min_m, n_range=shape[1],
    )  # fmt: skip
    dense = steering_dictionary(array, LAMBDA, exact)
    for grid in (coarse, fine):
        check(in_bounds(array, truth, search(grid)), f"azimuths {search(grid)} are off")
    on_grid = dense_noise(x, dense.conjugate, m, shape, dense.azimuth_rad, dense.inverse_range_per_m)[0]
    beam = 2 / n
    check(np.abs(np.sin(np.sort(on_grid)) - np.sin(azimuth)).max() < beam, "the dense form is off")
    check((len(fine.sine), len(fine.curvature_per_m)) == shape, "grid sizes")
    signal_rows = np.ascontiguousarray(signal_subspace_from_samples(x, m).T)
    columns = dense.conjugate.T
    took = take_turns(
        {
            "fine": lambda: search(fine),
            "coarse": lambda: search(coarse),
            "product": lambda: signal_rows @ columns,
            "eigh": lambda: np.linalg.eigh(x @ x.conj().T / t),
            "subspace": lambda: signal_subspace_from_samples(x, m),
        },
        n_rounds,
    )
    slow = take_turns(
        {
            "fine": lambda: search(fine),
            "noise": lambda: dense_noise(x, dense.conjugate, m, shape, dense.azimuth_rad, dense.inverse_range_per_m),
        },
        3,
    )
    against = "plain NumPy, noise subspace"
    add(report, case, "512 x 256 by FFT, off the grid", slow["fine"], against, slow["noise"], at_most=15.0)
    product = "the product of signal subspace and dictionary"
    add(report, case, "512 x 256 by FFT, off the grid", took["fine"], product, took["product"], at_most=15.0)
    add(report, case, "coarse grid by FFT, off the grid", took["coarse"], product, took["product"], at_most=15.0)
    add(report, case, "signal subspace from samples", took["subspace"], "covariance and eigh", took["eigh"])
    _stream(report, array, coarse, n_rounds)
    _whole_estimates(report, array, truth, exact, n_rounds)


def _whole_estimates(report: Report, array: ArrayGeometry, truth: Scene, fine: Grid, n_rounds: int) -> None:
    """What the block NearFieldMusic does a frame: powers, errors and likelihood fit included, by FFT and dictionary."""
    m, case = len(truth.azimuth_rad), "near field 256, M=4, T=100, with likelihood fit"
    rows: dict[str, Search] = {}
    for name, grid, size in (("512 x 256", fine, (512, 256)), ("coarse", Grid.coarse(array, LAMBDA), (None, None))):
        rows[f"{name}, FFT"] = line_dictionary(array, LAMBDA, grid, n_azimuth=size[0], n_range=size[1])
        rows[f"{name}, dictionary"] = steering_dictionary(array, LAMBDA, grid)
    found = {name: near_field_music_samples(truth.x, search, m) for name, search in rows.items()}
    azimuth = {name: np.sort(estimate.azimuth_rad) for name, estimate in found.items()}
    for name in rows:
        check(in_bounds(array, truth, azimuth[name]), f"{name} is off")
        check(np.abs(azimuth[name] - azimuth["512 x 256, dictionary"]).max() < 1e-6, f"{name} is not the dictionary's")

    def call(search: Search) -> Callable[[], Any]:
        return lambda: near_field_music_samples(truth.x, search, m)

    took = take_turns({name: call(search) for name, search in rows.items()}, max(7, n_rounds // 4))
    for name in ("512 x 256", "coarse"):
        add(report, case, f"{name} by FFT", took[f"{name}, FFT"], "by dictionary", took[f"{name}, dictionary"])
    header = Header("x", 0, frequency_hz=299792458.0 / LAMBDA)
    for track in (False, True):
        block = NearFieldMusic("music", n_sources=m, track=track)
        block.feed("iq", descriptor_frame(header, array))
        frame = Frame.of(header, iq=(truth.x, "sensor snapshot", "FS"))
        (out,) = (given for port, given in block.feed("iq", frame) if port == "estimates")
        check(in_bounds(array, truth, out["azimuth_rad"]), "the block is off")
        times = take_turns({"block": functools.partial(block.feed, "iq", frame)}, n_rounds)["block"]
        add(report, case, f"block NearFieldMusic, a frame{', tracked' if track else ''}", times)


def _stream(report: Report, array: ArrayGeometry, grid: FresnelGrid, n_rounds: int) -> None:
    m, rng = 4, np.random.default_rng(SEED)
    base, k = np.array([-0.6, -0.2, 0.15, 0.5]), np.array([0.1, 0.3, 0.5, 0.7]) / grid.range_min_m
    frames = [scene(array, np.arcsin(base + 2e-5 * i), k, 100, rng) for i in range(max(30, n_rounds))]
    tracker, times, cold_times = SubspaceTracker(m), [], []
    start: F64 | None = None
    for i, frame in enumerate(frames):
        began = time.perf_counter()
        found = near_field_line(tracker.update(frame.x), grid, start=start)
        start = found.point
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
        cold = near_field_line(signal_subspace_from_samples(frame.x, m), grid)
        cold_times.append(time.perf_counter() - began)
        check(in_bounds(array, frame, found.azimuth_rad), f"stream frame {i} is off")
        check(in_bounds(array, frame, cold.azimuth_rad), f"stream frame {i} is off from scratch")
    check(tracker.n_cold <= 1 + len(frames) // 20, f"{tracker.n_cold} of {len(frames)} frames started anew")
    case = "stream 256, M=4, T=100"
    add(
        report,
        case,
        "frame, subspace and nulls warm",
        np.array(times[1:]),
        "from scratch",
        np.array(cold_times[1:]),
        at_most=3.0,
    )
    report.add(case, "frames that started anew", tracker.n_cold, "", n=len(frames))

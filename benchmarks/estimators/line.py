"""Plane waves on a 16-element line, against pyroomacoustics, plain NumPy and the matrix products."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.estimators.measured import (
    LAMBDA,
    SEED,
    add,
    check,
    in_bounds,
    scene,
    take_turns,
)
from benchmarks.report import Report
from blocks.subspace.esprit import esprit
from blocks.subspace.line_music import line_grid, line_music
from blocks.subspace.root_music import root_music
from blocks.subspace.signal_subspace import signal_subspace
from hil.array import ArrayGeometry

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]


def far_field(report: Report, n_rounds: int) -> None:
    """16-element line, 256 snapshots, 361 angles, covariance included."""
    n, t, m, n_angles = 16, 256, 2, 361
    array, case = ArrayGeometry.ula(n, LAMBDA / 2), "line 16, T=256, 361 angles"
    truth = scene(array, np.array([-0.413, 0.2071]), np.zeros(2), t, np.random.default_rng(SEED))
    grid = line_grid(n, LAMBDA / 2, LAMBDA, n_angles)
    steering = np.exp(2j * np.pi / LAMBDA * array.position_m[:, :1] * np.sin(grid.azimuth_rad)).astype(np.complex64)
    conjugate = np.ascontiguousarray(steering.conj().T)
    x = truth.x

    def plain() -> tuple[Any, Any]:
        covariance = x @ x.conj().T / t
        signal = np.linalg.eigh(covariance)[1][:, -m:]
        spectrum = 1 / (n - (np.abs(conjugate @ signal) ** 2).sum(axis=1))
        peak = np.flatnonzero((spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] >= spectrum[2:])) + 1
        return spectrum, grid.azimuth_rad[peak[np.argsort(spectrum[peak])[-m:]]]

    signal_rows = np.ascontiguousarray(signal_subspace(x @ x.conj().T / t, m).T)

    def products() -> None:
        x @ x.conj().T
        signal_rows @ steering

    spectrum, peaks = plain()
    ours, refined = line_music(x, grid, m, refine=False), line_music(x, grid, m)
    check(np.allclose(ours.spectrum, n * spectrum, rtol=1e-2), "the spectrum is not plain NumPy's")
    check(np.array_equal(np.sort(ours.azimuth_rad), np.sort(peaks)), "the peaks are not plain NumPy's")
    check(in_bounds(array, truth, refined.azimuth_rad), f"refined azimuths {refined.azimuth_rad} are off")
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: line_music(x, grid, m, refine=False),
        "refined": lambda: line_music(x, grid, m),
        "plain": plain,
        "products": products,
    }
    peer = _pyroomacoustics(array, grid.azimuth_rad, m)
    if peer is not None:
        check(np.allclose(np.sort(peer(x)), np.sort(peaks), atol=1e-6), f"pyroomacoustics found {peer(x)}, not {peaks}")
        calls["peer"] = lambda: peer(x)
    signal = signal_rows.T.astype(np.complex128)
    for name, found in (("root-MUSIC", root_music(signal)), ("ESPRIT", esprit(signal))):
        check(in_bounds(array, truth, np.arcsin(found.phase_rad / np.pi), 8.0), f"{name} is off")
    calls["root"], calls["esprit"] = lambda: root_music(signal), lambda: esprit(signal)
    took = take_turns(calls, n_rounds)
    add(report, case, "MUSIC", took["ours"], "plain NumPy", took["plain"], ratio_at_least=1.0)
    if peer is not None:
        add(report, case, "MUSIC", took["ours"], "pyroomacoustics", took["peer"], ratio_at_least=6.0)
    add(report, case, "MUSIC", took["ours"], "its two matrix products", took["products"])
    add(report, case, "MUSIC, off the grid", took["refined"], "plain NumPy", took["plain"], ratio_at_least=1 / 1.5)
    add(report, case, "root-MUSIC from the subspace", took["root"])
    add(report, case, "ESPRIT (TLS) from the subspace", took["esprit"])


def _pyroomacoustics(array: ArrayGeometry, azimuth_rad: F64, n_sources: int) -> Callable[[C64], F64] | None:
    try:
        doa = importlib.import_module("pyroomacoustics").doa
    except ImportError:
        print(
            "pyroomacoustics is not installed (pip install 'hil-receiver[peers]'): its row is left out", file=sys.stderr
        )
        return None
    # bin 1 of 4 at fs = 4 c / lambda is the carrier; its azimuth counts from +x
    c = 343.0
    line = np.ascontiguousarray(array.position_m[:, :2].T)
    music = doa.MUSIC(line, 4 * c / LAMBDA, 4, c=c, num_src=n_sources, azimuth=np.pi / 2 - azimuth_rad[::-1])

    def locate(x: C64) -> F64:
        spectra = np.zeros((len(x), 3, x.shape[1]), dtype=np.complex64)
        spectra[:, 1] = x
        music.locate_sources(spectra, freq_bins=[1])
        return np.pi / 2 - np.asarray(music.azimuth_recon)

    return locate

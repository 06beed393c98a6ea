"""Contestants in turn, rows in milliseconds, scenes, and what makes a result worth timing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, median_ci95
from blocks.bounds.cramer_rao import stochastic_crb
from hil.array import ArrayGeometry
from hil.wavefront import steering_vector_polar

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]

LAMBDA = 0.06
SNR_DB = 10.0
SEED = 11


class Wrong(RuntimeError):
    """A result that is not right is not timed."""


def check(right: Any, what: str) -> None:
    if not right:
        raise Wrong(f"estimators: {what}")


def take_turns(calls: Mapping[str, Callable[[], Any]], n_rounds: int, slot_s: float = 2e-3) -> dict[str, F64]:
    """Seconds a call of each, ``[round]``: every round runs each for about ``slot_s``, one after the other."""
    repeat = {}
    for name, call in calls.items():
        call()
        began = time.perf_counter()
        call()
        repeat[name] = max(1, int(slot_s / max(time.perf_counter() - began, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(repeat[name]):
                call()
            times[name].append((time.perf_counter() - began) / repeat[name])
    return {name: np.array(values) for name, values in times.items()}


def add(
    report: Report, case: str, name: str, times: F64, against: str = "", other: F64 | None = None, **goal: Any
) -> None:
    """A row in milliseconds; the ratio is the median over rounds of theirs to ours."""
    value, interval = median_ci95(1e3 * times)
    ratio = None if other is None else float(np.median(other / times))
    told = f"{against}, {1e3 * float(np.median(other)):.3g} ms" if other is not None else None
    report.add(case, name, value, "ms", n=len(times), ci95=interval, against=told, ratio=ratio, **goal)


class Scene(NamedTuple):
    x: C64
    azimuth_rad: F64
    inverse_range_per_m: F64


def scene(
    array: ArrayGeometry, azimuth_rad: F64, inverse_range: F64, n_snapshots: int, rng: np.random.Generator
) -> Scene:
    """Uncorrelated Gaussian sources in unit noise, exact spherical wavefront; ``[sensor, snapshot]`` complex64."""
    with np.errstate(divide="ignore"):
        range_m = 1 / inverse_range
    a = steering_vector_polar(array.position_m, azimuth_rad, range_m, LAMBDA, amplitude=True).T
    s = noise(rng, len(azimuth_rad), n_snapshots) * 10 ** (SNR_DB / 20)
    return Scene((a @ s + noise(rng, len(a), n_snapshots)).astype(np.complex64), azimuth_rad, inverse_range)


def noise(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.complex128]:
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2)


def in_bounds(array: ArrayGeometry, truth: Scene, azimuth_rad: F64, sigmas: float = 5.0) -> bool:
    """All azimuths within ``sigmas`` root-CRB of the true ones, in any order."""
    m = len(truth.azimuth_rad)
    if len(azimuth_rad) != m:
        return False
    far = np.maximum(truth.inverse_range_per_m, 1e-9)
    bound = stochastic_crb(
        array.position_m, truth.azimuth_rad, np.zeros(m), 1 / far, LAMBDA, 10 ** (SNR_DB / 10) * np.eye(m), 1.0,
        truth.x.shape[1], parameters=("azimuth", "inverse_range"),
    )  # fmt: skip
    sigma = np.sqrt([bound[i, 0, i, 0] for i in range(m)])
    order = np.argsort(truth.azimuth_rad)
    return bool((np.abs(np.sort(azimuth_rad) - truth.azimuth_rad[order]) < sigmas * sigma[order]).all())


def rms(found: F64, truth: F64) -> float:
    return float(np.sqrt(np.mean((np.sort(found, axis=-1) - np.sort(truth, axis=-1)) ** 2)))


def dense_noise(
    x: C64, conjugate: C64, m: int, shape: tuple[int, int], azimuth_rad: F64, inverse_range: F64, chunk: int = 1 << 15
) -> tuple[F64, F64]:
    """Noise-subspace MUSIC on the whole grid, the ``m`` highest local maxima: what one writes down first."""
    noise = np.linalg.eigh(x @ x.conj().T / x.shape[1])[1][:, :-m]
    cost = np.concatenate(
        [(np.abs(conjugate[i : i + chunk] @ noise) ** 2).sum(axis=1) for i in range(0, len(conjugate), chunk)]
    ).reshape(shape)
    padded = np.pad(cost, 1, constant_values=np.inf)
    around = [padded[1 + i : 1 + i + shape[0], 1 + j : 1 + j + shape[1]] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    low = np.flatnonzero(cost <= np.minimum.reduce(around))
    best = low[np.argsort(cost.ravel()[low])[:m]]
    return azimuth_rad[best // shape[1]], inverse_range[best % shape[1]]

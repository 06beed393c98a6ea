"""Time and memory against the number of elements and of sources."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

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
from blocks.subspace.fresnel_grid import FresnelGrid, fresnel_grid
from blocks.subspace.near_field_line import near_field_line
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from hil.array import ArrayGeometry

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]


Table = dict[tuple[int, int], tuple[float, float]]


def growth(report: Report, n_rounds: int, sizes: tuple[int, ...], sources: tuple[int, ...]) -> Table:
    """Cost from samples (T=100) against N and M: search by FFT, off the grid; time, and peak memory beyond the grid.

    Returns:
        Seconds and bytes by N and M.
    """
    table: Table = {}
    for n in sizes:
        array = ArrayGeometry.ula(n, LAMBDA / 2)
        grid = fresnel_grid(array, LAMBDA)
        kept = sum(part.nbytes for part in (grid.chirp, grid.searched, grid.sine, grid.curvature_per_m))
        report.add(f"growth, N={n}", "memory of the grid", kept / 2**20, "MiB", n=1)
        for m in sources:
            if 4 * m > n:
                continue
            sines = np.linspace(-0.8, 0.8, m) if m > 1 else np.array([0.3])
            k = np.linspace(0.05, 0.3, m) / grid.range_min_m
            truth = scene(array, np.arcsin(sines), k, 100, np.random.default_rng(SEED))

            def estimate(x: C64 = truth.x, m: int = m, grid: FresnelGrid = grid) -> F64:
                return near_field_line(signal_subspace_from_samples(x, m), grid).azimuth_rad

            check(in_bounds(array, truth, estimate()), f"N={n}, M={m}: azimuths {estimate()} are off")
            seconds = take_turns({"one": estimate}, n_rounds)["one"]
            tracemalloc.start()
            estimate()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            table[n, m] = float(np.median(seconds)), float(peak)
            case = f"growth, N={n}, M={m}"
            add(report, case, f"{len(grid.sine)} x {len(grid.curvature_per_m)} grid", seconds)
            report.add(case, "peak memory", peak / 2**20, "MiB", n=1)
    most, largest = max(sources), max(sizes)
    for label, pairs in (
        (f"N at M={min(4, most)}", [(n, table[n, min(4, most)]) for n in sizes if n >= 256]),
        (f"M at N={largest}", [(m, table[largest, m]) for m in sources]),
    ):
        if len(pairs) > 1:
            log_size = np.log([size for size, _ in pairs])
            for column, what in ((0, "time"), (1, "memory")):
                slope = np.polyfit(log_size, np.log([cost[column] for _, cost in pairs]), 1)[0]
                report.add("growth", f"exponent of {what} in {label}", float(slope), "", n=len(pairs))
    return table


def plot(table: Table, folder: Path) -> None:
    """Time and memory against N, a line for each M, into ``folder/estimators_growth.png``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.0), constrained_layout=True)
    for m in sorted({m for _, m in table}):
        sizes = sorted(n for n, sources in table if sources == m)
        for ax, column, scale in ((axes[0], 0, 1e3), (axes[1], 1, 2**-20)):
            ax.loglog(sizes, [scale * table[n, m][column] for n in sizes], "o-", label=f"M = {m}")
    for ax, what in zip(axes, ("time, ms", "peak memory beyond the grid, MiB"), strict=True):
        ax.set_xlabel("elements N")
        ax.set_ylabel(what)
        ax.grid(True, which="both", alpha=0.3)
    axes[0].legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "estimators_growth.png", dpi=110)
    plt.close(figure)

"""How well two sources in front of a planar array are placed: network, likelihood, plain MUSIC, and the bound.

``nf_subspacenet_ura`` on its own 6 x 6 elements: places off any grid, of a split that no training has seen, all methods
on the same ones, number of sources given. Ranges are held within those that sources are drawn from. A source that is
missed, or one too many, costs the farthest range, in angle 90 degrees. The bound is the conditional one, of azimuth,
elevation and range together, for the waveforms that were sent.

Run: ``python -m benchmarks.nf_planar [--n 1000] [--snr-db 20] [--snapshots 100] [--json]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from benchmarks.report import Report
from blocks.bounds.cramer_rao import conditional_crb
from blocks.evaluation.rmspe import rmspe
from blocks.neural.fast_surrogate import FastSurrogate
from blocks.neural.near_field_subspace_net import NearFieldSubspaceNet
from blocks.neural.planar_likeliest import settled_in_space
from blocks.neural.weights import load_card, load_model, weights_path
from blocks.subspace.moments import Moments
from blocks.subspace.planar_grid import PlanarGrid, planar_grid
from blocks.subspace.planar_likelihood import greedy_planar, planar_from_subspace, planar_steering
from hil.errors import ParamError
from hil.wavefront import direction_vector
from sim_device.near_field_places import NearFieldPlaces

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

NAME = "nf_subspacenet_ura"
#: Errors and bounds are compared where every source's bound is at most this part of its range: beyond, the ranges that
#: sources are drawn from tell more than the samples do, and no bound of unbiased estimates holds.
TOLD_BY_SAMPLES = 0.1
#: What a source costs in angle that is not found.
MISSED_RAD = np.pi / 2
_CHUNK = 100


class Example(NamedTuple):
    """Samples ``[sensor, snapshot]``, the network's covariance, and azimuth, elevation, range ``[source, 3]``."""

    x: C128
    surrogate: C128
    truth: F64


#: From an example to azimuth, elevation, inverse range ``[source, 3]``.
Method = Callable[[Example], F64]


def examples(places: NearFieldPlaces, n: int) -> list[Example]:
    """``n`` test examples with what the shipped network makes of them."""
    model = load_model(weights_path(NAME))[0]
    assert isinstance(model, NearFieldSubspaceNet)
    network, out = FastSurrogate(model.network), []
    for number, first in enumerate(range(0, n, _CHUNK)):
        batch = places.batch(number, min(_CHUNK, n - first))
        truth = np.stack([batch[k] for k in ("azimuth_rad", "elevation_rad", "range_m")], axis=-1)
        samples = batch["samples"]
        out += [
            Example(x.astype(np.complex128), r, t) for x, r, t in zip(samples, network(samples), truth, strict=True)
        ]
    return out


def methods(grid: PlanarGrid) -> dict[str, Method]:
    """By name, in the order of the table."""

    def nulls(example: Example, *, of_network: bool, polish: bool, settle: bool = False) -> F64:
        covariance = example.surrogate if of_network else example.x @ example.x.conj().T
        signal = np.ascontiguousarray(np.linalg.eigh(covariance)[1][:, : -len(example.truth) - 1 : -1])
        moments = Moments.of_samples(example.x)
        found = planar_from_subspace(signal, moments, grid, polish=polish)
        fit = (settled_in_space(found, moments, grid) if settle else found).fit
        return np.zeros((0, 3)) if fit is None else fit.point

    return {
        "planar MUSIC": lambda e: nulls(e, of_network=False, polish=False),
        "planar MUSIC, refined": lambda e: nulls(e, of_network=False, polish=True),
        "greedy likelihood": lambda e: greedy_planar(Moments.of_samples(e.x), grid, len(e.truth)).point,
        "NF-SubspaceNet": lambda e: nulls(e, of_network=True, polish=False),
        "NF-SubspaceNet, refined": lambda e: nulls(e, of_network=True, polish=True),
        "NF-SubspaceNet, block": lambda e: nulls(e, of_network=True, polish=True, settle=True),
    }


class Score(NamedTuple):
    """Errors of one example: mean and root mean square of positions in m, mean angle in rad, mean range of those found.

    ``range_m`` is NaN where no source was found.
    """

    mean_m: float
    rms_m: float
    angle_rad: float
    range_m: float
    short: bool


def score(found: F64, truth: F64, limits_m: tuple[float, float]) -> Score:
    """Compare azimuth, elevation, inverse range ``[source, 3]`` with azimuth, elevation, range ``[source, 3]``."""
    ranges = 1 / np.clip(found[:, 2], 1 / limits_m[1], 1 / limits_m[0])
    to, towards = direction_vector(found[:, 0], found[:, 1]), direction_vector(truth[:, 0], truth[:, 1])
    at, where = to * ranges[:, None], towards * truth[:, 2:]
    mean, rms = (rmspe(at, where, limits_m[1], order=p) for p in (1, 2))
    angle = 2 * np.arcsin(np.minimum(np.linalg.norm(to[:, None] - towards, axis=-1) / 2, 1))
    i, j = linear_sum_assignment(angle)
    missed = max(angle.shape) - len(i)
    of_all = (float(angle[i, j].sum()) + missed * MISSED_RAD) / max(angle.shape)
    off = float(np.abs(ranges[i] - truth[j, 2]).mean()) if len(i) else float("nan")
    return Score(mean, rms, of_all, off, len(found) < len(truth))


def bounds(example: Example, grid: PlanarGrid) -> F64:
    """Conditional bound of direction (rad) and range (m) of each source, ``[source, 2]``; infinite: there is none."""
    az, el, r = example.truth.T
    a = planar_steering(grid.model, np.column_stack([az, el, 1 / r]))
    sent = np.linalg.lstsq(a, example.x, rcond=None)[0]
    n_snapshots = example.x.shape[1]
    position_m, wavelength_m, amplitude = grid.model
    try:
        bound = conditional_crb(
            position_m, az, el, r, wavelength_m, sent @ sent.conj().T / n_snapshots, 1.0, n_snapshots,
            parameters=("azimuth", "elevation", "range"), amplitude=amplitude,
        )  # fmt: skip
    except ParamError:
        return np.full((len(r), 2), np.inf)
    variance = np.array([np.diag(bound[j, :, j, :]) for j in range(len(r))])
    return np.sqrt(np.column_stack([variance[:, 0] * np.cos(el) ** 2 + variance[:, 1], variance[:, 2]]))


def measure_planar(report: Report, *, n: int = 1000, snr_db: float = 20.0, n_snapshots: int = 100) -> None:
    """Add the rows to ``report``."""
    data = load_card(weights_path(NAME)).data
    data = {**data, "snr_db": (snr_db, snr_db), "n_snapshots": n_snapshots, "n_snapshots_most": None}
    for coherent in (True, False):
        places = NearFieldPlaces({**data, "coherent": coherent}, 41, "test")
        grid = planar_grid(places.array, places.wavelength_m, amplitude=True)
        tests = examples(places, n)
        bound = np.array([bounds(e, grid) for e in tests])  # (example, source, angle and range)
        ranges = np.array([e.truth[:, 2] for e in tests])
        kind = "coherent" if coherent else "non-coherent"
        guess_m = (places.range_m[1] - places.range_m[0]) / np.sqrt(12)
        report.add(f"{kind}, bound", "angle, median", np.median(bound[..., 0]), "rad", n=n)
        report.add(f"{kind}, bound", "range, median", np.median(bound[..., 1]), "m", n=n)
        report.add(
            f"{kind}, bound", "sources with a range no better than a guess", np.mean(bound[..., 1] > guess_m), "", n=n
        )
        position = np.hypot(bound[..., 0] * ranges, bound[..., 1])
        told = (position <= TOLD_BY_SAMPLES * ranges).all(axis=1)
        least = np.where(told, np.sqrt(np.mean(position**2, axis=1)), np.nan)
        report.add(f"{kind}, bound", "position, median", np.median(least[told]), "m", n=int(told.sum()))
        for name, method in methods(grid).items():
            _add(report, f"{kind}, {name}", [score(method(e), e.truth, places.range_m) for e in tests], least)


def _add(report: Report, case: str, scores: list[Score], least_m: F64) -> None:
    """Rows of one method; ``least_m``: bound of each example's root mean square, NaN where it is not compared."""
    mean, rms, angle, off, short = (np.array(column, dtype=float) for column in zip(*scores, strict=True))
    n = len(mean)
    half = 1.96 * mean.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    report.add(case, "position, mean", mean.mean(), "m", n=n, ci95=(mean.mean() - half, mean.mean() + half))
    report.add(case, "position, median", np.median(mean), "m", n=n)
    report.add(case, "position, rms", np.sqrt(np.mean(rms**2)), "m", n=n)
    over, n_told = rms / least_m, int(np.isfinite(least_m).sum())
    report.add(case, "position over its bound, rms", np.sqrt(np.nanmean(over**2)), "", n=n_told)
    report.add(case, "position over its bound, median", np.nanmedian(over), "", n=n_told)
    half = 1.96 * angle.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    report.add(case, "angle, mean", angle.mean(), "rad", n=n, ci95=(angle.mean() - half, angle.mean() + half))
    report.add(case, "angle, median", np.median(angle), "rad", n=n)
    report.add(case, "range, median", np.nanmedian(off), "m", n=n)
    report.add(case, "too few found", short.mean(), "", n=n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="test places")
    parser.add_argument("--snr-db", type=float, default=20.0)
    parser.add_argument("--snapshots", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    report = Report("nf_planar", as_json=options.json)
    measure_planar(report, n=options.n, snr_db=options.snr_db, n_snapshots=options.snapshots)
    report.finish()


if __name__ == "__main__":
    main()

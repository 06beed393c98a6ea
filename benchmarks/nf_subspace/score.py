"""How far off: both definitions of the error, its intervals, and the bound."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from benchmarks.nf_subspace.methods import Found, Test
from blocks.bounds.cramer_rao import conditional_crb
from blocks.evaluation.rmspe import rmspe
from hil.wavefront import direction_vector

F64 = npt.NDArray[np.float64]

#: What a source costs in angle that is not found.
MISSED_RAD = np.pi / 2

#: Bounds and errors are compared where every source's bound is at most this: beyond, the ranges that sources are drawn
#: from tell more than the samples do, and no bound of unbiased estimates holds.
TOLD_BY_SAMPLES_M = 1.0


class Score(NamedTuple):
    """Errors of each example, ``[example]``.

    Attributes:
        mean_m: Mean over sources of the distance, best permutation: what the published code calls RMSPE.
        rms_m: Root of the mean square, [NF] Eq. (23).
        angle_rad: The same of angles alone, [NF] Eq. (19).
        range_m: The same of ranges alone, [NF] Eq. (21), the best permutation of their own.
        short: Fewer or more sources than there are; each costs the farthest range, in angle 90 degrees.
    """

    mean_m: F64
    rms_m: F64
    angle_rad: F64
    range_m: F64
    short: npt.NDArray[np.bool_]


def score(test: Test, found: list[Found]) -> Score:
    """Compare what was found with the truth."""
    cutoff_m, rows = test.limits_m[1], []
    for i, one in enumerate(found):
        true = test.truth(i)
        at, where = (direction_vector(f.azimuth_rad) * f.range_m[:, None] for f in (one, true))
        mean, rms = (rmspe(at, where, cutoff_m, order=p) for p in (1, 2))
        turn = np.remainder(one.azimuth_rad[:, None] - true.azimuth_rad + np.pi / 2, np.pi) - np.pi / 2
        angle = _root_mean_square(turn, MISSED_RAD)
        away = _root_mean_square(one.range_m[:, None] - true.range_m, cutoff_m)
        rows.append((mean, rms, angle, away, len(at) != len(where)))
    mean_m, rms_m, angle_rad, range_m, short = np.array(rows).T
    return Score(mean_m, rms_m, angle_rad, range_m, short.astype(bool))


def _root_mean_square(off: F64, missed: float) -> float:
    """Of differences ``[found, true]``, best permutation; what is missing or too many costs ``missed``."""
    matched = off[linear_sum_assignment(off**2)]
    total = float(matched @ matched)
    return float(np.sqrt((total + abs(off.shape[0] - off.shape[1]) * missed**2) / max(*off.shape, 1)))


def mean_ci95(values: F64) -> tuple[float, tuple[float, float]]:
    """Mean and its interval."""
    mean = float(values.mean())
    half = float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, (mean - half, mean + half)


def root_mean_square_ci95(values: F64) -> tuple[float, tuple[float, float]]:
    """Root of the mean square and its interval, from that of the mean square."""
    mean, (low, high) = mean_ci95(values**2)
    return float(np.sqrt(mean)), (float(np.sqrt(max(low, 0.0))), float(np.sqrt(high)))


def position_bounds(test: Test) -> F64:
    """Conditional Cramer-Rao bound of each source's place, ``[example, source]`` m^2, of non-coherent sources."""
    array, wavelength_m = test.places.array, test.places.wavelength_m
    out = np.full((len(test), int(test.n_sources.max())), np.nan)
    for i, snr_db in enumerate(test.batch["snr_db"]):
        azimuth, ranges = test.truth(i)
        m = len(azimuth)
        bound = conditional_crb(
            array.channel_position_m,
            azimuth,
            np.zeros(m),
            ranges,
            wavelength_m,
            10 ** (snr_db / 10) * np.eye(m),
            1.0,
            test.samples.shape[-1],
        )
        variance = np.array([np.diag(bound[j, :, j, :]) for j in range(m)])
        out[i, :m] = variance[:, 0] * ranges**2 + variance[:, 1]
    return out


def over_bound(errors: Score, bounds: F64) -> tuple[float, tuple[float, float], int]:
    """Root of mean square error over mean bound, its interval, and of how many examples: those that samples tell."""
    told = np.nanmax(bounds, axis=1) <= TOLD_BY_SAMPLES_M**2
    bound = float(np.sqrt(np.nanmean(bounds[told], axis=1).mean()))
    root, (low, high) = root_mean_square_ci95(errors.rms_m[told])
    return root / bound, (low / bound, high / bound), int(told.sum())

"""What an efficient estimator's errors are to first order on given noise, to take the luck of the draws out of a ratio.

``delta = I^-1 (2 / sigma^2) Re{D^H e}`` with the noise ``e`` that was drawn: its mean square *is* the Cramer-Rao bound,
and any estimator near the bound has almost the same errors. Hence ``E[ours^2] = CRB + E[ours^2 - delta^2]``, and the
second term, averaged over the same trials, varies far less than ``ours^2`` (a control variate of known mean).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.hi_aware.reduce import Reduced
from blocks.hi_aware.scene import Scene

F64 = npt.NDArray[np.float64]


def first_order_errors(
    data: Reduced, scene: Scene, azimuth_rad: F64, range_m: F64, gain: Any, coefficient: Any
) -> tuple[F64, F64]:
    """Errors of azimuth and range ``[source]``, with gains unknown and faults known: those whose bound is CRB.

    Args:
        data: Reduced by the pilots.
        scene: Array and wavefront.
        azimuth_rad: True ones ``[source]``.
        range_m: True ones ``[source]``.
        gain: True ``beta [source]``.
        coefficient: True ``c [sensor]``.
    """
    assert data.mixing is not None
    steering = scene.steering(azimuth_rad, 1 / range_m)
    b, c = gain[:, None] * data.mixing, coefficient
    rows = [steering.azimuth, -steering.inverse_range / range_m[:, None] ** 2, steering.a, 1j * steering.a]
    columns = [(c * row[i])[:, None] * b[i] for row in rows for i in range(len(range_m))]
    d = np.stack([np.concatenate([column.real.ravel(), column.imag.ravel()]) for column in columns], axis=1)
    noise = data.z - c[:, None] * (steering.a.T @ b)
    scale = np.linalg.norm(d, axis=0)
    step = np.linalg.lstsq(d / scale, np.concatenate([noise.real.ravel(), noise.imag.ravel()]), rcond=None)[0] / scale
    k = len(range_m)
    return step[:k], step[k : 2 * k]


def controlled_ratio(
    ours: F64, bound: F64, first_order: F64, first_order_bound: F64, n_resamples: int = 1000
) -> tuple[float, tuple[float, float]]:
    """RMSE to root bound with the draws taken out, and its 95 % bootstrap interval over trials.

    Args:
        ours: Squared errors ``[trial]``; trials that gave up (NaN) count in none.
        bound: Variance bound of the mode that is compared ``[trial]``.
        first_order: Squared first-order errors of the same trials.
        first_order_bound: Their expectations ``[trial]``: the bound with waveforms and faults known.
        n_resamples: Of the bootstrap.
    """
    kept = np.isfinite(ours) & np.isfinite(bound)
    above, b = (ours - first_order + first_order_bound)[kept], bound[kept]
    draws = np.random.default_rng(0).integers(len(b), size=(n_resamples, len(b)))
    ratios = np.sqrt(np.maximum(above[draws].mean(axis=1), 0) / b[draws].mean(axis=1))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(np.sqrt(above.mean() / b.mean())), (float(low), float(high))

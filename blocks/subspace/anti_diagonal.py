r"""Angles apart from ranges: MUSIC on the anti-diagonal of the covariance of a symmetric line array.

Elements ``n`` and ``N - 1 - n`` lie at ``l`` and ``-l``; in the Fresnel wavefront their correlation has no curvature::

    [R]_{n, N-1-n} = sum_k g_k exp(j 2 pi / lambda 2 l_n sin theta_k)

([HI] Eqs. 29 to 33; the reduced-dimension MUSIC of Zhang et al. 2018). What the exact wavefront has beyond, of third
order in ``l / r``, stays as a bias. The virtual array has twice the spacing: ``sin theta`` repeats with period
``lambda / (2 d)``, 1 at half a wavelength, and is searched round a coarse angle only. It uses N of the N^2 entries of
the covariance: not efficient; refine with a likelihood.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


def anti_diagonal(x: Complex) -> Complex:
    """Anti-diagonal ``[sensor]`` of the sample covariance of ``x [sensor, snapshot]``."""
    return np.mean(x * x[::-1].conj(), axis=1)


def smoothed_subspace(virtual: Complex, n_sources: int, n_parts: int | None = None) -> Complex:
    """Signal subspace ``[N - M + 1, source]`` of the ``M`` overlapping parts of one virtual snapshot, Eqs. (31), (32).

    Args:
        virtual: ``[sensor]``.
        n_sources: ``K``; ``K <= M <= N - K``.
        n_parts: ``M``; absent: half of the sensors.

    Raises:
        EstimationError: ``M`` outside its limits, or not finite.
    """
    n = len(virtual)
    m = n // 2 if n_parts is None else n_parts
    if not n_sources <= m <= n - n_sources:
        raise EstimationError(f"smoothed_subspace: expected {n_sources} <= n_parts <= {n - n_sources}, got {m}")
    if not np.isfinite(virtual).all():
        raise EstimationError("smoothed_subspace: the virtual snapshot is not finite")
    parts = np.lib.stride_tricks.sliding_window_view(virtual, n - m + 1).T
    length = n - m + 1
    _, vectors = eigh(parts @ parts.conj().T / m, subset_by_index=[length - n_sources, length - 1])
    return vectors


def anti_diagonal_angles(
    x: Complex, spacing_m: float, wavelength_m: float, around_rad: F64, *, half_width: float = 0.02
) -> F64:
    """Angle of each target, the highest peak of Eq. (33) within ``half_width`` in sine of its coarse angle.

    Args:
        x: Calibrated samples ``[sensor, snapshot]`` of a uniform line array.
        spacing_m: Metres.
        wavelength_m: Metres.
        around_rad: Coarse angles ``[source]``.
        half_width: In ``sin theta``; below half the period ``lambda / (2 spacing)``.

    Returns:
        ``[source]`` rad, off the grid.

    Raises:
        EstimationError: ``half_width`` reaches the ambiguity.
    """
    if not 0 < half_width < wavelength_m / (4 * spacing_m):
        raise EstimationError(
            f"anti_diagonal_angles: half_width {half_width} reaches the next period; expected below "
            f"{wavelength_m / (4 * spacing_m):.3g}"
        )
    signal = smoothed_subspace(anti_diagonal(x), len(around_rad))
    index = np.arange(len(signal))

    def projection(sine: F64) -> F64:
        conjugate = np.exp(-4j * np.pi * spacing_m / wavelength_m * np.outer(sine, index))
        return np.sum(np.abs(conjugate @ signal) ** 2, axis=1)

    return np.arcsin([_peak(projection, np.sin(a), half_width, 0.1 / len(signal)) for a in around_rad])


def _peak(projection: Any, centre: float, half_width: float, step: float) -> float:
    """Grid, then two finer grids, then a parabola."""
    for _ in range(3):
        grid = np.clip(centre + np.arange(-half_width, half_width + step / 2, step), -1, 1)
        values = projection(grid)
        best = int(values.argmax())
        centre, half_width, step = float(grid[best]), step, step / 10
    if 0 < best < len(grid) - 1:
        before, at, after = values[best - 1 : best + 2]
        curvature = before - 2 * at + after
        if curvature < 0:
            centre += 0.5 * float((before - after) / curvature) * float(grid[1] - grid[0])
    return centre

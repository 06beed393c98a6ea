r"""Fault masks by sparse least squares: ISTA and FISTA on [HI] Problem (P3).

    min_z  sum_t || y_t - diag(1 + z) x_t ||^2 + 2 rho sum_n |z_n|

is separable over elements: with ``h_n = sum_t |x_nt|^2`` and ``b_n = sum_t conj(x_nt) y_nt`` all of it is in ``b`` and
``h``, and the minimum is ``S(b_n / h_n - 1, rho / h_n)``. The factor 2 is that of the gradient of a square, which [HI]
Eq. (11) leaves out together with that of the penalty.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.hi_aware.scene import C128, F64
from hil.errors import EstimationError


class Mask(NamedTuple):
    """``z = c - 1 [sensor]`` and the iterations it took."""

    z: C128
    n_iterations: int


def shrink(z: C128, threshold: npt.ArrayLike) -> C128:
    """Complex soft threshold ``z / |z| max(|z| - threshold, 0)``; [HI] Eq. (9) lacks the maximum and ``z / |z|``."""
    size = np.abs(z)
    return np.where(size > 0, z / np.maximum(size, 1e-300), 0) * np.maximum(size - threshold, 0.0)


def shrink_blocks(z: C128, threshold: float, block_size: int) -> C128:
    """As :func:`shrink` on the norms of blocks of neighbours: for faults that come in clusters, [HI] footnote 2.

    Blocks are aligned; the last may be shorter. ``threshold`` is that of one element: a block's is larger by the root
    of its size.
    """
    n = len(z)
    start = np.arange(0, n, block_size)
    norm = np.sqrt(np.add.reduceat(np.abs(z) ** 2, start))
    size = np.diff(np.append(start, n))
    factor = np.maximum(1 - threshold * np.sqrt(size) / np.maximum(norm, 1e-300), 0.0)
    return z * np.repeat(factor, size)


def ista(
    cross: C128,
    power: F64,
    rho: float,
    *,
    accelerate: bool = False,
    block_size: int = 1,
    tolerance: float = 1e-6,
    max_iterations: int = 5000,
) -> Mask:
    """Proximal gradient from ``z = 0``; ``accelerate``: FISTA (Beck and Teboulle 2009).

    The step is ``1 / max h``, the inverse Lipschitz constant of the gradient: a fixed one, as [HI] Section VI-A has it,
    fits one scaling of the data only.

    Args:
        cross: ``b [sensor]``.
        power: ``h [sensor]``, positive.
        rho: Penalty, in the unit of ``power``; see :func:`penalty`.
        accelerate: FISTA.
        block_size: Above 1: block-sparse, :func:`shrink_blocks`.
        tolerance: Stop where no entry moves by more.
        max_iterations: Else an error.

    Raises:
        EstimationError: No power, or no convergence.
    """
    step = 1 / float(power.max()) if power.max() > 0 else np.inf
    if not np.isfinite(step) or not np.isfinite(cross).all():
        raise EstimationError("ista: the model has no power or the data are not finite")
    z = point = np.zeros(len(cross), np.complex128)
    momentum = 1.0
    for i in range(max_iterations):
        descended = point + step * (cross - power * (1 + point))
        threshold = step * rho
        new = shrink(descended, threshold) if block_size == 1 else shrink_blocks(descended, threshold, block_size)
        moved = float(np.abs(new - z).max())
        point = new
        if accelerate:
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            point = new + (momentum - 1) / following * (new - z)
            momentum = following
        z = new
        if moved <= tolerance:
            return Mask(z, i + 1)
    raise EstimationError(f"ista: moved by {moved:.1e} in step {max_iterations}; allow more, or a larger tolerance")


def penalty(cross: C128, power: F64, noise_power: float) -> float:
    r"""``rho`` from the data: the largest mask that noise and the model's own errors give in all elements.

    The least-squares mask of an intact element is circular with variance ``noise_power / h``; what the places err by
    adds to it, and shows in the median. Of N such ``N^-0.2`` are above ``sqrt(1.2 ln N)`` deviations: a false alarm
    every few frames, and few faults that are shrunk away.
    """
    error = np.abs(cross / np.maximum(power, 1e-300) - 1)
    h = float(np.median(power))
    variance = max(noise_power / h, float(np.median(error)) ** 2 / np.log(2))
    return h * float(np.sqrt(1.2 * variance * np.log(len(power))))

"""MUSIC cost on a grid, in signal-subspace form, and its local minima."""

from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

Array = Any  # NumPy or torch


def signal_projection(conjugate: Array, signal: Array) -> Array:
    r"""Part of each steering vector that lies in the signal subspace, :math:`\|U_s^H a\|^2 / \|a\|^2`.

    The MUSIC cost is one minus it, as :math:`\|U_w^H a\|^2 = \|a\|^2 - \|U_s^H a\|^2`: M inner products a grid point
    instead of the N - M of [NF] Eq. (10).

    Args:
        conjugate: ``a^H / |a|``, ``[point, sensor]``; fastest as the transpose of a contiguous array.
        signal: Orthonormal ``U_s``, ``[..., sensor, source]`` of the same dtype.

    Returns:
        ``[..., point]`` real, 0 .. 1.
    """
    xp = array_namespace(signal)
    # (source, sensor) @ (sensor, point): long rows, which multiply and add up several times faster than long columns
    projected = xp.matrix_transpose(signal) @ xp.matrix_transpose(conjugate)
    real, imag = xp.real(projected), xp.imag(projected)
    return xp.sum(real * real + imag * imag, axis=-2)


def music_spectrum(conjugate: Array, signal: Array) -> Array:
    r"""MUSIC pseudo-spectrum :math:`P = (1 - \|U_s^H a\|^2 / \|a\|^2)^{-1}`, [NF] Eq. (10) of unit-norm vectors.

    Arguments as :func:`signal_projection`; returns ``[..., point]``. The cost is taken as its modulus plus the dtype's
    rounding, so that an exact null gives a large number and not infinity or a negative one.
    """
    projection = signal_projection(conjugate, signal)
    rounding = 1.2e-7 if projection.dtype.itemsize == 4 else 2.2e-16
    return 1 / (abs(1 - projection) + rounding)


def local_maxima(values: npt.NDArray[Any], *, wraps: bool = False, floor: float = -np.inf) -> npt.NDArray[np.intp]:
    """Flat indices of points not below any of their eight neighbours, highest first.

    Points on the border count: a far-field source lies on the edge of the range axis.

    Args:
        values: ``[azimuth, range]`` real.
        wraps: The azimuth axis is a circle.
        floor: Only points above it.
    """
    n_azimuth, n_range = values.shape
    padded = np.full((n_azimuth + 2, n_range + 2), -np.inf, dtype=values.dtype)
    padded[1:-1, 1:-1] = values
    if wraps:
        padded[0, 1:-1], padded[-1, 1:-1] = values[-1], values[0]
    along = np.maximum(np.maximum(padded[:, :-2], padded[:, 2:]), padded[:, 1:-1])
    highest = np.maximum(np.maximum(along[:-2], along[2:]), along[1:-1])
    found = np.flatnonzero((values >= highest) & (values > floor) if floor > -np.inf else values >= highest)
    return found[np.argsort(values.ravel()[found])[::-1]]

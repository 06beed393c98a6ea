"""Toeplitz averaging: the covariance that a uniform line has for uncorrelated plane waves."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from blocks.subspace.block_input import described_array
from hil.block import Block, Result
from hil.errors import ParamError
from hil.streams import COVARIANCE, port_of

Array = Any  # NumPy or torch


def diagonal_means(covariance: Array) -> Array:
    r"""Mean of each diagonal, :math:`c_l = \frac{1}{N-l} \sum_m R_{m+l,m}`, lags ``0 .. N - 1``, ``[..., lag]``.

    Args:
        covariance: ``[..., sensor, sensor]`` complex.
    """
    xp = array_namespace(covariance)
    n = covariance.shape[-1]
    below = [xp.mean(xp.linalg.diagonal(covariance, offset=-lag), axis=-1) for lag in range(n)]
    return xp.stack(below, axis=-1)


def toeplitz_average(covariance: Array) -> Array:
    r"""Nearest Hermitian Toeplitz matrix (Frobenius norm): every diagonal replaced by its mean, [HI] Section IV-D1.

    Valid for **plane** waves on a **uniform line**: there uncorrelated sources have a Toeplitz covariance, and the
    average takes the cross terms of coherent ones down without giving up aperture. For coherent sources it is an
    approximation: the rank comes back, but the directions are biased even without noise (by a fraction of the beam,
    Chen et al. 2010); :func:`blocks.subspace.spatial_smoothing.smooth_line` is unbiased at the price of aperture. Of a
    near-field source it destroys the curvature. The result need not be positive definite. NumPy or torch.

    Args:
        covariance: ``[..., sensor, sensor]`` Hermitian.
    """
    xp = array_namespace(covariance)
    n = covariance.shape[-1]
    mean = diagonal_means(covariance)
    # lags -(N-1) .. N-1 in one row, then one gather
    both = xp.concat([xp.flip(xp.conj(mean[..., 1:]), axis=-1), mean], axis=-1)
    row = np.arange(n)
    lag = (row[:, None] - row[None, :] + n - 1).ravel()
    index = xp.asarray(lag)
    return xp.reshape(xp.take(both, index, axis=-1), covariance.shape)


class ToeplitzAverage(Block):
    """Toeplitz average of each covariance of a uniform line (see :func:`toeplitz_average`)."""

    inputs = {"covariance": port_of(COVARIANCE)}
    outputs = {"covariance": port_of(COVARIANCE)}

    def setup(self) -> None:
        self._uniform_array = ""

    def process(self, arrays: dict[str, Any]) -> Result:
        array = described_array(self, len(arrays["covariance"]))
        if self._uniform_array != array.fingerprint:
            uniform_spacing(array.channel_position_m)
            self._uniform_array = array.fingerprint
        return {**arrays, "covariance": toeplitz_average(arrays["covariance"])}


def is_uniform_line(position_m: np.ndarray, most_spacing_m: float, tolerance: float = 1e-6) -> bool:
    """Whether sensors ``[sensor, xyz]`` are an ascending uniform line along x, at most ``most_spacing_m`` apart."""
    spacing, off = _line_fit(position_m) if len(position_m) > 1 else (0.0, np.inf)
    return 0 < spacing <= most_spacing_m * (1 + 1e-9) and off <= tolerance * spacing


def uniform_spacing(position_m: np.ndarray, tolerance: float = 1e-6) -> float:
    """Distance between neighbours of a uniform line along x with ascending channels, metres.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        tolerance: How far a sensor may be from its place, in spacings.

    Raises:
        ParamError: Not such a line.
    """
    if len(position_m) < 2:
        raise ParamError(f"a uniform line has at least 2 sensors, got {len(position_m)}")
    spacing, off = _line_fit(position_m)
    if not (spacing > 0 and off <= tolerance * spacing):
        raise ParamError(
            f"expected a uniform line along x with ascending channels; a sensor is {off:.3g} m from its place "
            f"(spacing {spacing:.3g} m); use an estimator for any array (near_field_music, far_field_music)"
        )
    return spacing


def _line_fit(position_m: np.ndarray) -> tuple[float, float]:
    """Spacing between first and last sensor, and how far the worst is from its place on that line, metres."""
    spacing = float(position_m[-1, 0] - position_m[0, 0]) / (len(position_m) - 1)
    place = np.zeros_like(position_m)
    place[:, 0] = position_m[0, 0] + spacing * np.arange(len(position_m))
    place[:, 1:] = position_m[0, 1:]
    return spacing, float(np.abs(position_m - place).max())

"""Forward-backward averaging of a covariance matrix."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from blocks.subspace.block_input import described_array
from hil.block import Block, Result
from hil.errors import ParamError
from hil.streams import COVARIANCE, port_of

Array = Any  # NumPy or torch


def forward_backward(covariance: Array, partner: Array | None = None) -> Array:
    r"""Average with the mirrored conjugate, :math:`(R + J R^* J) / 2`; decorrelates a pair of coherent plane waves.

    Valid for **plane** waves on an array that is symmetric about its centre. Mirroring turns a wavefront of
    curvature ``1/r`` into one of ``-1/r``: a near-field source gets a twin behind the array, which takes a dimension
    of the signal subspace of its own. Use it with far-field estimators only.

    Args:
        covariance: ``[..., sensor, sensor]`` complex.
        partner: ``partner[m]`` is the sensor opposite to ``m``, ``[sensor]`` integers; absent: the reverse order,
            right for a line.
    """
    xp = array_namespace(covariance)
    if partner is None:
        mirrored = xp.flip(covariance, axis=(-2, -1))
    else:
        mirrored = xp.take(xp.take(covariance, partner, axis=-2), partner, axis=-1)
    return 0.5 * (covariance + xp.conj(mirrored))


def opposite_sensors(position_m: np.ndarray, tolerance_m: float = 1e-6) -> np.ndarray:
    """Index of the sensor at ``-p`` for each sensor at ``p``, ``[sensor]``.

    Args:
        position_m: ``[sensor, xyz]`` metres about the array's centre.
        tolerance_m: How far a sensor may be from the mirrored place.

    Raises:
        ParamError: The array is not symmetric about its centre.
    """
    distance = np.linalg.norm(position_m[:, None, :] + position_m[None, :, :], axis=-1)
    partner = distance.argmin(axis=1)
    worst = float(distance[np.arange(len(partner)), partner].max())
    if worst > tolerance_m:
        raise ParamError(
            f"forward-backward averaging needs an array symmetric about its centre; a sensor's mirror image is "
            f"{worst:.3g} m from the nearest sensor (limit {tolerance_m:.3g} m)"
        )
    return partner


class ForwardBackward(Block):
    """Forward-backward average of each covariance, for far-field estimators (see :func:`forward_backward`)."""

    inputs = {"covariance": port_of(COVARIANCE)}
    outputs = {"covariance": port_of(COVARIANCE)}

    def setup(self) -> None:
        self._partner: tuple[str, np.ndarray] | None = None

    def process(self, arrays: dict[str, Any]) -> Result:
        array = described_array(self, len(arrays["covariance"]))
        if self._partner is None or self._partner[0] != array.fingerprint:
            self._partner = array.fingerprint, opposite_sensors(array.channel_position_m)
        return {**arrays, "covariance": forward_backward(arrays["covariance"], self._partner[1])}

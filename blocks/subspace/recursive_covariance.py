"""The block RecursiveCovariance: a covariance that forgets snapshot by snapshot, however they are cut into frames."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from msgspec import Meta

from blocks.subspace.array_kind import constant
from hil.block import Block, Result
from hil.errors import ParamError
from hil.params import Params
from hil.streams import COVARIANCE, IQ, port_of

Array = Any  # NumPy or torch
C128 = npt.NDArray[np.complex128]


def rank_one_updates(previous: Array, x: Array, forgetting: float) -> Array:
    r"""All snapshots of a frame by :func:`blocks.subspace.sample_covariance.rank_one_update`, in one matrix product.

    .. math:: R \leftarrow \beta^T R + (1 - \beta) \sum_{t=1}^{T} \beta^{T-t} x_t x_t^H

    NumPy or torch.

    Args:
        previous: ``R`` so far, ``[..., sensor, sensor]``.
        x: ``[..., sensor, snapshot]`` of the dtype of ``previous``.
        forgetting: ``beta`` in [0, 1).
    """
    if not 0 <= forgetting < 1:
        raise ParamError(f"rank_one_updates: expected 0 <= forgetting < 1, got {forgetting}")
    xp, n_snapshots = array_namespace(previous, x), x.shape[-1]
    weight = (1 - forgetting) * forgetting ** np.arange(n_snapshots - 1.0, -1.0, -1.0)
    weighted = x * constant(weight.astype(np.float32 if x.dtype.itemsize == 8 else np.float64), x)
    return forgetting**n_snapshots * previous + weighted @ xp.conj(xp.matrix_transpose(x))


class RecursiveCovarianceParams(Params, frozen=True):
    memory: Annotated[
        float, Meta(gt=1, description="Snapshots remembered: the weight of the past is beta = 1 - 1 / memory")
    ] = 1000.0


class RecursiveCovariance(Block):
    """Exponentially weighted covariance of all snapshots so far, given after each frame; anew at each epoch.

    The memory is in snapshots, so the result does not depend on how they are cut into frames;
    :class:`blocks.subspace.sample_covariance.ExponentialCovariance` forgets frame by frame. It starts as the sample
    mean: weights add up to 1. ``n_snapshots`` is the effective number, ``1 / sum w^2``.
    """

    params: RecursiveCovarianceParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"covariance": port_of(COVARIANCE)}

    def setup(self) -> None:
        self._sum: C128 | None = None
        self._weight = self._squares = 0.0
        self._epoch = self.header.epoch

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        x, beta = iq.astype(np.complex128), 1 - 1 / self.params.memory
        n_sensors, n_snapshots = x.shape
        if self._sum is None or self.header.epoch != self._epoch or len(self._sum) != n_sensors:
            self._sum = np.zeros((n_sensors, n_sensors), dtype=np.complex128)
            self._weight = self._squares = 0.0
        self._epoch = self.header.epoch
        self._sum = rank_one_updates(self._sum, x, beta)
        faded = beta**n_snapshots
        self._weight = faded * self._weight + (1 - faded)
        self._squares = faded**2 * self._squares + (1 - beta) * (1 - faded**2) / (1 + beta)
        effective = np.array(max(1, round(self._weight**2 / self._squares)), dtype=np.int64)
        return {"covariance": self._sum / self._weight, "n_snapshots": effective}

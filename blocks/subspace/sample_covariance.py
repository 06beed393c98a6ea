"""Sample covariance of array snapshots: of one block, or exponentially averaged over blocks."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from msgspec import Meta

from hil.block import Block, Out, Payload, Result
from hil.params import Params
from hil.streams import COVARIANCE, IQ, port_of

Array = Any  # NumPy or torch
C128 = npt.NDArray[np.complex128]


def sample_covariance(x: Array) -> Array:
    r"""Sample covariance :math:`\hat R = \frac{1}{T} \sum_t x(t) x^H(t)`, [NF] Section II-C1.

    Args:
        x: Samples, ``[..., sensor, snapshot]`` complex. The mean is not removed: carriers have none.

    Returns:
        ``[..., sensor, sensor]`` of the dtype of ``x``, unit of ``x`` squared. Complex64 input accumulates in
        complex64: relative error about 1e-7, which eigenvalues 60 dB below the largest feel; cast first for those.
    """
    xp = array_namespace(x)
    return (x @ xp.conj(xp.matrix_transpose(x))) / x.shape[-1]


def exponential_average(previous: Array, covariance: Array, forgetting: float) -> Array:
    r"""One step of :math:`R \leftarrow \beta R + (1 - \beta) \hat R`.

    Args:
        previous: ``R`` so far, ``[..., sensor, sensor]``.
        covariance: That of the new block, ``[..., sensor, sensor]``.
        forgetting: ``beta`` in [0, 1).
    """
    return forgetting * previous + (1 - forgetting) * covariance


def rank_one_update(previous: Array, snapshot: Array, forgetting: float) -> Array:
    r"""One snapshot into a running covariance, :math:`R \leftarrow \beta R + (1 - \beta) x x^H`.

    Costs :math:`N^2`; from :math:`T` snapshots on a block average and :func:`exponential_average` take one matrix
    product instead. With ``forgetting = 1 - 1 / t`` for the t-th snapshot it is the sample covariance of all so far.

    Args:
        previous: ``R`` so far, ``[..., sensor, sensor]``.
        snapshot: ``[..., sensor]`` complex, of the dtype of ``previous``.
        forgetting: ``beta`` in [0, 1).
    """
    xp = array_namespace(previous, snapshot)
    return forgetting * previous + (1 - forgetting) * (snapshot[..., :, None] * xp.conj(snapshot)[..., None, :])


class SampleCovarianceParams(Params, frozen=True):
    n_snapshots: Annotated[int, Meta(ge=0, description="Snapshots a covariance; 0: one covariance a frame")] = 0


class SampleCovariance(Block):
    """Covariance of each frame, or of every ``n_snapshots`` snapshots however they are cut into frames.

    What is left at the end of the stream comes out with the number of snapshots that it has. A new epoch starts a
    new block: snapshots before and after a retune do not mix; those left over are counted in ``stats``.
    """

    params: SampleCovarianceParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"covariance": port_of(COVARIANCE)}

    def setup(self) -> None:
        self._sum: C128 = np.zeros((0, 0), dtype=np.complex128)
        self._count = 0
        self._start: dict[str, Any] = {}
        self._epoch = self.header.epoch
        self._n_discarded = 0

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        x = iq.astype(np.complex128)
        if self.params.n_snapshots == 0:
            return {"covariance": sample_covariance(x), "n_snapshots": np.array(x.shape[-1], dtype=np.int64)}
        if self._count and (self.header.epoch != self._epoch or len(self._sum) != len(x)):
            self._n_discarded += self._count
            self._count = 0
        self._epoch = self.header.epoch
        out: list[Payload] = []
        first = 0
        while first < x.shape[-1]:
            if self._count == 0:
                self._start = self._times(first)
                self._sum = np.zeros((len(x), len(x)), dtype=np.complex128)
            part = x[:, first : first + self.params.n_snapshots - self._count]
            self._sum = self._sum + part @ part.conj().T
            self._count += part.shape[-1]
            first += part.shape[-1]
            if self._count == self.params.n_snapshots:
                out.append(self._take())
        return out or None

    def flush(self) -> Result:
        return self._take() if self._count else None

    def stats(self) -> dict[str, Any]:
        return {"snapshots_discarded_at_epochs": self._n_discarded}

    def _take(self) -> Out:
        n, self._count = self._count, 0
        return Out({"covariance": self._sum / n, "n_snapshots": np.array(n, dtype=np.int64)}, self._start)

    def _times(self, offset: int) -> dict[str, Any]:
        """Header changes that make the output begin ``offset`` snapshots into this frame, as far as is known."""
        h = self.header
        changes: dict[str, Any] = {}
        if h.sample_start is not None:
            changes["sample_start"] = h.sample_start + offset
        if h.time_ns is not None and (offset == 0 or h.sample_rate_hz):
            changes["time_ns"] = h.time_ns + (round(offset / h.sample_rate_hz * 1e9) if h.sample_rate_hz else 0)
        return changes


class ExponentialCovarianceParams(Params, frozen=True):
    forgetting: Annotated[float, Meta(ge=0, lt=1, description="Weight of the past, beta; 0 keeps none of it")] = 0.9


class ExponentialCovariance(Block):
    """Exponential average of covariances that come in; starts anew at each epoch.

    ``n_snapshots`` out is the effective number: a block average of so many snapshots has the same variance.
    """

    params: ExponentialCovarianceParams
    inputs = {"covariance": port_of(COVARIANCE)}
    outputs = {"covariance": port_of(COVARIANCE)}

    def setup(self) -> None:
        self._average: C128 | None = None
        self._squares = 0.0
        self._epoch = self.header.epoch

    def process(self, arrays: dict[str, Any]) -> Result:
        covariance, n_snapshots = arrays["covariance"], int(arrays["n_snapshots"])
        beta = self.params.forgetting
        if self._average is None or self.header.epoch != self._epoch or self._average.shape != covariance.shape:
            self._average, self._squares = covariance.copy(), 1 / n_snapshots
        else:
            self._average = exponential_average(self._average, covariance, beta)
            self._squares = beta**2 * self._squares + (1 - beta) ** 2 / n_snapshots
        self._epoch = self.header.epoch
        effective = np.array(round(1 / self._squares), dtype=np.int64)
        return {"covariance": self._average, "n_snapshots": effective}

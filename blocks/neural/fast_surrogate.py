"""The surrogate covariance of a trained network in NumPy, without gradients: what the blocks run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.neural.fast_layers import FastAutoencoder, FastDense
from blocks.neural.surrogate_network import SurrogateNetwork
from hil.errors import EstimationError, ParamError

F32 = npt.NDArray[np.float32]
C128 = npt.NDArray[np.complex128]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


class FastSurrogate:
    """As ``forward`` of a trained :class:`SurrogateNetwork` in evaluation, at a fraction of the time of small batches.

    The rounding of float32 is the only difference (tested).

    Args:
        network: Trained; its weights are copied.
    """

    def __init__(self, network: SurrogateNetwork) -> None:
        config = network.config
        self._layers: FastDense | FastAutoencoder | None = None
        if network.dense:
            self._layers = FastDense(network.dense)
        elif config.layers == "convolution":
            self._layers = FastAutoencoder(network.encode, network.decode)
        self._n, self._n_lags = config.n_sensors, network.n_lags
        self._epsilon = config.epsilon
        logit = network.skip_logit
        self._alpha = None if logit is None else float(1 / (1 + np.exp(-float(logit.detach()))))

    @property
    def n_lags(self) -> int:
        """Of the covariances that it works on."""
        return self._n_lags

    def __call__(self, samples: Complex) -> C128:
        """Surrogate covariance ``[batch, sensor, sensor]`` of ``[batch, sensor, snapshot]``.

        Raises:
            ParamError: Another number of sensors, or fewer snapshots than lags.
            EstimationError: The samples are not finite.
        """
        self.check(samples)
        return self.of_correlation(lagged_covariances(samples, self._n_lags), samples.shape[2])

    def check(self, samples: Complex) -> None:
        """Refuse what the network cannot take: see :meth:`__call__`."""
        if samples.ndim != 3 or samples.shape[1] != self._n or samples.shape[2] < self._n_lags:
            raise ParamError(
                f"surrogate network: expected samples [batch, sensor={self._n}, snapshot] of at least {self._n_lags} "
                f"snapshots, got {list(samples.shape)}"
            )

    def of_correlation(self, correlation: npt.NDArray[np.complex64], n_snapshots: int, *, scaled: bool = True) -> C128:
        """The same from :func:`lagged_covariances`, which networks that see the same lags can share.

        Without ``scaled`` a network without skip saves Eq. (13) its norm, which no subspace and no criterion of the
        number of sources depends on.
        """
        n = self._n
        sample = correlation[:, 0].astype(np.complex128)
        trace = np.trace(sample, axis1=1, axis2=2).real
        if not np.isfinite(trace).all():
            raise EstimationError("surrogate network: the samples are not finite")
        trace = np.maximum(trace, 1e-30)  # silence: far below it float32 has no reciprocal
        if self._layers is None:
            return sample / trace[:, None, None]
        features = np.concatenate([correlation.real, correlation.imag], axis=-2)
        features *= (n / trace).astype(np.float32)[:, None, None, None]
        out = self._layers(features, n_snapshots).astype(np.float64)
        k = out[:, :n] + 1j * out[:, n:]
        surrogate: C128 = k @ k.conj().swapaxes(-1, -2)
        diagonal = np.arange(n)
        surrogate[:, diagonal, diagonal] += self._epsilon
        if scaled or self._alpha is not None:
            smaller = surrogate if k.shape[2] >= n else k.conj().swapaxes(-1, -2) @ k  # less epsilon
            largest = np.linalg.eigvalsh(smaller)[:, -1, None, None]
            surrogate /= largest if smaller is surrogate else largest + self._epsilon
        if self._alpha is not None:
            surrogate += sample * (self._alpha / trace)[:, None, None]
        return surrogate


def lagged_covariances(samples: Complex, n_lags: int) -> npt.NDArray[np.complex64]:
    """As :func:`blocks.neural.autocorrelation.autocorrelation`, all lags in one product.

    Args:
        samples: ``[batch, sensor, snapshot]``.
        n_lags: At most the number of snapshots.

    Returns:
        ``[batch, lag, sensor, sensor]``.
    """
    n_batch, n, t = samples.shape
    x = samples.astype(np.complex64, copy=False)
    late = np.zeros((n_batch, n_lags, n, t), np.complex64)  # what comes lag snapshots later, zeros behind the end
    for lag in range(n_lags):
        np.conjugate(x[..., lag:], out=late[:, lag, :, : t - lag])
    product = x @ late.reshape(n_batch, n_lags * n, t).swapaxes(-1, -2)
    summed = product.reshape(n_batch, n, n_lags, n).swapaxes(1, 2)
    return np.asarray(summed / (t - np.arange(n_lags, dtype=np.float32))[:, None, None])

r"""From snapshots to as few columns as there are sources, without loss where the sources' waveforms are known.

Both modes end in the same model, which everything after works on::

    z = diag(c) A(theta, r) B + e,     e white, sigma^2 an entry

``z [sensor, column]``, coefficients ``c [sensor]`` of [HI] Eq. (4), steering matrix ``A [sensor, source]``.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hil.errors import EstimationError

C128 = npt.NDArray[np.complex128]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


class Reduced(NamedTuple):
    """Reduced data.

    Attributes:
        z: ``[sensor, column]``.
        mixing: With known pilots ``G [source, column]``: ``B = diag(beta) G``. ``None``: ``B`` is any matrix.
        noise_power: ``sigma^2`` an entry of ``z``: the receiver's noise per sensor and snapshot.
        n_sources: How many sources are in ``z``.
        n_snapshots: How many snapshots ``z`` was made of.
        pilot: Which pilot each source sends, ``[source]``: first each pilot once, then further places (echoes) of any.
            ``None``: without pilots, and where each has one place.
    """

    z: C128
    mixing: C128 | None
    noise_power: float
    n_sources: int
    n_snapshots: int
    pilot: npt.NDArray[np.intp] | None = None

    @property
    def n_waveforms(self) -> int:
        """Pilots, or dimensions of the signal: the columns of ``z``."""
        return self.z.shape[1]


def reduce_by_pilots(x: Complex, pilots: Complex) -> Reduced:
    r"""Project on the span of the known waveforms: a sufficient statistic of [HI] Eq. (5).

    With ``S^H = Q R``: ``z = Y Q = diag(c) A diag(beta) R^H + e``, and ``sigma^2`` is the power outside that span,
    which neither faults nor positions touch.

    Args:
        x: ``Y [sensor, snapshot]``.
        pilots: ``S [source, snapshot]``, linearly independent, fewer than snapshots.

    Raises:
        EstimationError: Not finite, all zero, or pilots that cannot be told apart.
    """
    y, s = _finite("reduce_by_pilots", x), _finite("reduce_by_pilots", pilots)
    k, t = s.shape
    if t != y.shape[1] or k >= t:
        raise EstimationError(
            f"reduce_by_pilots: {k} pilots of {t} snapshots for data of {y.shape[1]}; expected as many snapshots as "
            "the data, and fewer pilots than snapshots"
        )
    q, r = np.linalg.qr(s.conj().T)
    diagonal = np.abs(np.diagonal(r))
    if not diagonal.min() > 1e-6 * diagonal.max():
        raise EstimationError(f"reduce_by_pilots: {k} pilots are linearly dependent in {t} snapshots: use other ones")
    z = y @ q
    outside = max(_power(y) - _power(z), np.finfo(np.float64).eps * _power(y))
    return Reduced(z, r.conj().T, outside / (y.shape[0] * (t - k)), k, t)


def reduce_blind(x: Complex, n_sources: int) -> Reduced:
    """Project on the span of the waveforms as the data show it: the leading right singular vectors.

    As [HI] needs known pilots in Eqs. (8), (11), (20), this mode has only second-order statistics: ``B`` is free, and
    faults leave the rank as it is, so that the signal subspace is still ``diag(c) A``.

    Args:
        x: ``Y [sensor, snapshot]``.
        n_sources: Below the numbers of sensors and of snapshots.

    Raises:
        EstimationError: Not finite, all zero, or too many sources.
    """
    y = _finite("reduce_blind", x)
    n, t = y.shape
    if not 1 <= n_sources < min(n, t):
        raise EstimationError(
            f"reduce_blind: {n_sources} sources of {n} sensors and {t} snapshots; expected 1 .. {min(n, t) - 1}"
        )
    if t <= n:
        values, vectors = np.linalg.eigh(y.conj().T @ y)
        z = y @ vectors[:, -n_sources:]
    else:
        values, vectors = np.linalg.eigh(y @ y.conj().T)
        z = vectors[:, -n_sources:] * np.sqrt(values[-n_sources:])
    rest = max(float(values[:-n_sources].sum()), np.finfo(np.float64).eps * float(values.sum()))
    return Reduced(z, None, rest / ((n - n_sources) * (t - n_sources)), n_sources, t)


def with_places(data: Reduced, n_sources: int, pilot: npt.NDArray[np.intp] | None = None) -> Reduced:
    """The same data, said to have come from so many places; ``pilot [source]`` says whose, where pilots are known."""
    if data.mixing is None:
        return data._replace(n_sources=n_sources)
    if pilot is None:
        pilot = np.arange(n_sources)
    return data._replace(mixing=data.mixing[: data.n_waveforms][pilot], n_sources=n_sources, pilot=pilot)


def signal_columns(data: Reduced) -> Reduced:
    """Without pilots: less the columns that noise alone may be, of which one is always left.

    The largest of the noise's squared singular values is near ``sigma^2 (sqrt(N) + sqrt(T))^2``; coherent sources leave
    as many columns to it as the rank of their covariance is below their number.
    """
    power = np.sum(np.abs(data.z) ** 2, axis=0)
    edge = data.noise_power * (np.sqrt(len(data.z)) + np.sqrt(data.n_snapshots)) ** 2
    signal = (power > 1.2 * edge) | (power == power.max())
    return data._replace(z=data.z[:, signal])


def unmixed(data: Reduced, columns: C128 | None = None) -> C128:
    """Least-squares ``diag(c) A diag(beta)``, ``[sensor, pilot]``: each pilot by itself.

    Args:
        data: With pilots.
        columns: Taken instead of ``data.z``, ``[sensor, column]``.
    """
    assert data.mixing is not None, "only pilots tell which column is whose"
    z = data.z if columns is None else columns
    return np.linalg.solve(data.mixing[: data.n_waveforms].T, z.T).T.astype(np.complex128, copy=False)


def _finite(who: str, x: Complex) -> C128:
    if x.ndim != 2 or not np.isfinite(x).all():
        raise EstimationError(
            f"{who}: expected finite samples [sensor, snapshot], got shape {list(x.shape)}, not finite"
        )
    if not x.any():
        raise EstimationError(
            f"{who}: all samples {list(x.shape)} are zero; is the receiver connected and its gain on?"
        )
    return x.astype(np.complex128, copy=False)


def _power(x: C128) -> float:
    return float(np.vdot(x, x).real)

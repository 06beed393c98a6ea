"""Root-MUSIC: directions of plane waves on a uniform line as roots of a polynomial, without any grid."""

from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.line_direction import LinePhases, sorted_phases
from hil.errors import ParamError

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def null_polynomial(signal: Complex) -> Complex:
    r"""Coefficients :math:`c_l`, ``l = 1 - N .. N - 1``, of :math:`a^H U_w U_w^H a = \sum_l c_l e^{j l \omega}`.

    From the signal subspace: :math:`c_l = N \delta_l - \sum_k \sum_m u_{k,m} u_{k,m+l}^*`, the correlations by FFT.

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]``, sensors in the order of a uniform line.

    Returns:
        ``[..., 2 N - 1]``, Hermitian symmetric about its middle.
    """
    n = signal.shape[-2]
    # the transform wraps around at 2 N, beyond all lags
    power = (np.abs(np.fft.fft(signal, 2 * n, axis=-2)) ** 2).sum(axis=-1)
    lags = np.fft.fft(power, axis=-1) / (2 * n)  # conjugate correlation: lag l of u conj, so c_l up to sign and delta
    c = -np.concatenate([lags[..., n + 1 :], lags[..., :n]], axis=-1)
    c[..., n - 1] += n
    return c


def root_music(signal: Complex) -> LinePhases:
    """Roots of the MUSIC polynomial next to the unit circle (Barabell 1983), one a source. NumPy.

    Plane waves on a uniform line of up to half a wavelength. Asymptotically the error of MUSIC, with a lower threshold
    as roots move radially where nulls vanish. Costs an eigendecomposition of order ``2 N - 2``: for small and middle
    arrays; beyond some 64 sensors :func:`blocks.subspace.esprit.esprit` or :mod:`blocks.subspace.line_music` are
    cheaper.

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]``; fewer sources than sensors.
    """
    n, n_sources = signal.shape[-2:]
    if not 1 <= n_sources < n:
        raise ParamError(f"root_music: expected 1 .. {n - 1} sources of {n} sensors, got {n_sources}")
    c = null_polynomial(signal.astype(np.complex128, copy=False))
    degree = 2 * n - 2
    companion = np.zeros((*c.shape[:-1], degree, degree), dtype=np.complex128)
    companion[..., np.arange(1, degree), np.arange(degree - 1)] = 1
    lead = c[..., -1:]
    # a leading coefficient of zero only pushes a pair of roots to zero and infinity: keep it finite
    tiny = 1e-14 * n
    companion[..., :, -1] = -c[..., :-1] / np.where(np.abs(lead) > tiny, lead, tiny)
    roots = np.linalg.eigvals(companion).astype(np.complex128, copy=False)
    flat = roots.reshape(-1, degree)
    chosen = np.stack([_next_to_circle(row, n_sources) for row in flat])
    return sorted_phases(chosen.reshape(*roots.shape[:-1], n_sources))


def _next_to_circle(roots: npt.NDArray[np.complex128], n_wanted: int) -> npt.NDArray[np.complex128]:
    """One of each pair ``z, 1 / z*``, those nearest to the circle.

    Without noise a pair is a double root, which rounding splits along the circle as well as across it: so pairs are
    formed by distance after all roots have been reflected inside.
    """
    outside = np.abs(roots) > 1
    inside = np.where(outside, 1 / np.where(outside, roots, 1).conj(), roots)
    inside = inside[np.argsort(-np.abs(inside))]
    kept = []
    for _ in range(n_wanted):
        first, inside = inside[0], inside[1:]
        twin = int(np.abs(inside - first).argmin())
        kept.append(0.5 * (first + inside[twin]))
        inside = np.delete(inside, twin)
    return np.array(kept)

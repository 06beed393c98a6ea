"""Root-MUSIC: directions of plane waves on a uniform line as roots of a polynomial, without any grid."""

from typing import Any

import numpy as np

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.data_check import require_finite
from blocks.subspace.line_direction import LinePhases, sorted_phases
from hil.errors import ParamError

Array = Any  # NumPy or torch


def null_polynomial(signal: Array) -> Array:
    r"""Coefficients :math:`c_l`, ``l = 1 - N .. N - 1``, of :math:`a^H U_w U_w^H a = \sum_l c_l e^{j l \omega}`.

    From the signal subspace: :math:`c_l = N \delta_l - \sum_k \sum_m u_{k,m} u_{k,m+l}^*`, the correlations by FFT.

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]``, sensors in the order of a uniform line.

    Returns:
        ``[..., 2 N - 1]``, Hermitian symmetric about its middle.
    """
    xp = namespace(signal)
    n = signal.shape[-2]
    # the transform wraps around at 2 N, beyond all lags
    seen = xp.fft.fft(signal, n=2 * n, axis=-2)
    power = xp.sum(xp.real(seen) ** 2 + xp.imag(seen) ** 2, axis=-1)
    lags = xp.fft.fft(power + 0j, axis=-1) / (2 * n)  # conjugate correlation: lag l of u conj, so c_l up to sign, delta
    middle = constant(n * np.eye(1, 2 * n - 1, n - 1)[0], power)
    return middle - xp.concatenate([lags[..., n + 1 :], lags[..., :n]], axis=-1)


def root_music(signal: Array) -> LinePhases:
    """Roots of the MUSIC polynomial next to the unit circle (Barabell 1983), one a source. NumPy or torch, batched.

    Plane waves on a uniform line of up to half a wavelength. Asymptotically the error of MUSIC, with a lower threshold
    as roots move radially where nulls vanish. Costs an eigendecomposition of order ``2 N - 2``: for small and middle
    arrays; beyond some 64 sensors :func:`blocks.subspace.esprit.esprit` or :mod:`blocks.subspace.line_music` are
    cheaper. In torch the roots can be differentiated where they are apart, which with noise they are.

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]`` complex128; fewer sources than sensors.
    """
    xp = namespace(signal)
    n, n_sources = signal.shape[-2:]
    if not 1 <= n_sources < n:
        raise ParamError(f"root_music: expected 1 .. {n - 1} sources of {n} sensors, got {n_sources}")
    require_finite("root_music", signal, "the signal subspace")
    c = null_polynomial(signal)
    degree = 2 * n - 2
    lead = c[..., -1:]
    # a leading coefficient of zero only pushes a pair of roots to zero and infinity: keep it finite
    tiny = 1e-14 * n
    last = -c[..., :-1] / xp.where(xp.abs(lead) > tiny, lead, xp.full_like(lead, tiny))
    below = constant(np.eye(degree, degree - 1, -1, dtype=np.complex128), last)
    below = xp.broadcast_to(below, (*last.shape[:-1], degree, degree - 1))
    companion = xp.concatenate([below, last[..., None]], axis=-1)
    return sorted_phases(_next_to_circle(xp, xp.linalg.eigvals(companion) + 0j, n_sources))


def _next_to_circle(xp: Any, roots: Array, n_wanted: int) -> Array:
    """One of each pair ``z, 1 / z*``, those nearest to the circle, ``[..., source]``.

    Without noise a pair is a double root, which rounding splits along the circle as well as across it: so pairs are
    formed by distance after all roots have been reflected inside.
    """
    outside = xp.abs(roots) > 1
    inside = xp.where(outside, xp.conj(1 / xp.where(outside, roots, xp.ones_like(roots))), roots)
    left = xp.abs(inside)  # moduli of the roots that are not used up, 0 where they are
    every = constant(np.arange(roots.shape[-1]), roots)
    kept = []
    for _ in range(n_wanted):
        first = xp.argmax(left, axis=-1)[..., None]
        root = xp.take_along_axis(inside, first, axis=-1)
        left = xp.where(every == first, xp.zeros_like(left), left)
        apart = xp.where(left > 0, xp.abs(inside - root), xp.full_like(left, np.inf))
        twin = xp.argmin(apart, axis=-1)[..., None]
        left = xp.where(every == twin, xp.zeros_like(left), left)
        kept.append(0.5 * (root + xp.take_along_axis(inside, twin, axis=-1)))
    return xp.concatenate(kept, axis=-1)

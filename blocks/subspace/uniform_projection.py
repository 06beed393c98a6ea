"""Projection on the signal subspace over whole grids of plane or Fresnel waves, for uniform arrays: FFT and two-step.

All give what :func:`blocks.subspace.spectrum.signal_projection` gives with the dictionary written out, which they never
do. A point costs ``M log N`` (FFT) or ``M sqrt N`` (two-step) instead of ``M N``.
"""

from typing import Any

import numpy as np
import scipy.fft
from array_api_compat import array_namespace, is_torch_array

from hil.errors import ParamError

Array = Any  # NumPy or torch


def fft_sines(n_fft: int, spacing_m: float, wavelength_m: float) -> np.ndarray:
    """Ascending sines of the bins of :func:`line_projection`, ``[n_fft]``; beyond +-1 nothing is visible."""
    return np.fft.fftshift(np.fft.fftfreq(n_fft)) * (wavelength_m / spacing_m)


def line_projection(signal: Array, n_fft: int) -> Array:
    r"""Plane waves on a uniform line, :math:`\|U_s^H a(u)\|^2 / N` at the sines of :func:`fft_sines`.

    One zero-padded FFT a source. NumPy or torch, batched.

    Args:
        signal: Orthonormal ``U_s``, ``[..., sensor, source]``; any columns, in fact.
        n_fft: Number of sines, at least ``N``; ``2 N`` is half a beam apart at half-wavelength spacing.

    Returns:
        ``[..., n_fft]`` real.
    """
    n = signal.shape[-2]
    _check_size(n_fft, n)
    xp = array_namespace(signal)
    seen = _fft(xp, xp.matrix_transpose(signal), n_fft)
    return xp.fft.fftshift(xp.sum(_square(xp, seen), axis=-2), axes=-1) / n


def rectangle_projection(signal: Array, shape: tuple[int, int], n_fft: tuple[int, int]) -> Array:
    """Plane waves on a uniform rectangle by a two-dimensional FFT, ``[..., v, u]``. NumPy or torch, batched.

    Args:
        signal: ``[..., sensor, source]``, sensor ``i_row * n_columns + i_column``, rows along z, columns along x.
        shape: ``(n_rows, n_columns)``.
        n_fft: Number of ``v`` (sine along z) and of ``u`` (along x), each at least the number of elements.
    """
    xp = array_namespace(signal)
    rows, columns = shape
    if rows * columns != signal.shape[-2]:
        raise ParamError(f"rectangle_projection: {rows} x {columns} elements, subspace of {signal.shape[-2]} sensors")
    _check_size(n_fft[0], rows)
    _check_size(n_fft[1], columns)
    t = xp.matrix_transpose(signal)
    t = xp.reshape(t, (*t.shape[:-1], rows, columns))
    along_x = _fft(xp, t, n_fft[1])
    both = xp.matrix_transpose(_fft(xp, xp.matrix_transpose(along_x), n_fft[0]))
    return xp.fft.fftshift(xp.sum(_square(xp, both), axis=-3), axes=(-2, -1)) / (rows * columns)


def separable_projection(signal: Array, conjugate_z: Array, conjugate_x: Array) -> Array:
    """Plane waves on a rectangle at any grid of ``v`` and ``u``, in two matrix products. NumPy or torch, batched.

    The steering vector of a rectangle is the Kronecker product of two lines'; positions need not be uniform.

    Args:
        signal: ``[..., sensor, source]`` as in :func:`rectangle_projection`.
        conjugate_z: ``a_z^H / |a_z|``, ``[v, n_rows]``.
        conjugate_x: ``a_x^H / |a_x|``, ``[u, n_columns]``.

    Returns:
        ``[..., v, u]`` real, 0 .. 1.
    """
    xp = array_namespace(signal)
    rows, columns = conjugate_z.shape[-1], conjugate_x.shape[-1]
    if rows * columns != signal.shape[-2]:
        raise ParamError(f"separable_projection: {rows} x {columns} elements, subspace of {signal.shape[-2]} sensors")
    t = xp.matrix_transpose(signal)
    t = xp.reshape(t, (*t.shape[:-1], rows, columns))
    total: Array = None
    for source in range(t.shape[-3]):  # one source at a time: the grid of one stays in the cache
        seen = conjugate_z @ (t[..., source, :, :] @ xp.matrix_transpose(conjugate_x))
        square = _square(xp, seen)
        total = square if total is None else total + square
    return total


def fresnel_projection(signal: Array, chirp: Array, n_fft: int) -> Array:
    r"""Fresnel waves on a uniform line: one FFT a curvature and source, ``[..., curvature, n_fft]``. NumPy or torch.

    In :math:`(u, c) = (\sin\theta, \cos^2\theta / r)` the Fresnel wavefront [NF] Eq. (3) is a plane wave times a
    chirp, :math:`a_m = e^{j 2 \pi d_m u / \lambda} e^{-j \pi c d_m^2 / \lambda}`: the subspace is multiplied by the
    conjugate chirp and transformed. The far field is ``c = 0``.

    Args:
        signal: ``[..., sensor, source]``.
        chirp: From :func:`fresnel_chirp`, ``[curvature, sensor]``, of the dtype of ``signal``.
        n_fft: Number of sines, at least ``N``.
    """
    n, m = signal.shape[-2:]
    _check_size(n_fft, n)
    xp = array_namespace(signal)
    t = xp.matrix_transpose(signal)
    # as many curvatures at a time as stay in the cache
    chunk = max(1, (1 << 17) // (n_fft * m * max(1, int(np.prod(signal.shape[:-2])))))
    parts = []
    for first in range(0, chirp.shape[0], chunk):
        some = chirp[first : first + chunk]
        seen = _fft(xp, t[..., None, :, :] * some[:, None, :], n_fft)
        parts.append(xp.sum(_square(xp, seen), axis=-2))
    return xp.fft.fftshift(xp.concat(parts, axis=-2) if len(parts) > 1 else parts[0], axes=-1) / n


def fresnel_chirp(offset_m: np.ndarray, curvature_per_m: np.ndarray, wavelength_m: float) -> np.ndarray:
    """Conjugate chirps ``[curvature, sensor]`` complex128.

    Args:
        offset_m: Sensors along the line from its centre, ``[sensor]`` metres.
        curvature_per_m: ``cos^2(azimuth) / range``, ``[curvature]`` 1/m.
        wavelength_m: Metres.
    """
    return np.exp((1j * np.pi / wavelength_m) * curvature_per_m[:, None] * offset_m**2)


def _check_size(n_fft: int, n: int) -> None:
    if n_fft < n:
        raise ParamError(f"FFT dictionary: expected n_fft >= {n} elements, got {n_fft}")


def _fft(xp: Any, x: Array, n: int) -> Array:
    # SciPy's keeps single precision and, in batches, is several times as fast as NumPy's
    return xp.fft.fft(x, n=n) if is_torch_array(x) else scipy.fft.fft(x, n=n)


def _square(xp: Any, x: Array) -> Array:
    return xp.real(x) ** 2 + xp.imag(x) ** 2

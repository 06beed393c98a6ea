"""Reduced-dimension MUSIC: angles from the anti-diagonal of the covariance, then ranges, [HI] Section IV-C."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from blocks.subspace.array_kind import constant
from blocks.subspace.data_check import require_power
from blocks.subspace.line_direction import directions_near
from blocks.subspace.null_descent import Model
from blocks.subspace.range_music import range_music
from blocks.subspace.root_music import null_polynomial
from blocks.subspace.signal_subspace import signal_subspace, split_subspaces
from blocks.subspace.toeplitz import uniform_spacing
from hil.errors import ParamError

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]

#: Points of the window search a beam of the virtual array.
POINTS_PER_BEAM = 8


class ReducedEstimate(NamedTuple):
    """One source a coarse azimuth, in their order.

    Attributes:
        azimuth_rad: ``[..., source]``.
        inverse_range_per_m: ``[..., source]`` 1/m.
        angle_depth: MUSIC cost of the virtual array at the angle, 0 .. 1, ``[..., source]``.
        range_depth: MUSIC cost of the array at (angle, range), 0 .. 1, ``[..., source]``.
        in_window: The angle is inside its window, not on the edge, and visible, ``[..., source]``; False: the coarse
            azimuth was farther off than the window.
    """

    azimuth_rad: Array
    inverse_range_per_m: Array
    angle_depth: Array
    range_depth: Array
    in_window: Array


def anti_diagonal(covariance: Array, noise_power: float | Array | None = None) -> Array:
    r"""Entries :math:`R_{n, N+1-n}` of a symmetric line, ``[..., sensor]``, [HI] Eqs. (29), (30). NumPy or torch.

    Opposite sensors see the same curvature, so that even powers of the range cancel and
    :math:`\sum_k g_k e^{j (2\pi/\lambda) 2 l_n \sin\theta_k}` is left: a line of twice the spacing in its far field.
    Exact for Fresnel waves of uncorrelated sources; of the exact wavefront the odd, cubic term stays, which biases the
    sine by about :math:`-0.075 (D/r)^2 \sin\theta \cos^2\theta` (a least-squares line through the cubic phase), and by
    two thirds of that with subvectors of half the line. The sum
    has real positive gains.

    Args:
        covariance: ``[..., sensor, sensor]``.
        noise_power: Taken off the middle entry of an odd number of sensors, which lies on the diagonal too; needed
            there, not used otherwise. One, or ``[..., 1]``.
    """
    xp = array_namespace(covariance)
    n = covariance.shape[-1]
    entries = xp.linalg.diagonal(xp.flip(covariance, axis=-1))
    if n % 2 == 0:
        return entries
    if noise_power is None:
        raise ParamError(
            f"anti_diagonal: the middle of {n} sensors carries the noise power; give noise_power (the mean of "
            "the noise eigenvalues, for example)"
        )
    middle = xp.asarray(np.eye(1, n, n // 2)[0], dtype=entries.dtype)
    return entries - noise_power * middle


def subvector_covariance(r: Array, n_subvectors: int, *, backward: bool = True) -> Array:
    """Covariance of the overlapping subvectors of the anti-diagonal, [HI] Eqs. (31), (32). NumPy or torch.

    Args:
        r: ``[..., sensor]`` complex.
        n_subvectors: ``M``, at least the number of sources and at most N less that.
        backward: Add the reversed conjugates as further subvectors ([HI] does not): for a sum of plane waves they have
            the same steering vectors, and halve the variance of the noise.

    Returns:
        ``[..., N - M + 1, N - M + 1]``.
    """
    xp = array_namespace(r)
    n = r.shape[-1]
    if not 1 <= n_subvectors < n:
        raise ParamError(f"subvector_covariance: expected 1 <= n_subvectors < {n} sensors, got {n_subvectors}")
    size = n - n_subvectors + 1
    hankel = xp.stack([r[..., m : m + size] for m in range(n_subvectors)], axis=-1)
    covariance = hankel @ xp.conj(xp.matrix_transpose(hankel)) / n_subvectors
    return 0.5 * (covariance + xp.conj(xp.flip(covariance, axis=(-2, -1)))) if backward else covariance


def reduced_dimension_music(
    covariance: Array,
    model: Model,
    coarse_azimuth_rad: Array,
    window_rad: float,
    inverse_range_per_m: F64,
    *,
    n_sources: int | None = None,
    n_subvectors: int | None = None,
    backward: bool = True,
) -> ReducedEstimate:
    """Angles near coarse ones from the anti-diagonal, Eq. (33), then a range for each, Eq. (34).

    NumPy or torch, batched.
    The virtual array has twice the spacing and repeats in sine with period ``lambda / (2 spacing)``: only windows round
    the coarse azimuths are searched ([HI] Section IV-D2). It uses N of the N^2 entries and does not reach the
    Cramer-Rao bound; :func:`blocks.subspace.maximum_likelihood.refine_maximum_likelihood` from here does.

    Args:
        covariance: ``[..., sensor, sensor]`` complex128 of a uniform line, calibrated.
        model: Array and wavefront.
        coarse_azimuth_rad: One a source, ``[..., source]``.
        window_rad: Half width of the window round each.
        inverse_range_per_m: Grid of ranges (:func:`blocks.subspace.range_music.range_grid`).
        n_sources: Sources in the covariance; absent: as many as coarse azimuths.
        n_subvectors: ``M``; absent: half the sensors.
        backward: See :func:`subvector_covariance`.
    """
    spacing = uniform_spacing(model.position_m)
    xp = array_namespace(covariance)
    n, n_coarse = covariance.shape[-1], coarse_azimuth_rad.shape[-1]
    m = n_sources if n_sources is not None else n_coarse
    if n_coarse == 0 or not 1 <= m <= n // 2:
        raise ParamError(
            f"reduced_dimension_music: {n_coarse} coarse azimuths, {m} sources; {n} sensors' "
            f"anti-diagonal separates 1 to {n // 2}"
        )
    require_power("reduced_dimension_music", covariance)
    signal = _signal(covariance, m)
    explained = xp.sum(xp.real(xp.conj(signal) * (covariance @ signal)), axis=(-2, -1))
    noise_power = (xp.real(xp.linalg.trace(covariance)) - explained) / (n - m)
    r = anti_diagonal(covariance, noise_power[..., None])
    virtual = subvector_covariance(r, n_subvectors if n_subvectors is not None else n // 2, backward=backward)
    if not m < virtual.shape[-1]:
        raise ParamError(
            f"reduced_dimension_music: {m} sources, subvectors of {virtual.shape[-1]} entries; take fewer of them"
        )
    nulls = null_polynomial(_signal(virtual, m))
    phase_per_sine = 2 * np.pi / model.wavelength_m * 2 * spacing
    centre = xp.sin(coarse_azimuth_rad)
    half = xp.cos(coarse_azimuth_rad) * np.sin(window_rad) + xp.abs(centre) * (1 - np.cos(window_rad))
    phase, depth, inside = window_minima(nulls, phase_per_sine * centre, phase_per_sine * half, virtual.shape[-1])
    found = directions_near(phase, coarse_azimuth_rad, 2 * spacing, model.wavelength_m)
    ranges = range_music(signal, model, found.azimuth_rad, xp.zeros_like(phase), inverse_range_per_m)
    return ReducedEstimate(found.azimuth_rad, ranges.inverse_range_per_m, depth, ranges.depth, inside & found.visible)


def _signal(covariance: Array, n_sources: int) -> Array:
    """Leading eigenvectors: of one NumPy matrix only those, which is faster."""
    alone = isinstance(covariance, np.ndarray) and covariance.ndim == 2
    return signal_subspace(covariance, n_sources) if alone else split_subspaces(covariance, n_sources).signal


def window_minima(polynomial: Array, centre: Array, half: Array, n: int) -> tuple[Array, Array, Array]:
    """Phase of the least value in each window ``[..., source]``, that value relative to ``n``, whether it is inside.

    NumPy or torch; ``polynomial`` ``[..., 2 n - 1]`` of :func:`blocks.subspace.root_music.null_polynomial`.
    """
    xp = array_namespace(polynomial)
    n_points = 2 * int(np.ceil(float(xp.max(half)) * n * POINTS_PER_BEAM / (2 * np.pi))) + 3
    grid = centre[..., None] + half[..., None] * constant(np.linspace(-1, 1, n_points), centre)
    lag = constant(np.arange(1.0 - n, n), centre)
    c = polynomial[..., None, :]
    value = xp.real((xp.exp(1j * grid[..., None] * lag) @ c[..., None])[..., 0])
    phase = xp.take_along_axis(grid, xp.argmin(value, axis=-1)[..., None], axis=-1)[..., 0]
    step = 2 * half / (n_points - 1)
    for _ in range(6):  # Newton on the polynomial itself; from an eighth of a beam it is quadratic at once
        wave = xp.exp(1j * phase[..., None] * lag) * c
        slope = -xp.imag(xp.sum(wave * lag, axis=-1))
        bend = -xp.real(xp.sum(wave * lag**2, axis=-1))
        newton = xp.where(bend > 0, -slope / xp.where(bend > 0, bend, xp.ones_like(bend)), xp.zeros_like(bend))
        phase = phase + xp.minimum(xp.maximum(newton, -step), step)
    depth = xp.real(xp.sum(xp.exp(1j * phase[..., None] * lag) * c, axis=-1)) / n
    return phase, xp.clip(depth, 0.0, 1.0), xp.abs(phase - centre) < half

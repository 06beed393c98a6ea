"""DCD-MUSIC behind its networks: angles by ESPRIT on one covariance, ranges along them on another. [NF] Algorithm 3."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.neural.likeliest import explains
from blocks.subspace.dictionary import Search
from blocks.subspace.esprit import esprit
from blocks.subspace.maximum_likelihood import refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import NearFieldEstimate
from blocks.subspace.search_nulls import FOUND_DEPTH
from hil.errors import ParamError
from hil.wavefront import direction_vector, path_difference

F64 = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complexfloating[Any, Any]]

#: Inverse ranges searched along each angle: a quarter radian of curvature at the edge of a 15-element aperture apart.
N_RANGES = 32


def line_azimuths(signal: Complex, spacing_wavelengths: float) -> F64:
    """Azimuths of plane waves by ESPRIT, ascending, ``[..., source]`` rad.

    Args:
        signal: Orthonormal signal subspace of a uniform line along x, ``[..., sensor, source]``.
        spacing_wavelengths: Of neighbouring elements, at most one half.
    """
    phase = np.asarray(esprit(signal, "ls").phase_rad)
    return np.arcsin(np.clip(phase / (2 * np.pi * spacing_wavelengths), -1.0, 1.0))


class RangesAlong(NamedTuple):
    """Inverse range of the deepest null along each azimuth, 1/m, and the MUSIC cost there, ``[..., source]``."""

    inverse_range_per_m: F64
    depth: F64


def ranges_along(signal: Complex, azimuth_rad: F64, dictionary: Search, n_ranges: int = N_RANGES) -> RangesAlong:
    """One-dimensional MUSIC, [NF] Eq. (18), on inverse ranges from 0, the far field; off the grid by a parabola.

    Exact spherical wavefront. The lowest place of a parabola through the deepest grid point and its neighbours; at an
    end of the grid the end.

    Args:
        signal: Orthonormal, ``[..., sensor, source]``.
        azimuth_rad: ``[..., source]``, leading axes as ``signal``.
        dictionary: Model, and the nearest range.
        n_ranges: Grid points, at least 3.
    """
    if n_ranges < 3:
        raise ParamError(f"ranges_along: expected at least 3 ranges for a parabola, got {n_ranges}")
    k = np.linspace(0.0, dictionary.grid.inverse_range_limits_per_m[1], n_ranges)
    path, gain = path_difference(
        dictionary.position_m,
        direction_vector(azimuth_rad, np.float64(dictionary.grid.elevation_rad))[..., None, :],
        np.broadcast_to(k, (*azimuth_rad.shape, n_ranges)),
    )  # (..., source, range, sensor)
    conjugate = np.exp(np.complex64(2j * np.pi / dictionary.wavelength_m) * path.astype(np.float32))
    if dictionary.amplitude:
        conjugate *= gain.astype(np.float32)
    flat = conjugate.reshape(*azimuth_rad.shape[:-1], -1, conjugate.shape[-1])
    seen = (flat @ signal.astype(np.complex64)).reshape(*conjugate.shape[:-1], -1)
    norm = np.sum(conjugate.real**2 + conjugate.imag**2, axis=-1)
    depth = (1 - np.sum(seen.real**2 + seen.imag**2, axis=-1) / norm).astype(np.float64)
    lowest = depth.argmin(axis=-1)[..., None]
    inside = np.clip(lowest, 1, n_ranges - 2)
    left, middle, right = (np.take_along_axis(depth, inside + i, axis=-1)[..., 0] for i in (-1, 0, 1))
    bend = np.maximum(left - 2 * middle + right, 1e-12)
    offset = np.clip((left - right) / (2 * bend), -1.0, 1.0)
    at_end = (lowest != inside)[..., 0]
    fine = k[inside[..., 0]] + offset * (k[1] - k[0])
    fine_depth = np.maximum(middle - (right - left) ** 2 / (8 * bend), 0.0)
    return RangesAlong(
        np.where(at_end, k[lowest[..., 0]], fine),
        np.where(at_end, np.take_along_axis(depth, lowest, axis=-1)[..., 0], fine_depth),
    )


def dcd_estimate(
    plane: Complex,
    spherical: Complex,
    moments: Moments,
    dictionary: Search,
    spacing_wavelengths: float,
    *,
    polish: bool = True,
) -> NearFieldEstimate:
    """Angles, ranges and powers of one frame, and a joint likelihood fit on its samples.

    ``resolved`` are sources with a null on the second surrogate or, fitted, all of them where nothing but noise is left
    of the samples: the range network may have no null for a source farther away than any that it was trained on, whose
    angle holds.

    Args:
        plane: Signal subspace of the first surrogate, in which waves are plane, ``[sensor, source]``.
        spherical: Of the second, ``[sensor, source]``.
        moments: Of the samples.
        dictionary: Model and limits.
        spacing_wavelengths: Of neighbouring elements.
        polish: End with the fit.
    """
    azimuth = line_azimuths(plane, spacing_wavelengths)
    ranges = ranges_along(spherical, azimuth, dictionary)
    shallow = ranges.depth > FOUND_DEPTH
    start = ranges.inverse_range_per_m
    if polish and shallow.any():
        # an angle without a null has no range: the plane wave misleads the fit less where the samples say so
        tried = (start, np.where(shallow, 0.0, start))
        costs = [refine_maximum_likelihood(moments, dictionary, azimuth, k, max_iterations=0).cost for k in tried]
        start = tried[int(np.argmin(costs))]
    fit = refine_maximum_likelihood(
        moments, dictionary, azimuth, start, max_iterations=8 if polish else 0, tolerance=0.3
    )
    estimate = NearFieldEstimate(
        azimuth_rad=fit.azimuth_rad,
        inverse_range_per_m=fit.inverse_range_per_m,
        depth=ranges.depth,
        resolved=~shallow,
        n_requested=len(azimuth),
        fraunhofer_m=dictionary.fraunhofer_m,
        power=fit.power,
        noise_power=fit.noise_power,
        covariance=fit.covariance,
    )
    if polish and not estimate.resolved.all() and explains(estimate, moments, dictionary):
        estimate.resolved[:] = True
    return estimate

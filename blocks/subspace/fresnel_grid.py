"""Grid of Fresnel waves on a uniform line, in sine and curvature: an FFT dictionary."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.array_kind import constant, namespace
from blocks.subspace.line_direction import MOST_SPACING
from blocks.subspace.null_descent import Box, Model
from blocks.subspace.toeplitz import uniform_spacing
from blocks.subspace.uniform_projection import fft_sines, fresnel_chirp, fresnel_projection
from hil.array import ArrayGeometry, fresnel_distance, fresnel_distance_oblique
from hil.errors import ParamError

Array = Any  # NumPy or torch
F64 = npt.NDArray[np.float64]

#: Largest cubic phase at the edge of the aperture, rad, that the Fresnel search may leave out: most of it is a tilt,
#: by less than a quarter of a beam, and the rest takes less than a tenth off the projection. Where there is more, the
#: azimuths are searched in sectors, each with the cubic phase of its middle.
CUBIC_PHASE_RAD = 2.0
#: The same of the quartic phase, which nothing takes care of: nearer, the search refuses.
QUARTIC_PHASE_RAD = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class FresnelGrid:
    """Grid in sine and curvature, and what the search on it needs.

    Attributes:
        model: Exact model that the descent uses.
        sine: ``[azimuth]``.
        curvature_per_m: ``cos^2(azimuth) / range``, ``[curvature]`` 1/m, from 0.
        chirp: ``[layer, sensor]`` complex64; a layer is a curvature, or a sector of azimuths of one.
        layer: Which layer a point is in, ``[curvature, azimuth]``; ``None`` where layers are curvatures.
        searched: Whether a point is visible and not nearer than the nearest range, ``[curvature, azimuth]``.
        range_min_m: Nearest range.
    """

    model: Model
    sine: F64
    curvature_per_m: F64
    chirp: npt.NDArray[np.complex64]
    layer: npt.NDArray[np.intp] | None
    searched: npt.NDArray[np.bool_]
    range_min_m: float

    def projection(self, signal: Array) -> Array:
        """Part of each wave in subspaces ``[..., sensor, source]``, ``[..., curvature, azimuth]``; see ``searched``.

        NumPy or torch; in complex64.
        """
        xp = namespace(signal)
        exact_enough = xp.astype(signal, xp.complex64, copy=False)
        values = fresnel_projection(exact_enough, constant(self.chirp, signal), len(self.sine))
        if self.layer is None:
            return values
        layer = xp.broadcast_to(constant(self.layer, signal), (*signal.shape[:-2], *self.layer.shape))
        return xp.take_along_axis(values, layer, axis=-2)

    @property
    def box(self) -> Box:
        """Limits of the descent: half a step beyond the nearest range, so that noise does not push a source out."""
        c = self.curvature_per_m
        k_step = float(c[1]) if len(c) > 1 else 1.0
        az_step = float(self.sine[1] - self.sine[0])
        return Box(
            np.array([-np.pi / 2, -np.pi / 2, 0.0]),
            np.array([np.pi / 2, np.pi / 2, 1 / self.range_min_m + k_step / 2 if len(c) > 1 else 0.0]),
            np.array([az_step, 1.0, k_step]),
        )


def fresnel_grid(
    array: ArrayGeometry,
    wavelength_m: float,
    *,
    n_azimuth: int | None = None,
    n_range: int | None = None,
    range_min_m: float | None = None,
    amplitude: bool = True,
) -> FresnelGrid:
    """Grid for a uniform line; absent sizes: as many as keep every source in some point's basin.

    Args:
        array: Uniform line along x, spacing at most half a wavelength.
        wavelength_m: Metres.
        n_azimuth: Bins of the FFT.
        n_range: Curvatures; 1: plane waves alone.
        range_min_m: Nearest range; absent: where the cubic phase begins to matter, which is 0.44 of the oblique Fresnel
            distance (nearer, the search takes sectors, down to 0.73 of the Fresnel distance).
        amplitude: Whether near elements receive more than far ones.

    Raises:
        ParamError: No uniform line, or a range so near that Fresnel waves do not lead to the exact ones.
    """
    return _fresnel_grid(array, float(wavelength_m), n_azimuth, n_range, range_min_m, amplitude)


@lru_cache(maxsize=8)
def _fresnel_grid(
    array: ArrayGeometry,
    wavelength_m: float,
    n_azimuth: int | None,
    n_range: int | None,
    range_min_m: float | None,
    amplitude: bool,
) -> FresnelGrid:
    position = array.channel_position_m
    spacing = uniform_spacing(position)
    if spacing > MOST_SPACING * wavelength_m:
        raise ParamError(f"fresnel_grid: spacing {spacing:.4g} m is above half a wavelength: directions repeat")
    reach = fresnel_reach(array.aperture_m, wavelength_m)
    # the cubic phase falls with the square of the range and is pi/8 at the oblique Fresnel distance
    plain = fresnel_distance_oblique(array.aperture_m, wavelength_m) * np.sqrt(np.pi / 8 / CUBIC_PHASE_RAD)
    nearest = range_min_m if range_min_m is not None else max(plain, reach)
    if nearest < reach * (1 - 1e-9):
        raise ParamError(
            f"fresnel_grid: range_min_m {nearest:.4g} is nearer than {reach:.4g}, where Fresnel waves fail; "
            "search near_field_music's dictionary there"
        )
    n = len(position)
    edge_phase = np.pi * array.aperture_m**2 / (4 * wavelength_m * nearest)
    bins = n_azimuth if n_azimuth is not None else max(16, 2 ** int(np.ceil(np.log2(wavelength_m * n / spacing))))
    n_curvature = n_range if n_range is not None else max(3, int(np.ceil(edge_phase / 2)) + 1)
    curvature = np.linspace(0, 1 / nearest, n_curvature)
    sine = fft_sines(bins, spacing, wavelength_m)
    # curvature is cos^2 / range: towards endfire the nearest range is at less and less curvature
    searched = (curvature[:, None] * nearest <= 1 - sine**2 + 1e-12) & (np.abs(sine) <= 1)
    chirp, layer = _layers(position[:, 0], curvature, sine, searched, wavelength_m)
    return FresnelGrid(
        model=Model(position, wavelength_m, amplitude),
        sine=sine,
        curvature_per_m=curvature,
        searched=searched,
        chirp=chirp,
        layer=layer,
        range_min_m=float(nearest),
    )


def _layers(
    offset_m: F64, curvature_per_m: F64, sine: F64, searched: npt.NDArray[np.bool_], wavelength_m: float
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.intp] | None]:
    r"""Chirps ``[layer, sensor]`` and the layer of each point ``[curvature, azimuth]``.

    The next term of the exact path, :math:`d^3 \sin\theta \cos^2\theta / (2 r^2)`, is
    :math:`c^2 u / (1 - u^2) d^3 / 2` in sine and curvature: a curvature whose cubic phase is too large is split into
    sectors of equal parts of it.
    """
    half = float(np.abs(offset_m).max())
    cubic = curvature_per_m[:, None] ** 2 * np.where(searched, sine / np.maximum(1 - sine**2, 1e-12), 0.0)
    edge_phase = np.pi / wavelength_m * half**3 * cubic
    most = np.abs(edge_phase).max(axis=1)
    n_sectors = np.maximum(np.ceil(most / CUBIC_PHASE_RAD - 1e-9).astype(int), 1)
    plain = fresnel_chirp(offset_m, curvature_per_m, wavelength_m)
    if (n_sectors == 1).all():
        return plain.astype(np.complex64), None
    first = np.concatenate([[0], np.cumsum(n_sectors)[:-1]])
    width = np.maximum(2 * most / n_sectors, 1e-300)
    sector = np.clip(np.floor((edge_phase + most[:, None]) / width[:, None]), 0, n_sectors[:, None] - 1).astype(np.intp)
    of = np.repeat(np.arange(len(n_sectors)), n_sectors)  # curvature of each layer
    middle = -most[of] + (np.arange(len(of)) - first[of] + 0.5) * width[of]
    chirp = plain[of] * np.exp(1j * middle[:, None] * (offset_m / half) ** 3)
    return chirp.astype(np.complex64), first[:, None] + sector


def fresnel_reach(aperture_m: float, wavelength_m: float) -> float:
    """Nearest range, metres, at which the search still ends in the basin of every source."""
    # the quartic phase falls with the cube of the range and is pi/8 at the Fresnel distance
    return float(fresnel_distance(aperture_m, wavelength_m) * (np.pi / 8 / QUARTIC_PHASE_RAD) ** (1 / 3))

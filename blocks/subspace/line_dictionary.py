"""The search of near-field MUSIC on a uniform line by FFT: no steering vectors are kept or read."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Grid
from blocks.subspace.fresnel_grid import FresnelGrid, fresnel_grid, fresnel_reach
from blocks.subspace.line_direction import MOST_SPACING
from blocks.subspace.toeplitz import is_uniform_line
from hil.array import ArrayGeometry, fraunhofer_distance

F64 = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complexfloating[Any, Any]]

#: Elements from which the FFT is faster than the product with a dictionary.
LARGE_LINE = 128


@dataclass(frozen=True, eq=False, kw_only=True)
class LineDictionary:
    """A :class:`blocks.subspace.dictionary.Search` whose projection is one FFT a source and curvature.

    The refinement that follows is on the exact wavefront within the same limits, so that estimates are those of a
    dictionary of ``grid``.

    Attributes:
        grid: Limits and steps of the refinement.
        position_m: Sensors in channel order, ``[sensor, xyz]`` metres.
        wavelength_m: Metres.
        amplitude: Whether near elements receive more than far ones.
        fraunhofer_m: Fraunhofer distance of the array.
        fresnel: What the projection is on.
        searched: Points inside the limits, ``[azimuth, range]``.
    """

    grid: Grid
    position_m: F64
    wavelength_m: float
    amplitude: bool
    fraunhofer_m: float
    fresnel: FresnelGrid
    searched: npt.NDArray[np.bool_]

    def projection(self, signal: Complex) -> npt.NDArray[np.float32]:
        """Part of Fresnel waves in a subspace ``[sensor, source]``, ``[azimuth, range]``; 0 outside the limits."""
        values = self.fresnel.projection(signal)
        kept: npt.NDArray[np.float32] = np.where(self.searched.T, values, np.float32(0)).T
        # zero where nothing is searched, but not finite where the data are not: the caller looks at one point
        return kept if np.isfinite(values[0, 0]) else np.full_like(kept, np.nan)

    def point(self, index: npt.NDArray[np.intp]) -> tuple[F64, F64]:
        """Azimuth and inverse range of flat indices into the projection."""
        n_range = len(self.fresnel.curvature_per_m)
        u, curvature = self.fresnel.sine[index // n_range], self.fresnel.curvature_per_m[index % n_range]
        return np.arcsin(np.clip(u, -1, 1)), np.minimum(
            curvature / np.maximum(1 - u * u, 1e-9), 1 / self.grid.range_min_m
        )


def line_dictionary(
    array: ArrayGeometry,
    wavelength_m: float,
    grid: Grid,
    *,
    amplitude: bool = True,
    n_azimuth: int | None = None,
    n_range: int | None = None,
) -> LineDictionary:
    """For a uniform line with ascending channels; the last 8 are kept.

    Args:
        array: See :func:`suits_line_dictionary`.
        wavelength_m: Metres.
        grid: Limits; elevation 0.
        amplitude: Whether near elements receive more than far ones.
        n_azimuth: Bins of the FFT; absent: half a beam apart or less.
        n_range: Curvatures; absent: 2 rad apart at the edge of the aperture.

    Raises:
        ParamError: No such line, or a nearest range where Fresnel waves do not lead to the exact ones.
    """
    return _line_dictionary(array, float(wavelength_m), grid, amplitude, n_azimuth, n_range)


@lru_cache(maxsize=8)
def _line_dictionary(
    array: ArrayGeometry,
    wavelength_m: float,
    grid: Grid,
    amplitude: bool,
    n_azimuth: int | None,
    n_range: int | None,
) -> LineDictionary:
    fresnel = fresnel_grid(
        array,
        wavelength_m,
        n_azimuth=n_azimuth,
        n_range=1 if grid.n_range == 1 else n_range,
        range_min_m=grid.range_min_m,
        amplitude=amplitude,
    )
    step = fresnel.sine[1] - fresnel.sine[0]
    low, high = np.sin(grid.azimuth_min_rad) - step, np.sin(grid.azimuth_max_rad) + step
    inside = (fresnel.sine >= low) & (fresnel.sine <= high)
    return LineDictionary(
        grid=grid,
        position_m=array.channel_position_m,
        wavelength_m=wavelength_m,
        amplitude=amplitude,
        fraunhofer_m=fraunhofer_distance(array.aperture_m, wavelength_m),
        fresnel=fresnel,
        searched=(fresnel.searched & inside).T,
    )


def suits_line_dictionary(array: ArrayGeometry, wavelength_m: float, grid: Grid) -> bool:
    """Whether :func:`line_dictionary` takes this array and this search: a uniform line along x of up to half a
    wavelength, elevation 0, plane waves or ranges none of which is nearer than the Fresnel search reaches."""
    return (
        grid.elevation_rad == 0
        and is_uniform_line(array.channel_position_m, MOST_SPACING * wavelength_m)
        and grid.range_min_m >= fresnel_reach(array.aperture_m, wavelength_m)
        and np.isinf(grid.range_max_m)
    )

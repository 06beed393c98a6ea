"""Which coordinates of a source an array can tell."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from hil.array import ArrayGeometry

Observable = Literal["azimuth", "elevation", "inverse_range"]


def observable_coordinates(
    array: ArrayGeometry, wavelength_m: float, range_m: npt.NDArray[np.float64]
) -> tuple[Observable, ...]:
    """Azimuth always; elevation where an array that is no line has an extent along z; range where one is finite.

    A line sees a cone angle only, and a level array sees elevation near 0 as its cosine, with no slope: both take
    elevation as known. Plane waves (all ranges infinite) have no range to tell.

    Args:
        array: The array.
        wavelength_m: Metres.
        range_m: ``[source]`` metres.
    """
    tall = not array.is_linear and float(np.ptp(array.channel_position_m[:, 2])) > wavelength_m / 4
    coordinates: tuple[Observable, ...] = ("azimuth", "elevation") if tall else ("azimuth",)
    return (*coordinates, "inverse_range") if np.isfinite(range_m).any() else coordinates

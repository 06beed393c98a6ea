"""What is known of the array, and what is estimated of the sources."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.bounds.steering_derivative import SteeringDerivatives, steering_derivatives
from blocks.subspace.dictionary import Dictionary
from hil.wavefront import direction_vector, path_difference

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


class Scene(NamedTuple):
    """The array and where sources may be.

    Attributes:
        position_m: ``[sensor, xyz]`` metres.
        wavelength_m: Metres.
        amplitude: Whether a near element receives more than a far one.
        inverse_range_limits_per_m: Lowest and highest, 1/m.
        elevation_rad: Elevation of the plane that all sources lie in.
    """

    position_m: F64
    wavelength_m: float
    amplitude: bool
    inverse_range_limits_per_m: tuple[float, float]
    elevation_rad: float = 0.0

    @classmethod
    def of(cls, dictionary: Dictionary) -> "Scene":
        grid = dictionary.grid
        return cls(
            dictionary.position_m,
            dictionary.wavelength_m,
            dictionary.amplitude,
            grid.inverse_range_limits_per_m,
            grid.elevation_rad,
        )

    def steering(self, azimuth_rad: F64, inverse_range_per_m: F64) -> SteeringDerivatives:
        """Exact steering vectors and derivatives, each ``[source, sensor]``."""
        elevation = np.full(len(azimuth_rad), self.elevation_rad)
        return steering_derivatives(
            self.position_m,
            azimuth_rad,
            elevation,
            inverse_range_per_m,
            self.wavelength_m,
            amplitude=self.amplitude,
        )

    def vectors(self, azimuth_rad: F64, inverse_range_per_m: F64) -> C128:
        """Steering vectors alone, ``[source, sensor]``."""
        u = direction_vector(azimuth_rad, np.full(len(azimuth_rad), self.elevation_rad))
        path, gain = path_difference(self.position_m, u, inverse_range_per_m)
        phasor: C128 = np.exp(-2j * np.pi / self.wavelength_m * path)
        return phasor * gain if self.amplitude else phasor


class Places(NamedTuple):
    """Azimuth ``[source]`` rad and inverse range ``[source]`` 1/m."""

    azimuth_rad: F64
    inverse_range_per_m: F64

    @property
    def range_m(self) -> F64:
        """``[source]`` metres, infinite for a plane wave."""
        with np.errstate(divide="ignore"):
            return 1 / self.inverse_range_per_m

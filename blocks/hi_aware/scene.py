"""What is known of the array, and what is estimated of the sources."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.bounds.cramer_rao import Parameter
from blocks.bounds.steering_derivative import SteeringDerivatives, steering_derivatives
from blocks.hi_aware.planar_dictionary import PlanarDictionary
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
        elevation_rad: Elevation of the plane that all sources lie in, where ``elevation_free`` is not set.
        elevation_free: Each source has an elevation of its own: planar arrays.
    """

    position_m: F64
    wavelength_m: float
    amplitude: bool
    inverse_range_limits_per_m: tuple[float, float]
    elevation_rad: float = 0.0
    elevation_free: bool = False

    @classmethod
    def of(cls, dictionary: Dictionary | PlanarDictionary) -> "Scene":
        if isinstance(dictionary, PlanarDictionary):
            model = dictionary.model
            return cls(
                model.position_m,
                model.wavelength_m,
                model.amplitude,
                dictionary.inverse_range_limits_per_m,
                elevation_free=True,
            )
        grid = dictionary.grid
        return cls(
            dictionary.position_m,
            dictionary.wavelength_m,
            dictionary.amplitude,
            grid.inverse_range_limits_per_m,
            grid.elevation_rad,
        )

    @property
    def coordinates(self) -> tuple[Parameter, ...]:
        """What is unknown of a source, in the order of the fields of :class:`Places`."""
        return ("azimuth", "inverse_range", "elevation") if self.elevation_free else ("azimuth", "inverse_range")

    def steering(
        self, azimuth_rad: F64, inverse_range_per_m: F64, elevation_rad: F64 | None = None
    ) -> SteeringDerivatives:
        """Exact steering vectors and derivatives, each ``[source, sensor]``."""
        return steering_derivatives(
            self.position_m,
            azimuth_rad,
            self._elevation(azimuth_rad, elevation_rad),
            inverse_range_per_m,
            self.wavelength_m,
            amplitude=self.amplitude,
        )

    def vectors(self, azimuth_rad: F64, inverse_range_per_m: F64, elevation_rad: F64 | None = None) -> C128:
        """Steering vectors alone, ``[source, sensor]``."""
        u = direction_vector(azimuth_rad, self._elevation(azimuth_rad, elevation_rad))
        path, gain = path_difference(self.position_m, u, inverse_range_per_m)
        phasor: C128 = np.exp(-2j * np.pi / self.wavelength_m * path)
        return phasor * gain if self.amplitude else phasor

    def _elevation(self, azimuth_rad: F64, elevation_rad: F64 | None) -> F64:
        return np.full(len(azimuth_rad), self.elevation_rad) if elevation_rad is None else elevation_rad


class Places(NamedTuple):
    """Azimuth ``[source]`` rad, inverse range ``[source]`` 1/m and, where the scene leaves it free, elevation
    ``[source]`` rad; ``None``: all in the scene's plane."""

    azimuth_rad: F64
    inverse_range_per_m: F64
    elevation_rad: F64 | None = None

    def stacked(self) -> F64:
        """``[coordinate, source]``, the fields that are free."""
        return np.stack([v for v in self if v is not None])

    @classmethod
    def of_stacked(cls, values: F64) -> "Places":
        """From ``[coordinate, source]``."""
        return cls(*values)

    def take(self, index: npt.NDArray[Any]) -> "Places":
        """Some of the sources."""
        return Places.of_stacked(self.stacked()[:, index])

    @property
    def range_m(self) -> F64:
        """``[source]`` metres, infinite for a plane wave."""
        with np.errstate(divide="ignore"):
            return 1 / self.inverse_range_per_m

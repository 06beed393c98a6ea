"""Grids of azimuth and range, and the dictionaries of steering vectors on them, built once and kept."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from blocks.subspace.spectrum import signal_projection
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.errors import ParamError
from hil.wavefront import direction_vector, path_difference

F64 = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Search grid: azimuth uniform in sine (lines) or in angle, range uniform in its inverse.

    Uniform in ``1/r`` because that is what the curvature of the wavefront is linear in: equal steps change the
    spectrum equally, and the far field is the ordinary point 0.

    Attributes:
        azimuth_min_rad: First azimuth.
        azimuth_max_rad: Last azimuth; a full turn later than the first, it is left out and the axis wraps.
        n_azimuth: Number of azimuths.
        spacing: ``sine`` or ``angle``.
        range_min_m: Nearest range.
        range_max_m: Farthest range, may be infinite.
        n_range: Number of ranges; 1 is ``range_max_m`` alone.
        elevation_rad: The one elevation that the grid lies in.
    """

    azimuth_min_rad: float
    azimuth_max_rad: float
    n_azimuth: int
    spacing: Literal["sine", "angle"]
    range_min_m: float
    range_max_m: float = np.inf
    n_range: int = 1
    elevation_rad: float = 0.0

    def __post_init__(self) -> None:
        limit = np.pi / 2 if self.spacing == "sine" else 2 * np.pi
        if not -limit <= self.azimuth_min_rad < self.azimuth_max_rad <= limit:
            raise ParamError(
                f"Grid: expected {-limit:.4g} <= azimuth_min_rad < azimuth_max_rad <= {limit:.4g} for {self.spacing} "
                f"spacing, got {self.azimuth_min_rad} and {self.azimuth_max_rad}"
            )
        if not 0 < self.range_min_m < self.range_max_m:
            raise ParamError(
                f"Grid: expected 0 < range_min_m < range_max_m, got {self.range_min_m} and {self.range_max_m}"
            )
        if self.n_azimuth < 3 or self.n_range < 1:
            raise ParamError(f"Grid: expected n_azimuth >= 3 and n_range >= 1, got {self.n_azimuth} and {self.n_range}")

    @classmethod
    def coarse(
        cls,
        array: ArrayGeometry,
        wavelength_m: float,
        *,
        range_min_m: float | None = None,
        azimuth_limit_rad: float | None = None,
        elevation_rad: float = 0.0,
        far_field_only: bool = False,
    ) -> Self:
        """Coarsest grid on which no null of the MUSIC cost is missed: half a beam in azimuth, 2 rad in curvature.

        A grid point is then within a quarter beam and 1 rad of edge curvature of any source, where the steering
        vectors still correlate by more than 0.8: inside the basin that refinement descends.

        Args:
            array: Its aperture sets the steps.
            wavelength_m: Metres.
            range_min_m: Nearest range; absent: the Fresnel distance.
            azimuth_limit_rad: Search ``[-limit, limit]``; absent: 90 degrees for lines and planes that hold z, else
                the full turn.
            elevation_rad: Elevation of the grid.
            far_field_only: One range, infinity.
        """
        aperture = array.aperture_m
        nearest = range_min_m if range_min_m is not None else fresnel_distance(aperture, wavelength_m)
        p = array.position_m
        fronted = array.is_linear or float(np.abs(p[:, 1]).max()) <= 1e-9 * aperture
        limit = azimuth_limit_rad if azimuth_limit_rad is not None else (np.pi / 2 if fronted else np.pi)
        spacing: Literal["sine", "angle"] = "sine" if fronted else "angle"
        extent = 2 * np.sin(min(limit, np.pi / 2)) if fronted else 2 * limit
        edge_phase = np.pi * aperture**2 / (4 * wavelength_m * nearest)
        return cls(
            azimuth_min_rad=-limit,
            azimuth_max_rad=limit,
            n_azimuth=max(9, int(np.ceil(2 * aperture * extent / wavelength_m)) + 1),
            spacing=spacing,
            range_min_m=nearest,
            n_range=1 if far_field_only else max(3, int(np.ceil(edge_phase / 2)) + 1),
            elevation_rad=elevation_rad,
        )

    @property
    def wraps(self) -> bool:
        """True where the azimuth axis is a full circle."""
        return self.azimuth_max_rad - self.azimuth_min_rad >= 2 * np.pi - 1e-12

    @property
    def azimuth_step_rad(self) -> float:
        """Mean azimuth step, rad."""
        return (self.azimuth_max_rad - self.azimuth_min_rad) / (self.n_azimuth - (not self.wraps))

    @property
    def inverse_range_step_per_m(self) -> float:
        """Step of inverse range, 1/m; the whole of it where there is one range."""
        return (1 / self.range_min_m - 1 / self.range_max_m) / max(self.n_range - 1, 1)

    @property
    def inverse_range_limits_per_m(self) -> tuple[float, float]:
        """Where refinement may go, 1/m: half a step beyond the grid, so that noise does not push a source at its edge
        out of the search; never below 0, the far field. With one range there is nowhere to go."""
        low, high = 1 / self.range_max_m, 1 / self.range_min_m
        if self.n_range == 1:
            return low, low
        half = self.inverse_range_step_per_m / 2
        return max(low - half, 0.0), high + half

    @property
    def azimuth_rad(self) -> F64:
        """``[azimuth]`` rad."""
        if self.spacing == "sine":
            s = np.linspace(np.sin(self.azimuth_min_rad), np.sin(self.azimuth_max_rad), self.n_azimuth)
            return np.arcsin(np.clip(s, -1, 1))
        return np.linspace(self.azimuth_min_rad, self.azimuth_max_rad, self.n_azimuth, endpoint=not self.wraps)

    @property
    def inverse_range_per_m(self) -> F64:
        """``[range]`` 1/m, ascending: from the farthest range to the nearest."""
        if self.n_range == 1:
            return np.array([1 / self.range_max_m])
        return np.linspace(1 / self.range_max_m, 1 / self.range_min_m, self.n_range)

    @property
    def range_m(self) -> F64:
        """``[range]`` metres, descending from ``range_max_m``."""
        with np.errstate(divide="ignore"):
            return 1 / self.inverse_range_per_m


class Search(Protocol):
    """What a search for nulls needs: the model of the wavefront, where it may go, and a projection on a grid.

    :class:`Dictionary` has steering vectors of any array, :class:`blocks.subspace.line_dictionary.LineDictionary` has
    an FFT.
    """

    @property
    def grid(self) -> Grid: ...  # limits and steps of the refinement
    @property
    def position_m(self) -> F64: ...
    @property
    def wavelength_m(self) -> float: ...
    @property
    def amplitude(self) -> bool: ...
    @property
    def fraunhofer_m(self) -> float: ...

    def projection(self, signal: Complex) -> npt.NDArray[np.float32]:
        """Part of steering vectors in an orthonormal subspace ``[sensor, source]``, ``[azimuth, range]``, 0 .. 1."""

    def point(self, index: npt.NDArray[np.intp]) -> tuple[F64, F64]:
        """Azimuth and inverse range of flat indices into the projection."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dictionary:
    """Unit-norm steering vectors on a grid.

    Attributes:
        grid: The grid.
        position_m: Sensors in channel order, ``[sensor, xyz]`` metres.
        wavelength_m: Metres.
        amplitude: Whether the vectors have the factor ``r / r_m``.
        azimuth_rad: ``[azimuth]``.
        inverse_range_per_m: ``[range]``.
        conjugate: ``a^H / |a|``, ``[azimuth * range, sensor]`` complex64: exact enough to find a basin (phase error
            about 1e-6 rad), half the memory traffic. In Fortran order, as :func:`signal_projection` likes it.
        fraunhofer_m: Fraunhofer distance of the array at this wavelength.
    """

    grid: Grid
    position_m: F64
    wavelength_m: float
    amplitude: bool
    azimuth_rad: F64
    inverse_range_per_m: F64
    conjugate: npt.NDArray[np.complex64]
    fraunhofer_m: float

    def projection(self, signal: Complex) -> npt.NDArray[np.float32]:
        """See :class:`Search`; in complex64."""
        values = signal_projection(self.conjugate, signal.astype(np.complex64, copy=False))
        return values.reshape(len(self.azimuth_rad), len(self.inverse_range_per_m))

    def point(self, index: npt.NDArray[np.intp]) -> tuple[F64, F64]:
        """See :class:`Search`."""
        n_range = len(self.inverse_range_per_m)
        return self.azimuth_rad[index // n_range], self.inverse_range_per_m[index % n_range]


def steering_dictionary(
    array: ArrayGeometry, wavelength_m: float, grid: Grid | None = None, *, amplitude: bool = True
) -> Dictionary:
    """Dictionary for ``array``; the last 8 are kept, keyed by positions, wavelength, grid and amplitude.

    Args:
        array: Channels of this array, in channel order.
        wavelength_m: Metres.
        grid: Absent: :meth:`Grid.coarse`.
        amplitude: Whether a near element receives more than a far one.
    """
    chosen = grid if grid is not None else Grid.coarse(array, wavelength_m)
    return _build(array.channel_position_m.tobytes(), float(wavelength_m), chosen, amplitude, array.aperture_m)


@lru_cache(maxsize=8)
def _build(position: bytes, wavelength_m: float, grid: Grid, amplitude: bool, aperture_m: float) -> Dictionary:
    position_m = np.frombuffer(position).reshape(-1, 3)
    azimuth, inverse_range = grid.azimuth_rad, grid.inverse_range_per_m
    u = direction_vector(azimuth[:, None], np.float64(grid.elevation_rad))
    path, gain = path_difference(position_m, u, np.broadcast_to(inverse_range, (len(azimuth), len(inverse_range))))
    conjugate = np.exp(2j * np.pi / wavelength_m * path)
    if amplitude:
        conjugate *= gain
    conjugate /= np.linalg.norm(conjugate, axis=-1, keepdims=True)
    flat = np.asfortranarray(conjugate.reshape(-1, len(position_m)), dtype=np.complex64)
    flat.flags.writeable = False
    return Dictionary(
        grid=grid,
        position_m=position_m,
        wavelength_m=wavelength_m,
        amplitude=amplitude,
        azimuth_rad=azimuth,
        inverse_range_per_m=inverse_range,
        conjugate=flat,
        fraunhofer_m=fraunhofer_distance(aperture_m, wavelength_m),
    )

"""Far-field MUSIC: directions of plane waves."""

from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Dictionary, Grid, steering_dictionary
from blocks.subspace.near_field_music import NearFieldEstimate, near_field_music
from blocks.subspace.signal_subspace import signal_subspace
from blocks.subspace.spectrum import music_spectrum
from hil.array import ArrayGeometry
from hil.errors import ParamError


def far_field_dictionary(
    array: ArrayGeometry, wavelength_m: float, n_azimuth: int | None = None, *, elevation_rad: float = 0.0
) -> Dictionary:
    """Plane-wave steering vectors over azimuth; ``n_azimuth`` absent: as many as the search needs."""
    grid = Grid.coarse(array, wavelength_m, elevation_rad=elevation_rad, far_field_only=True)
    if n_azimuth is not None:
        grid = Grid(
            azimuth_min_rad=grid.azimuth_min_rad,
            azimuth_max_rad=grid.azimuth_max_rad,
            n_azimuth=n_azimuth,
            spacing=grid.spacing,
            range_min_m=grid.range_min_m,
            elevation_rad=elevation_rad,
        )
    return steering_dictionary(array, wavelength_m, grid, amplitude=False)


def far_field_music(
    covariance: npt.NDArray[np.complexfloating[Any, Any]],
    dictionary: Dictionary,
    n_sources: int,
    n_snapshots: float,
    *,
    polish: bool = True,
) -> NearFieldEstimate:
    """MUSIC of plane waves (Schmidt 1986), off the grid; as :func:`near_field_music` with inverse range 0.

    Args:
        covariance: ``[sensor, sensor]`` Hermitian.
        dictionary: From :func:`far_field_dictionary`.
        n_sources: 1 .. N - 1.
        n_snapshots: Effective number in the covariance.
        polish: End with a maximum-likelihood fit.
    """
    if dictionary.grid.n_range != 1 or np.isfinite(dictionary.grid.range_max_m):
        raise ParamError("far_field_music: the dictionary has ranges; build it with far_field_dictionary")
    return near_field_music(covariance, dictionary, n_sources, n_snapshots, polish=polish)


def far_field_spectrum(
    covariance: npt.NDArray[np.complexfloating[Any, Any]], dictionary: Dictionary, n_sources: int
) -> npt.NDArray[np.float32]:
    """MUSIC pseudo-spectrum ``[azimuth]`` on the grid of ``dictionary``, in complex64."""
    signal = signal_subspace(covariance, n_sources)
    return music_spectrum(dictionary.conjugate, signal.astype(np.complex64, copy=False))

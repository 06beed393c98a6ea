"""MUSIC of plane waves on a uniform line, for speed: samples in, spectrum and off-grid azimuths out."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import blas, lapack

from blocks.subspace.line_direction import MOST_SPACING
from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]
C64 = npt.NDArray[np.complex64]
C128 = npt.NDArray[np.complex128]

MAX_ITERATIONS = 6
TOLERANCE_RAD = 3e-4  # a Gauss-Newton step below it leaves an error far below the eigenvectors' own 1e-6


class LineMusic(NamedTuple):
    """Spectrum and peaks.

    Attributes:
        spectrum: ``1 / (1 - |U_s^H a|^2 / N)`` on the grid, ``[azimuth]`` float32.
        azimuth_rad: The highest peaks, at most as many as asked, highest on the grid first, ``[source]``.
        depth: MUSIC cost at them, 0 .. 1, ``[source]``: near 1 where there is no source.
    """

    spectrum: npt.NDArray[np.float32]
    azimuth_rad: F64
    depth: F64


@dataclass(frozen=True, eq=False, kw_only=True)
class LineGrid:
    """Azimuths and unit-norm plane waves on them.

    Attributes:
        azimuth_rad: ``[azimuth]`` ascending, within +-90 degrees.
        steering: ``a / |a|``, ``[sensor, azimuth]`` complex64.
        phase_per_sine: Phase between neighbours a unit of sine, rad.
    """

    azimuth_rad: F64
    steering: C64
    phase_per_sine: float


@lru_cache(maxsize=16)
def line_grid(n_sensors: int, spacing_m: float, wavelength_m: float, n_azimuth: int) -> LineGrid:
    """Grid of ``n_azimuth`` angles, uniform from -90 to 90 degrees.

    Args:
        n_sensors: At least 2.
        spacing_m: At most :data:`blocks.subspace.line_direction.MOST_SPACING` wavelengths.
        wavelength_m: Metres.
        n_azimuth: At least four a beam, so that every null shows: refused otherwise.
    """
    if n_sensors < 2 or not 0 < spacing_m <= MOST_SPACING * wavelength_m:
        raise ParamError(f"line_grid: {n_sensors} sensors {spacing_m:.4g} m apart, expected >= 2 and <= lambda / 2")
    phase = 2 * np.pi * spacing_m / wavelength_m
    if n_azimuth < phase * n_sensors * 2:  # pi of sine steps at broadside, four a beam of 2 pi / N
        raise ParamError(f"line_grid: expected n_azimuth >= {int(np.ceil(phase * n_sensors * 2))}, got {n_azimuth}")
    azimuth = np.linspace(-np.pi / 2, np.pi / 2, n_azimuth)
    offset = np.arange(n_sensors) - (n_sensors - 1) / 2
    steering = np.exp(1j * phase * offset[:, None] * np.sin(azimuth)) / np.sqrt(n_sensors)
    return LineGrid(
        azimuth_rad=azimuth, steering=np.ascontiguousarray(steering, dtype=np.complex64), phase_per_sine=phase
    )


def line_music(x: C64, grid: LineGrid, n_sources: int, *, refine: bool = True) -> LineMusic:
    """MUSIC of one frame (Schmidt 1986), covariance included.

    Half of the covariance (``cherk``), a few eigenvectors of that half (``heevr``), one product with the dictionary,
    two or three Gauss-Newton steps of all peaks together. For more than the fewest microseconds - batches, any array,
    bounds of the errors - see :func:`blocks.subspace.far_field_music.far_field_music`.

    Args:
        x: ``[sensor, snapshot]`` complex64, C order.
        grid: From :func:`line_grid`.
        n_sources: 1 .. N - 1.
        refine: Off the grid; else azimuths are grid points.

    Raises:
        EstimationError: Data are not finite or zero, or fewer snapshots than sources.
    """
    n, t = x.shape
    if x.dtype != np.complex64 or n != len(grid.steering) or not 1 <= n_sources < n:
        raise ParamError(
            f"line_music: expected complex64 [sensor={len(grid.steering)}, snapshot] and 1 .. {n - 1} sources, got "
            f"{x.dtype} {list(x.shape)} and {n_sources}"
        )
    # x.T is Fortran's order without a copy; the product comes out conjugate, and so do its eigenvectors W = U*
    half = blas.cherk(1 / t, x.T, trans=2, lower=1)
    power = float(half.trace().real)
    if not 0 < power < np.inf:
        raise EstimationError(f"line_music: the samples have power {power}; expected a finite positive one")
    if t < n_sources:
        raise EstimationError(f"line_music: {n_sources} sources asked of {t} snapshots, which tell at most {t} apart")
    _, w, found, _, info = lapack.cheevr(half, range="I", il=n - n_sources + 1, iu=n, lower=1, overwrite_a=1)
    if info != 0 or found != n_sources:
        raise EstimationError(f"line_music: LAPACK cheevr gave info {info} and {found} of {n_sources} eigenpairs")
    seen = w.T @ grid.steering
    projection = np.square(np.abs(seen)).sum(axis=0)
    spectrum = 1 / (abs(1 - projection) + np.float32(1.2e-7))
    # a null at endfire stands on the border of the grid
    rises = projection[1:] > projection[:-1]
    top = np.flatnonzero(rises[:-1] > rises[1:]) + 1
    ends = ([] if rises[0] else [0]) + ([len(rises)] if rises[-1] else [])
    if ends:
        top = np.concatenate((top, ends))
    top = top[projection[top].argsort()[: -n_sources - 1 : -1]]
    azimuth = grid.azimuth_rad[top]
    if not refine:
        return LineMusic(spectrum, azimuth, 1 - projection[top].astype(np.float64))
    sine, depth = _refine(w.astype(np.complex128), np.sin(azimuth), grid.phase_per_sine)
    return LineMusic(spectrum, np.arcsin(sine), depth)


@lru_cache(maxsize=16)
def _offsets(n: int) -> tuple[C128, F64, float]:
    offset: F64 = np.arange(n, dtype=np.float64) - (n - 1) / 2
    turn: C128 = (1j * offset).astype(np.complex128)
    return turn, offset[:, None], float(offset @ offset) / n


def _refine(w: C128, sine: F64, phase_per_sine: float) -> tuple[F64, F64]:
    """Gauss-Newton on ``f = 1 - |W^T a|^2 / N`` in the phase between neighbours; sines and ``f`` ``[peak]``."""
    n, m = w.shape
    turn, offset, second_moment = _offsets(n)
    both = np.concatenate((w, offset * w), axis=1)  # a meets W and its derivative at once
    phase = phase_per_sine * sine
    for _ in range(MAX_ITERATIONS):
        c = (np.exp(phase[:, None] * turn) @ both).reshape(-1, 2, m)
        gram = c @ c.conj().transpose(0, 2, 1)  # (peak, 2, 2): of the value and its derivative
        step = gram[:, 0, 1].imag / np.maximum(n * second_moment - gram[:, 1, 1].real, 1e-12)
        phase = phase + step
        if max(map(abs, step.tolist()), default=0.0) < TOLERANCE_RAD:
            break
    # minimum and maximum: a quarter of the time of clip
    sine = np.minimum(np.maximum(phase / phase_per_sine, -1.0), 1.0)
    return sine, np.maximum(1 - gram[:, 0, 0].real / n, 0.0)

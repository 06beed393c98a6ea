"""Direction finding over a band: sub-bands with steering vectors of their own, summed in power or in projection."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from hil.errors import EstimationError, ParamError
from hil.wavefront import SPEED_OF_LIGHT_M_S, direction_vector, path_difference

Complex = npt.NDArray[np.complexfloating[Any, Any]]
C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]

Method = Literal["dbf", "music"]

#: Where azimuths are searched to, in parts of a step of the grid.
_REFINED_TO = 1e-4


class SubBands(NamedTuple):
    """Covariances of sub-bands.

    Attributes:
        covariance: ``[band, sensor, sensor]``, subcarriers as snapshots.
        frequency_hz: Middle of each band, at radio frequency, ``[band]``.
        n_snapshots: ``[band]``.
    """

    covariance: C128
    frequency_hz: F64
    n_snapshots: npt.NDArray[np.int64]


def number_of_bands(span_hz: float, aperture_m: float, largest_squint_rad: float) -> int:
    r"""Sub-bands in which the phase at the aperture's end errs by at most ``largest_squint_rad`` at endfire.

    At the edge of a band of width B/n, with the steering vector of its middle: :math:`\pi (B/n) D / (2 c)`.
    """
    return max(1, math.ceil(math.pi * span_hz * aperture_m / (2 * SPEED_OF_LIGHT_M_S * largest_squint_rad)))


def sub_bands(cfr: Complex, offset_hz: F64, frequency_hz: float, n_bands: int) -> SubBands:
    """Covariance of each of ``n_bands`` contiguous parts of the band.

    Args:
        cfr: ``[sensor, subcarrier]``.
        offset_hz: Of the subcarriers from the centre, ``[subcarrier]`` ascending.
        frequency_hz: The centre.
        n_bands: As many at most as there are subcarriers.
    """
    if cfr.ndim != 2 or cfr.shape[1] != len(offset_hz) or not 1 <= n_bands <= len(offset_hz):
        raise ParamError(f"sub_bands: cfr {list(cfr.shape)}, {len(offset_hz)} frequencies, {n_bands} bands")
    cut = np.array_split(np.arange(len(offset_hz)), n_bands)
    exact = cfr.astype(np.complex128, copy=False)
    covariance = np.stack([exact[:, part] @ exact[:, part].conj().T / len(part) for part in cut])
    middle = np.array([frequency_hz + offset_hz[part].mean() for part in cut])
    return SubBands(covariance, middle, np.array([len(part) for part in cut]))


def steering(position_m: F64, azimuth_rad: npt.ArrayLike, elevation_rad: float, frequency_hz: F64) -> C128:
    """Plane-wave steering vectors, ``[band, azimuth, sensor]``."""
    azimuth = np.atleast_1d(np.asarray(azimuth_rad, np.float64))
    direction = direction_vector(azimuth, np.full(len(azimuth), elevation_rad))
    path_m, _ = path_difference(position_m, direction, np.zeros(len(azimuth)), model="plane")
    return np.exp(-2j * np.pi / SPEED_OF_LIGHT_M_S * frequency_hz[:, None, None] * path_m)


def dbf_power(bands: SubBands, vector: C128) -> F64:
    r"""Digital beamforming, :math:`\frac{1}{B N^2} \sum_b a_b^H R_b a_b`: the power of one source there.

    Args:
        bands: From :func:`sub_bands`.
        vector: From :func:`steering`, ``[band, azimuth, sensor]``.

    Returns:
        ``[azimuth]``.
    """
    n_bands, n_sensors = bands.covariance.shape[:2]
    seen = vector @ bands.covariance.conj()  # (band, azimuth, sensor): (R a)^T
    return np.einsum("bas,bas->a", vector.conj(), seen).real / (n_bands * n_sensors**2)


def signal_subspaces(bands: SubBands, n_sources: int) -> tuple[C128, F64]:
    """Leading eigenvectors of each band ``[band, sensor, source]``, and each band's part of the power ``[band]``."""
    n_sensors = bands.covariance.shape[1]
    if not 1 <= n_sources < n_sensors:
        raise EstimationError(f"{n_sources} sources asked of {n_sensors} sensors, which tell at most {n_sensors - 1}")
    most = int(bands.n_snapshots.min())
    if n_sources > most:
        raise EstimationError(f"{n_sources} sources asked of {most} subcarriers in a band: take fewer bands")
    if not np.isfinite(bands.covariance).all():
        raise EstimationError("a channel estimate is not finite")
    _, vectors = np.linalg.eigh(bands.covariance)
    power = np.trace(bands.covariance, axis1=1, axis2=2).real
    total = float(power.sum())
    if not total > 0:
        raise EstimationError("the channel estimate is zero at all antennas")
    return vectors[:, :, n_sensors - n_sources :], power / total


def music_cost(signal: C128, weight: F64, vector: C128) -> F64:
    r"""Distance from the signal subspaces, :math:`\sum_b w_b (1 - \|U_b^H a_b\|^2 / N)`, 0 .. 1, ``[azimuth]``.

    Wax, Shan, Kailath 1984 (incoherent wideband MUSIC), each band weighted by its power.
    """
    seen = vector.conj() @ signal  # (band, azimuth, source)
    part = np.sum(seen.real**2 + seen.imag**2, axis=-1) / vector.shape[-1]
    return np.maximum(weight @ (1 - part), 0.0)


class Directions(NamedTuple):
    """What was found, strongest first: ``[source]`` each, and the spectrum that was searched ``[azimuth]``, dB.

    ``power_db`` is the beamformer's power towards each direction, whatever found it.
    """

    azimuth_rad: F64
    power_db: F64
    spectrum_db: F64


def find_directions(
    bands: SubBands,
    position_m: F64,
    grid_rad: F64,
    method: Method,
    n_sources: int,
    *,
    elevation_rad: float = 0.0,
    wraps: bool = False,
    vector: C128 | None = None,
) -> Directions:
    """Highest peaks of the spectrum, refined between the points of the grid.

    Args:
        bands: From :func:`sub_bands`.
        position_m: ``[sensor, xyz]``.
        grid_rad: Azimuths, ascending.
        method: dbf: power; music: distance from the signal subspace of ``n_sources``.
        n_sources: Peaks that are given at most.
        elevation_rad: Where all sources are.
        wraps: The grid is a full circle.
        vector: Steering vectors on the grid, if they are at hand.
    """
    if vector is None:
        vector = steering(position_m, grid_rad, elevation_rad, bands.frequency_hz)
    cost: Callable[[C128], F64]
    if method == "music":
        signal, weight = signal_subspaces(bands, n_sources)

        def cost(a: C128) -> F64:
            return music_cost(signal, weight, a)

        spectrum = 1 / (cost(vector) + 1e-9)
    else:
        if not np.isfinite(bands.covariance).all():
            raise EstimationError("a channel estimate is not finite")

        def cost(a: C128) -> F64:
            return -dbf_power(bands, a)

        spectrum = -cost(vector)
    if not spectrum.max() > 0:
        raise EstimationError("the channel estimate is zero at all antennas")
    found = []
    for peak in _peaks(spectrum, wraps)[:n_sources]:
        low, high = _neighbours(grid_rad, peak, wraps)

        def at(azimuth: float) -> float:
            return float(cost(steering(position_m, azimuth, elevation_rad, bands.frequency_hz))[0])

        best = minimize_scalar(at, bounds=(low, high), method="bounded", options={"xatol": _REFINED_TO * (high - low)})
        found.append(float((best.x + np.pi) % (2 * np.pi) - np.pi) if wraps else float(best.x))
    azimuth = np.array(found)
    power = dbf_power(bands, steering(position_m, azimuth, elevation_rad, bands.frequency_hz))
    return Directions(azimuth, 10 * np.log10(power), 10 * np.log10(np.maximum(spectrum, 1e-300)))


def _peaks(spectrum: F64, wraps: bool) -> list[int]:
    """Local maxima, highest first; the ends of a grid that does not wrap count."""
    before = np.roll(spectrum, 1)
    after = np.roll(spectrum, -1)
    if not wraps:
        before[0] = after[-1] = -np.inf
    top = np.flatnonzero((spectrum > before) & (spectrum >= after))
    order: list[int] = top[np.argsort(-spectrum[top])].tolist()
    return order


def _neighbours(grid_rad: F64, peak: int, wraps: bool) -> tuple[float, float]:
    if wraps:
        step = float(grid_rad[1] - grid_rad[0])
        return float(grid_rad[peak]) - step, float(grid_rad[peak]) + step
    return float(grid_rad[max(peak - 1, 0)]), float(grid_rad[min(peak + 1, len(grid_rad) - 1)])

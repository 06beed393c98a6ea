"""Near-field 2D MUSIC: covariance in, azimuths and ranges out, off the grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.bounds.steering_derivative import steering_derivatives
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.maximum_likelihood import Moments, refine_maximum_likelihood
from blocks.subspace.refine_music import Nulls, refine_music
from blocks.subspace.signal_subspace import leading_eigenpairs, leading_from_samples
from blocks.subspace.spectrum import local_maxima, signal_projection
from hil.errors import ParamError

F64 = npt.NDArray[np.float64]

FOUND_DEPTH = 0.6  # two coherent sources of equal power show as nulls of depth 0.5; noise alone stays above 0.6
RESOLVED_DEPTH = 0.25
CANDIDATE_PROJECTION = 0.25  # on the coarse grid a null of FOUND_DEPTH shows at least 0.4 * 0.65 of itself
DISTINCT_STEPS = 0.05  # peaks that converged to one null agree far better than this part of a grid step


@dataclass(frozen=True, kw_only=True)
class NearFieldEstimate:
    """What was found, deepest null first; never more than asked, never filled up.

    Attributes:
        azimuth_rad: ``[source]`` rad.
        inverse_range_per_m: ``[source]`` 1/m; 0 is a plane wave.
        depth: MUSIC cost at the source, 0 .. 1, ``[source]``.
        resolved: The null is deep and the search converged to it inside the searched ranges, ``[source]``. False
            says that the subspace does not hold this steering vector: coherent or unresolved sources, wrong order.
        n_requested: How many sources were asked for.
        fraunhofer_m: Fraunhofer distance of the array.
        power: Power at the array's centre, ``[source]``.
        noise_power: Per sensor; ``None`` where no source was found.
        covariance: Of (azimuth, inverse range), ``[source, 2, 2]``.
    """

    azimuth_rad: F64
    inverse_range_per_m: F64
    depth: F64
    resolved: npt.NDArray[np.bool_]
    n_requested: int
    fraunhofer_m: float
    power: F64
    noise_power: float | None
    covariance: F64

    @property
    def range_m(self) -> F64:
        """``[source]`` metres, infinite where the wavefront is plane."""
        with np.errstate(divide="ignore"):
            return 1 / self.inverse_range_per_m

    @property
    def far_field(self) -> npt.NDArray[np.bool_]:
        """``[source]``: beyond the Fraunhofer distance, where [NF] reports no range."""
        return self.inverse_range_per_m * self.fraunhofer_m <= 1

    @property
    def complete(self) -> bool:
        """As many as asked, all resolved."""
        return len(self.azimuth_rad) == self.n_requested and bool(self.resolved.all())


def near_field_music(
    covariance: npt.NDArray[np.complexfloating[Any, Any]],
    dictionary: Dictionary,
    n_sources: int,
    n_snapshots: float,
    *,
    polish: bool = True,
) -> NearFieldEstimate:
    """2D MUSIC ([NF] Section II-C2) of one covariance, coarse to fine.

    Leading eigenvectors; cost on the coarse dictionary in complex64; Gauss-Newton from every local minimum in
    complex128; where fewer nulls than sources came out, those found are projected out and the rest searched again.
    ``polish`` adds a joint maximum-likelihood fit, which uses the whole covariance.

    Args:
        covariance: ``[sensor, sensor]`` Hermitian, sensors as in the dictionary.
        dictionary: Model and grid, see :func:`blocks.subspace.dictionary.steering_dictionary`.
        n_sources: 1 .. N - 1.
        n_snapshots: Effective number in the covariance.
        polish: End with :func:`refine_maximum_likelihood`.

    Raises:
        EstimationError: The covariance is not finite, not positive or has no signal subspace.
    """
    _check(covariance.shape[0], dictionary, n_sources)
    signal = leading_eigenpairs(covariance, n_sources, n_snapshots).vectors
    moments = Moments.of_covariance(covariance.astype(np.complex128, copy=False), n_snapshots)
    return near_field_from_subspace(signal, moments, dictionary, polish=polish)


def near_field_music_samples(
    x: npt.NDArray[np.complexfloating[Any, Any]], dictionary: Dictionary, n_sources: int, *, polish: bool = True
) -> NearFieldEstimate:
    """As :func:`near_field_music` from samples ``[sensor, snapshot]``; faster where snapshots are few."""
    _check(x.shape[0], dictionary, n_sources)
    signal = leading_from_samples(x, n_sources).vectors
    return near_field_from_subspace(
        signal, Moments.of_samples(x.astype(np.complex128, copy=False)), dictionary, polish=polish
    )


def near_field_from_subspace(
    signal: npt.NDArray[np.complexfloating[Any, Any]], moments: Moments, dictionary: Dictionary, *, polish: bool = True
) -> NearFieldEstimate:
    """The search itself, from an orthonormal signal subspace ``[sensor, source]``."""
    n_sources = signal.shape[1]
    exact = signal.astype(np.complex128, copy=False)
    # the fit that follows takes the last, small step itself
    nulls = search_nulls(exact, dictionary, tolerance=1e-2 if polish else 1e-4)
    az, k = nulls.azimuth_rad, nulls.inverse_range_per_m
    if len(az) == 0:
        power, noise_power, covariance = np.zeros(0), None, np.zeros((0, 2, 2))
    else:
        fit = refine_maximum_likelihood(moments, dictionary, az, k, max_iterations=8 if polish else 0)
        az, k, power, covariance = fit.azimuth_rad, fit.inverse_range_per_m, fit.power, fit.covariance
        noise_power = fit.noise_power
    return NearFieldEstimate(
        azimuth_rad=az,
        inverse_range_per_m=k,
        depth=nulls.depth,
        resolved=nulls.converged & (nulls.depth < RESOLVED_DEPTH),
        n_requested=n_sources,
        fraunhofer_m=dictionary.fraunhofer_m,
        power=power,
        noise_power=noise_power,
        covariance=covariance,
    )


def search_nulls(signal: npt.NDArray[np.complex128], dictionary: Dictionary, *, tolerance: float = 1e-4) -> Nulls:
    """Distinct nulls of the MUSIC cost, deepest first, at most as many as ``signal [sensor, source]`` has columns."""
    n_sources = signal.shape[1]
    n_range = dictionary.grid.n_range
    shape = (len(dictionary.azimuth_rad), n_range)
    projection = signal_projection(dictionary.conjugate, signal.astype(np.complex64))
    start = local_maxima(projection.reshape(shape), wraps=dictionary.grid.wraps)
    start = start[projection[start] > CANDIDATE_PROJECTION]
    found = _refine(signal, dictionary, start[:n_sources], n_sources, tolerance)
    if len(found.depth) < n_sources or found.depth[-1] > RESOLVED_DEPTH:
        # a side lobe of a strong source may be higher on the grid than a source that lies between its points
        found = _refine(signal, dictionary, start[n_sources : n_sources + 2], n_sources, tolerance, found)
    while len(found.depth) < n_sources:
        remaining = _without(projection, signal, dictionary, found)
        again = _refine(signal, dictionary, np.array([remaining.argmax()]), n_sources, tolerance, found)
        if len(again.depth) == len(found.depth):
            break
        found = again
    return found


def _refine(
    signal: npt.NDArray[np.complex128],
    dictionary: Dictionary,
    start: npt.NDArray[np.intp],
    n_sources: int,
    tolerance: float,
    known: Nulls | None = None,
) -> Nulls:
    """Refine from grid points; merge with the known ones, keep the deepest distinct ``n_sources``."""
    n_range = dictionary.grid.n_range
    azimuth, k = dictionary.azimuth_rad[start // n_range], dictionary.inverse_range_per_m[start % n_range]
    nulls = refine_music(signal, dictionary, azimuth, k, tolerance=tolerance)
    if known is not None:
        nulls = Nulls._make(np.concatenate(pair) for pair in zip(known, nulls, strict=True))
    kept: list[int] = []
    for i in np.argsort(nulls.depth):
        if nulls.depth[i] > FOUND_DEPTH or len(kept) == n_sources:
            break
        if not any(_same(nulls, int(i), j, dictionary) for j in kept):
            kept.append(int(i))
    return Nulls._make(values[kept] for values in nulls)


def _same(nulls: Nulls, i: int, j: int, dictionary: Dictionary) -> bool:
    grid = dictionary.grid
    d_az = abs(float(nulls.azimuth_rad[i] - nulls.azimuth_rad[j]))
    d_az = min(d_az, 2 * np.pi - d_az) if grid.wraps else d_az
    d_k = abs(float(nulls.inverse_range_per_m[i] - nulls.inverse_range_per_m[j]))
    return d_az < DISTINCT_STEPS * grid.azimuth_step_rad and d_k < DISTINCT_STEPS * grid.inverse_range_step_per_m


def _without(
    projection: npt.NDArray[np.float32], signal: npt.NDArray[np.complex128], dictionary: Dictionary, found: Nulls
) -> npt.NDArray[np.float32]:
    r"""Projection on the grid after the found sources are projected out (RAP-MUSIC, Mosher and Leahy 1999).

    With ``Q`` an orthonormal basis of the found steering vectors and ``V`` one of ``P_Q^perp U_s``:
    ``|V^H a|^2 / (|a|^2 - |Q^H a|^2)``.
    """
    if len(found.depth) == 0:
        return projection
    steering = steering_derivatives(
        dictionary.position_m,
        found.azimuth_rad,
        np.full_like(found.azimuth_rad, dictionary.grid.elevation_rad),
        found.inverse_range_per_m,
        dictionary.wavelength_m,
        amplitude=dictionary.amplitude,
    ).a.T
    q, _ = np.linalg.qr(steering)
    v, _, _ = np.linalg.svd(signal - q @ (q.conj().T @ signal), full_matrices=False)
    v = v[:, : signal.shape[1] - q.shape[1]]
    explained = signal_projection(dictionary.conjugate, q.astype(np.complex64))
    left = signal_projection(dictionary.conjugate, v.astype(np.complex64))
    # next to a found source both vanish: no new source is looked for where less than 1 % of a is left
    return np.where(explained > 0.99, 0, left / np.maximum(1 - explained, 0.01)).astype(np.float32)


def _check(n_sensors: int, dictionary: Dictionary, n_sources: int) -> None:
    if n_sensors != len(dictionary.position_m):
        raise ParamError(
            f"near_field_music: data of {n_sensors} sensors, dictionary of {len(dictionary.position_m)}; "
            "build it from the array that gave the data"
        )
    if not 1 <= n_sources < n_sensors:
        raise ParamError(f"near_field_music: expected 1 <= n_sources < {n_sensors} sensors, got {n_sources}")

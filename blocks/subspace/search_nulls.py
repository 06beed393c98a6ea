"""Coarse-to-fine search for the nulls of the MUSIC cost."""

import numpy as np
import numpy.typing as npt

from blocks.bounds.steering_derivative import steering_derivatives
from blocks.subspace.dictionary import Search
from blocks.subspace.refine_music import Nulls, refine_music
from blocks.subspace.spectrum import local_maxima
from hil.errors import EstimationError

F64 = npt.NDArray[np.float64]

FOUND_DEPTH = 0.6  # two coherent sources of equal power show as nulls of depth 0.5; noise alone stays above 0.6
RESOLVED_DEPTH = 0.25
CANDIDATE_PROJECTION = 0.25  # on the coarse grid a null of FOUND_DEPTH shows at least 0.4 * 0.65 of itself
DISTINCT_STEPS = 0.05  # peaks that converged to one null agree far better than this part of a grid step


def search_nulls(
    signal: npt.NDArray[np.complex128],
    dictionary: Search,
    *,
    tolerance: float = 1e-4,
    start: tuple[F64, F64] | None = None,
) -> Nulls:
    """Distinct nulls of the MUSIC cost, deepest first, at most as many as ``signal [sensor, source]`` has columns.

    Args:
        signal: Orthonormal.
        dictionary: Model and grid.
        tolerance: Of :func:`refine_music`.
        start: Azimuths and inverse ranges of the last frame. Where as many distinct deep nulls as sources are found
            from there, they explain the whole subspace and the grid is not searched; otherwise it is.
    """
    n_sources = signal.shape[1]
    if n_sources == 0:
        return Nulls(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool))
    if start is not None and len(start[0]) == n_sources:
        found = _deepest(refine_music(signal, dictionary, *start, tolerance=tolerance), dictionary, n_sources)
        if len(found.depth) == n_sources and found.depth[-1] <= RESOLVED_DEPTH and found.converged.all():
            return found
    projection = dictionary.projection(signal)
    if not np.isfinite(projection.flat[0]):
        raise EstimationError("search_nulls: the signal subspace is not finite")
    peaks = local_maxima(projection, wraps=dictionary.grid.wraps, floor=CANDIDATE_PROJECTION)
    found = _refine(signal, dictionary, peaks[:n_sources], n_sources, tolerance)
    if len(found.depth) < n_sources or found.depth[-1] > RESOLVED_DEPTH:
        # a side lobe of a strong source may be higher on the grid than a source that lies between its points
        found = _refine(signal, dictionary, peaks[n_sources : n_sources + 2], n_sources, tolerance, found)
    while len(found.depth) < n_sources:
        remaining = remaining_projection(signal, dictionary, found.azimuth_rad, found.inverse_range_per_m)
        again = _refine(signal, dictionary, np.array([remaining.argmax()]), n_sources, tolerance, found)
        if len(again.depth) == len(found.depth):
            break
        found = again
    return found


def _refine(
    signal: npt.NDArray[np.complex128],
    dictionary: Search,
    start: npt.NDArray[np.intp],
    n_sources: int,
    tolerance: float,
    known: Nulls | None = None,
) -> Nulls:
    """Refine from grid points; merge with the known ones, keep the deepest distinct ``n_sources``."""
    azimuth, k = dictionary.point(start)
    nulls = refine_music(signal, dictionary, azimuth, k, tolerance=tolerance)
    if known is not None:
        nulls = Nulls._make(np.concatenate(pair) for pair in zip(known, nulls, strict=True))
    return _deepest(nulls, dictionary, n_sources)


def _deepest(nulls: Nulls, dictionary: Search, n_sources: int) -> Nulls:
    """The ``n_sources`` deepest that are distinct."""
    kept: list[int] = []
    for i in np.argsort(nulls.depth):
        if nulls.depth[i] > FOUND_DEPTH or len(kept) == n_sources:
            break
        if not any(_same(nulls, int(i), j, dictionary) for j in kept):
            kept.append(int(i))
    return Nulls._make(values[kept] for values in nulls)


def _same(nulls: Nulls, i: int, j: int, dictionary: Search) -> bool:
    grid = dictionary.grid
    d_az = abs(float(nulls.azimuth_rad[i] - nulls.azimuth_rad[j]))
    d_az = min(d_az, 2 * np.pi - d_az) if grid.wraps else d_az
    d_k = abs(float(nulls.inverse_range_per_m[i] - nulls.inverse_range_per_m[j]))
    return d_az < DISTINCT_STEPS * grid.azimuth_step_rad and d_k < DISTINCT_STEPS * grid.inverse_range_step_per_m


def remaining_projection(
    signal: npt.NDArray[np.complex128], dictionary: Search, azimuth_rad: F64, inverse_range_per_m: F64
) -> npt.NDArray[np.float32]:
    r"""Projection ``[azimuth, range]`` after known sources are projected out (RAP-MUSIC, Mosher and Leahy 1999).

    With ``Q`` an orthonormal basis of the known steering vectors and ``V`` one of ``P_Q^perp U_s``:
    ``|V^H a|^2 / (|a|^2 - |Q^H a|^2)``.

    Args:
        signal: ``[sensor, source]`` orthonormal.
        dictionary: Model and grid.
        azimuth_rad: Of the known sources, fewer than ``signal`` has columns, ``[known]``.
        inverse_range_per_m: ``[known]``.
    """
    if len(azimuth_rad) == 0:
        return dictionary.projection(signal)
    steering = steering_derivatives(
        dictionary.position_m,
        azimuth_rad,
        np.full_like(azimuth_rad, dictionary.grid.elevation_rad),
        inverse_range_per_m,
        dictionary.wavelength_m,
        amplitude=dictionary.amplitude,
    ).a.T
    q, _ = np.linalg.qr(steering)
    v, _, _ = np.linalg.svd(signal - q @ (q.conj().T @ signal), full_matrices=False)
    v = v[:, : signal.shape[1] - q.shape[1]]
    explained, left = dictionary.projection(q), dictionary.projection(v)
    # next to a known source both vanish: no other is looked for where less than 1 % of a is left
    return np.where(explained > 0.99, 0, left / np.maximum(1 - explained, 0.01)).astype(np.float32)

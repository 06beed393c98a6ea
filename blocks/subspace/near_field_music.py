"""Near-field 2D MUSIC: covariance in, azimuths and ranges out, off the grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.subspace.dictionary import Search
from blocks.subspace.maximum_likelihood import refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.refine_music import music_depth
from blocks.subspace.search_nulls import RESOLVED_DEPTH, search_nulls
from blocks.subspace.separate_close import separate_close
from blocks.subspace.signal_subspace import signal_subspace, signal_subspace_from_samples
from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NearFieldEstimate:
    """What was found, deepest null first, those separated by likelihood last; never more than asked, never filled up.

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
        covariance: Of (azimuth, inverse range), ``[source, 2, 2]``; zero in a range that was not searched.
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
    dictionary: Search,
    n_sources: int,
    n_snapshots: float,
    *,
    polish: bool = True,
) -> NearFieldEstimate:
    """2D MUSIC ([NF] Section II-C2) of one covariance, coarse to fine.

    Leading eigenvectors; cost on the coarse dictionary in complex64; Gauss-Newton from every local minimum in
    complex128; where fewer nulls than sources came out, those found are projected out and the rest searched again.
    ``polish`` adds a joint maximum-likelihood fit, which uses the whole covariance, and separates sources that are too
    close to have nulls of their own (:mod:`blocks.subspace.separate_close`).

    Args:
        covariance: ``[sensor, sensor]`` Hermitian, sensors as in the dictionary.
        dictionary: Model and grid, see :func:`blocks.subspace.dictionary.steering_dictionary`; of large uniform
            lines :func:`blocks.subspace.line_dictionary.line_dictionary`.
        n_sources: 1 .. N - 1.
        n_snapshots: Effective number in the covariance.
        polish: End with :func:`refine_maximum_likelihood`.

    Raises:
        EstimationError: The covariance is not finite, not positive or has no signal subspace.
    """
    _check(covariance.shape[0], dictionary, n_sources)
    if n_snapshots < n_sources:
        raise EstimationError(
            f"near_field_music: {n_sources} sources of {n_snapshots:g} snapshots, which tell at most as many apart"
        )
    signal = signal_subspace(covariance, n_sources)
    moments = Moments.of_covariance(covariance.astype(np.complex128, copy=False), n_snapshots)
    return near_field_from_subspace(signal, moments, dictionary, polish=polish)


def near_field_music_samples(
    x: npt.NDArray[np.complexfloating[Any, Any]], dictionary: Search, n_sources: int, *, polish: bool = True
) -> NearFieldEstimate:
    """As :func:`near_field_music` from samples ``[sensor, snapshot]``; faster where snapshots are few."""
    _check(x.shape[0], dictionary, n_sources)
    signal = signal_subspace_from_samples(x, n_sources)
    return near_field_from_subspace(
        signal, Moments.of_samples(x.astype(np.complex128, copy=False)), dictionary, polish=polish
    )


def near_field_from_subspace(
    signal: npt.NDArray[np.complexfloating[Any, Any]],
    moments: Moments,
    dictionary: Search,
    *,
    polish: bool = True,
    start: tuple[F64, F64] | None = None,
) -> NearFieldEstimate:
    """The search itself, from an orthonormal signal subspace ``[sensor, source]``.

    ``start``: azimuths and inverse ranges of the last frame, see :func:`blocks.subspace.search_nulls.search_nulls`.
    """
    n_sources = signal.shape[1]
    exact = signal.astype(np.complex128, copy=False)
    # the step below the tolerance is still taken, and leaves far less than it: Gauss-Newton on a cost near zero
    nulls = search_nulls(exact, dictionary, tolerance=1e-2, start=start)
    az, k = nulls.azimuth_rad, nulls.inverse_range_per_m
    if len(az) == 0:
        power, noise_power, covariance = np.zeros(0), None, np.zeros((0, 2, 2))
        depth, resolved = nulls.depth, nulls.converged
    else:
        depth, resolved = nulls.depth, nulls.converged & (nulls.depth < RESOLVED_DEPTH)
        # nulls are well within one standard deviation of the fit: the step below 0.3 of one is the last
        fit = refine_maximum_likelihood(moments, dictionary, az, k, max_iterations=8 if polish else 0, tolerance=0.3)
        if polish and 0 < resolved.sum() < n_sources:
            sure = refine_maximum_likelihood(moments, dictionary, az[resolved], k[resolved])
            more = separate_close(exact, moments, dictionary, sure, n_sources)
            if len(more.azimuth_rad) > len(sure.azimuth_rad):
                fit, resolved = more, np.ones(len(more.azimuth_rad), dtype=bool)
                depth = music_depth(exact, dictionary, fit.azimuth_rad, fit.inverse_range_per_m)
        az, k, power, covariance = fit.azimuth_rad, fit.inverse_range_per_m, fit.power, fit.covariance
        noise_power = fit.noise_power
    return NearFieldEstimate(
        azimuth_rad=az,
        inverse_range_per_m=k,
        depth=depth,
        resolved=resolved,
        n_requested=n_sources,
        fraunhofer_m=dictionary.fraunhofer_m,
        power=power,
        noise_power=noise_power,
        covariance=covariance,
    )


def _check(n_sensors: int, dictionary: Search, n_sources: int) -> None:
    if n_sensors != len(dictionary.position_m):
        raise ParamError(
            f"near_field_music: data of {n_sensors} sensors, dictionary of {len(dictionary.position_m)}; "
            "build it from the array that gave the data"
        )
    if not 1 <= n_sources < n_sensors:
        raise ParamError(f"near_field_music: expected 1 <= n_sources < {n_sensors} sensors, got {n_sources}")

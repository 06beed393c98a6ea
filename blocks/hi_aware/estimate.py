"""Places, gains and faults of one frame together, in the place of the phases of [HI]."""

from typing import NamedTuple

import numpy as np

from blocks.hi_aware.fault_test import FaultTest, fault_test, row_noise_power
from blocks.hi_aware.first_places import first_places
from blocks.hi_aware.joint_fit import I8, JointFit, fit_jointly
from blocks.hi_aware.more_places import add_places, evidence_grown
from blocks.hi_aware.planar_dictionary import PlanarDictionary
from blocks.hi_aware.reduce import Reduced, signal_columns, with_places
from blocks.hi_aware.robust_fit import robust_fit
from blocks.hi_aware.scene import C128, F64, Places, Scene
from blocks.subspace.dictionary import Dictionary
from hil.errors import EstimationError

#: Rounds of test and fit; the set of faults settles in two or three.
MAX_ROUNDS = 8
#: Above this share of faulty elements there is no majority to hold on to.
MAX_FAULTY_SHARE = 0.5
#: The spread of the coefficients this many of its own deviations above that of noise: all elements err.
SCATTER_DEVIATIONS = 6.0
#: Share of the power that sources may leave unexplained in the median row: phase errors of 0.3 rad in all elements.
MAX_UNEXPLAINED = 0.1


class HiAwareEstimate(NamedTuple):
    """What one frame tells.

    Attributes:
        places: Of the sources.
        fit: The joint fit they come from.
        data: What was fitted: it says how many places there are and which pilot each sends.
        kind: :class:`~blocks.hi_aware.joint_fit.Kind` of each element, ``[sensor]``.
        coefficient: ``c [sensor]``, 1 where intact.
        log_odds: Of a fault against none, ``[sensor]``.
        information: ``|m_n|^2 / sigma^2`` of each element, ``[sensor]``: the variance of a coefficient is its inverse,
            of a phase half of that.
        noise_power: Noise of an entry, model errors included.
        scatter: Variance of the intact elements' coefficients about 1, where all err by more than noise; else 0.
    """

    places: Places
    fit: JointFit
    data: Reduced
    kind: I8
    coefficient: C128
    log_odds: F64
    information: F64
    noise_power: float
    scatter: float


class _FaultsAndFit(NamedTuple):
    fit: JointFit
    test: FaultTest
    noise_power: float


def estimate_with_faults(
    data: Reduced,
    dictionary: Dictionary | PlanarDictionary,
    start: Places | None = None,
    *,
    most_places: int | None = None,
) -> HiAwareEstimate:
    r"""[HI] Problem (P1) without its coarse stage.

    1. Places from a grid search that faults do not turn (or ``start``).
    2. A robust fit (:mod:`~blocks.hi_aware.robust_fit`).
    3. Where the signal asks for more places than it has pilots or dimensions, those
       (:mod:`~blocks.hi_aware.more_places`).
    4. Each element is tested (:mod:`~blocks.hi_aware.fault_test`), then all is fitted jointly with the coefficients of
       those found faulty as unknowns; repeated until the set of faults stays.

    Args:
        data: Reduced data.
        dictionary: Model and search grid.
        start: Places to start from instead of the search.
        most_places: Look for further places of the same pilots or waveforms, up to so many in all; absent: as many as
            ``data`` has sources.

    Raises:
        EstimationError: Sources not found or on one spot, more than half of the elements faulty, or data that so many
            sources do not explain.
    """
    n = len(data.z)
    data, fit = _first_fit(data, dictionary, start, max(most_places or 0, data.n_sources))
    scene = Scene.of(dictionary)
    first, scatter = fit, 0.0
    fit, test, noise_power = _faults_and_fit(data, scene, first, data.noise_power)
    # without calibration all err a little, and what stands out of that is faulty
    spread = spread_power(data, fit if np.count_nonzero(test.kind) <= MAX_FAULTY_SHARE * n else first)
    if spread > (1 + SCATTER_DEVIATIONS * 2.33 / np.sqrt(n)) * data.noise_power:
        fit, test, noise_power = _faults_and_fit(data, scene, first, spread)
        scatter = (spread - data.noise_power) / float(np.median(np.sum(np.abs(fit.model) ** 2, axis=1)))
    kind = test.kind
    if np.count_nonzero(kind) > MAX_FAULTY_SHARE * n:
        raise EstimationError(
            f"estimate_with_faults: {np.count_nonzero(kind)} of {n} elements do not fit {data.n_sources} sources; "
            "more sources than asked, another geometry, or an array that is not calibrated"
        )
    check_explained(data, max(data.noise_power, row_noise_power(fit.residual)))
    information = np.sum(np.abs(fit.model) ** 2, axis=1) / max(noise_power, 1e-300)
    return HiAwareEstimate(
        fit.places, fit, data, kind, fit.coefficient, test.log_odds, information, noise_power, scatter
    )


def _faults_and_fit(data: Reduced, scene: Scene, fit: JointFit, least_noise_power: float) -> _FaultsAndFit:
    """Test and fit in turns until the set of faults stays, or is more than could be."""
    n = len(data.z)
    share, seen = 1 / n, None
    for _ in range(MAX_ROUNDS):
        noise_power = max(least_noise_power, row_noise_power(data.z - fit.coefficient[:, None] * fit.model))
        test = fault_test(data.z, fit.model, noise_power, min(max(share, 1 / n), MAX_FAULTY_SHARE))
        share = np.count_nonzero(test.kind) / n
        if share > MAX_FAULTY_SHARE or (seen is not None and np.array_equal(test.kind, seen)):
            break
        fit, seen = fit_jointly(data, scene, fit.places, test.kind, np.ones(n, np.complex128)), test.kind
    return _FaultsAndFit(fit, test, noise_power)


def spread_power(data: Reduced, fit: JointFit) -> float:
    """Noise power of an entry that would spread the coefficients of the elements not found faulty as they are spread.

    From their median deviation: ``1.4826`` times it is the standard deviation of Gaussian ones. The larger one of
    phases and of gains is taken; of noise alone its square is known to ``2.33 / sqrt(N)``.
    """
    intact = fit.coefficient == 1
    power = np.maximum(np.sum(np.abs(fit.model[intact]) ** 2, axis=1), 1e-300)
    deviation = np.sum(fit.model[intact].conj() * data.z[intact], axis=1) / power - 1
    spread = 1.4826 * max(np.median(np.abs(deviation.imag)), np.median(np.abs(deviation.real)))
    return float(2 * np.median(power) * spread**2)


def _first_fit(
    data: Reduced, dictionary: Dictionary | PlanarDictionary, start: Places | None, most: int
) -> tuple[Reduced, JointFit]:
    """A robust fit of all places, and the data said to have come from that many."""
    scene, asked = Scene.of(dictionary), data.n_sources
    places, clear = (start, True) if start is not None else first_places(data, dictionary)
    found = None
    if len(places.azimuth_rad) == asked:
        found = robust_fit(data, scene, places)
        if most > asked:
            data, found = add_places(data, dictionary, found, most)
    if not clear:  # coherent or close: the subspace has no null for each
        again, other = add_places(with_places(signal_columns(data), 1), dictionary, None, most)
        if other is not None and again.n_sources >= asked:
            again = with_places(data, again.n_sources)
            other = robust_fit(again, scene, other.fit.places)
            if found is None or evidence_grown(again, other.fit, found.fit) > 1:
                data, found = again, other
    if found is None:
        raise EstimationError(
            f"estimate_with_faults: {len(places.azimuth_rad)} of {asked} sources show in the signal subspace; ask for "
            "fewer, or use pilots"
        )
    return data, found.fit


def check_explained(data: Reduced, noise_power: float) -> None:
    """Refuse a fit that leaves much more than noise in most elements.

    Raises:
        EstimationError: Says how much.
    """
    share = (noise_power - data.noise_power) / float(np.mean(np.abs(data.z) ** 2))
    if share > MAX_UNEXPLAINED:
        raise EstimationError(
            f"{data.n_sources} sources in the searched ranges leave {100 * share:.0f} % of the power unexplained; more "
            "sources than asked, one nearer than is searched (range_min_m), or an array that is not calibrated"
        )

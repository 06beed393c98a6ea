"""Frame by frame: places through the calibration that is known, and the calibration through the places."""

from typing import NamedTuple

import numpy as np

from blocks.hi_aware.calibration_state import Bool, CalibrationState, changed_elements, update
from blocks.hi_aware.estimate import MAX_FAULTY_SHARE, check_explained, estimate_with_faults
from blocks.hi_aware.fault_test import row_noise_power
from blocks.hi_aware.joint_fit import JointFit, Kind, fit_jointly
from blocks.hi_aware.more_places import largest_response
from blocks.hi_aware.planar_dictionary import PlanarDictionary
from blocks.hi_aware.reduce import Reduced, with_places
from blocks.hi_aware.robust_fit import RobustFit
from blocks.hi_aware.scene import C128, F64, Places, Scene
from blocks.subspace.dictionary import Dictionary
from hil.errors import EstimationError

#: A coefficient counts as known from so many frames on; before, each frame's fit has it as an unknown.
KNOWN_AFTER = 8
#: Above this share of elements that change at once it is not the elements: the start was wrong, or a target jumped.
MAX_CHANGED_SHARE = 0.2
#: The median row's noise this many of its deviations above what it was: a new place is looked for.
NEW_PLACE_DEVIATIONS = 6.0
#: As often as much noise as usual: the targets are elsewhere.
LOST_EXCESS = 3.0


class Localized(NamedTuple):
    """What one frame gave.

    Attributes:
        fit: Places and gains; its covariance is the bound with young coefficients unknown.
        data: What was fitted: it says how many places there are and which pilot each sends.
        state: Calibration after the frame.
        appeared: Elements that became faulty, or another fault, with this frame.
        healed: Elements that became intact.
        searched: The frame was estimated from nothing, not from the last one.
        noise_power: Noise of an entry, model errors included.
        excess: That to the receiver's noise: 1 where the model is right.
        searched_excess: What it was after the last search.
    """

    fit: JointFit
    data: Reduced
    state: CalibrationState
    appeared: list[int]
    healed: list[int]
    searched: bool
    noise_power: float
    excess: float
    searched_excess: float


def localize(
    data: Reduced,
    dictionary: Dictionary | PlanarDictionary,
    last: Localized | None,
    start: Places | None,
    *,
    drift_rad: float = 0.0,
    most_places: int | None = None,
) -> Localized:
    """One frame.

    With a last frame and a start the places are fitted from there through the known coefficients, in a few Gauss-Newton
    steps; elements that no longer fit are found by their rows, freed and fitted again. Without, or where that does not
    explain the frame, all is estimated anew (:func:`~blocks.hi_aware.estimate.estimate_with_faults`); the state's
    evidence is kept where it still holds. That is also done where the fit leaves much more than the last one did: a
    target jumped out of the basin; or a little more, which has a place: an echo came.

    Args:
        data: Reduced data.
        dictionary: Model and search grid.
        last: What the last frame gave; ``None``: nothing is known.
        start: Places to start from, as many as ``last`` has; ``None``: search.
        drift_rad: Standard deviation of the phases' random walk, a frame.
        most_places: As of :func:`~blocks.hi_aware.estimate.estimate_with_faults`.

    Raises:
        EstimationError: Nothing explains the frame.
    """
    scene = Scene.of(dictionary)
    n = len(data.z)
    if last is None:
        found = estimate_with_faults(data, dictionary, most_places=most_places)
        cross, power, noise_power = _evidence(data, found.fit, found.scatter)
        first = CalibrationState.start(cross, power, found.kind, found.scatter)
        faulty = np.flatnonzero(found.kind).tolist()
        excess = noise_power / data.noise_power
        return Localized(found.fit, found.data, first, faulty, [], True, noise_power, excess, excess)
    state, searched = last.state, start is None
    if start is not None:
        known = with_places(data, len(start.azimuth_rad), last.data.pilot)
        fit, changed = _follow(known, scene, state, start)
        excess = row_noise_power(fit.residual) / data.noise_power
        searched = excess > LOST_EXCESS * max(last.excess, 1.0) or bool(
            np.count_nonzero(changed) > MAX_CHANGED_SHARE * n
        )
        if not searched and most_places is not None and len(start.azimuth_rad) < most_places:
            searched = _has_another(known, dictionary, fit, changed, excess, last.searched_excess)
    if searched:
        found = estimate_with_faults(data, dictionary, most_places=most_places)
        known = found.data
        fit, changed = _follow(known, scene, state, found.places)
        if np.count_nonzero(changed) > MAX_FAULTY_SHARE * n:
            raise EstimationError(
                f"localize: {np.count_nonzero(changed)} of {n} elements changed at once; reset the calibration state"
            )
    cross, power, noise_power = _evidence(data, fit, state.scatter)
    check_explained(known, noise_power)
    new = update(state, cross, power, changed, drift_rad)
    was, now = state.kind != Kind.INTACT, new.kind != Kind.INTACT
    appeared = np.flatnonzero(now & (~was | changed)).tolist()
    healed = np.flatnonzero(was & ~now).tolist()
    excess = noise_power / data.noise_power
    usual = excess if searched else last.searched_excess
    return Localized(fit, known, new, appeared, healed, searched, noise_power, excess, usual)


def _has_another(
    data: Reduced,
    dictionary: Dictionary | PlanarDictionary,
    fit: JointFit,
    changed: Bool,
    excess: float,
    searched_excess: float,
) -> bool:
    """Whether the residual is more than noise and after the last search, and points somewhere: an echo came."""
    deviation = 1.25 / np.sqrt(data.z.size)  # of the median of the rows
    if excess < max(searched_excess, 1.0) * (1 + NEW_PLACE_DEVIATIONS * deviation):
        return False
    weight = np.where(changed, 0.0, 1.0)
    return largest_response(data, dictionary, fit.residual, RobustFit(fit, weight)).excess > 0


def _follow(data: Reduced, scene: Scene, state: CalibrationState, start: Places) -> tuple[JointFit, Bool]:
    """Fit through the known coefficients; where elements changed again, with those free."""
    n, n_columns = data.z.shape
    c, changed = state.coefficient, np.zeros(n, np.bool_)
    young = np.where(state.age < KNOWN_AFTER, state.kind, Kind.INTACT).astype(np.int8)
    fit = fit_jointly(data, scene, start, young, c, tolerance=0.3)
    row_power = np.sum(np.abs(fit.residual) ** 2, axis=1)
    scale = 4 * n_columns * max(data.noise_power, row_noise_power(fit.residual))
    if row_power.max() > 5 * scale:  # a new fault has pulled at the fit: let rows that do not fit count less
        for _ in range(2):
            weight = 1 / (1 + np.sum(np.abs(fit.residual) ** 2, axis=1) / scale) ** 2
            fit = fit_jointly(data, scene, fit.places, young, c, weight=weight, tolerance=0.3)
    for _ in range(3):
        cross, power, _ = _evidence(data, fit, state.scatter)
        again = changed_elements(state, cross, power)
        if np.array_equal(again, changed) or np.count_nonzero(again) > MAX_CHANGED_SHARE * n:
            return fit, again
        changed = again
        fit = fit_jointly(
            data, scene, fit.places, np.where(changed, Kind.COMPLEX, young).astype(np.int8), c, tolerance=0.3
        )
    return fit, changed


def _evidence(data: Reduced, fit: JointFit, scatter: float) -> tuple[C128, F64, float]:
    """``m^H z`` and ``|m|^2`` of each element in units of the noise, and the noise with what the model errs by.

    Where intact elements scatter, that is no noise that would average out: the tests know of it.
    """
    noise_power = max(data.noise_power, row_noise_power(fit.residual))
    unit = data.noise_power if scatter else noise_power
    cross = np.sum(fit.model.conj() * data.z, axis=1) / unit
    power = np.sum(np.abs(fit.model) ** 2, axis=1) / unit
    return cross, power, noise_power

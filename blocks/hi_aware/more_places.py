r"""More places than pilots, or than the signal has dimensions: how many is decided from the data.

A target and its echo send one pilot; echoes of one illuminator without pilots have one waveform ([HI] Section IV-D1)
and a covariance of rank one. Near-field wavefronts are not shift-invariant, so that smoothing over the array does not
give the rank back; the likelihood of the samples needs none. Places are added one at a time where the residual of the
robust fit responds most, all are fitted together (NOMP: Mamandipoor, Ramasamy, Madhow 2016), and each is kept if the
evidence grows by more than noise brings about anywhere on the grid.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import gammainccinv

from blocks.hi_aware.fault_test import fault_test, log_evidence, row_noise_power
from blocks.hi_aware.first_places import settled
from blocks.hi_aware.joint_fit import JointFit, fit_jointly
from blocks.hi_aware.planar_dictionary import PlanarDictionary
from blocks.hi_aware.reduce import C128, Reduced, unmixed, with_places
from blocks.hi_aware.robust_fit import RobustFit, robust_fit
from blocks.hi_aware.scene import F64, Places, Scene
from blocks.subspace.dictionary import Dictionary
from hil.errors import EstimationError

#: How often noise alone shows a place.
FALSE_PLACES = 1e-4
#: A place so far below the strongest of its waveform, in power, may be an error of the array's model.
LEAST_POWER = 1e-3
#: Correlation of two wavefronts of one waveform above which they are not told apart for sure.
MOST_ALIKE = 0.9
#: Of the search for each place again, with the others known.
MAX_PASSES = 3
#: The median row's noise this many of its deviations above the receiver's: something is not explained.
MISFIT_DEVIATIONS = 6.0


class Response(NamedTuple):
    """Where a residual responds most.

    Attributes:
        place: One source.
        pilot: Whose residual it is; 0 without pilots.
        excess: Log-likelihood that a source there explains, over the threshold; below 0: noise.
    """

    place: Places
    pilot: int
    excess: float


def add_places(
    data: Reduced, dictionary: Dictionary | PlanarDictionary, found: RobustFit | None, most: int
) -> tuple[Reduced, RobustFit | None]:
    """Add places to those found as long as the data ask for them; then take away those that others have replaced.

    Args:
        data: Said to have come from as many places as ``found`` has.
        dictionary: Model and search grid.
        found: The present fit; ``None``: nothing yet.
        most: Places in all.

    Returns:
        The data said to have come from all the places, and their fit.
    """
    scene, n_points, least = Scene.of(dictionary), len(dictionary.conjugate), data.n_sources
    at_first = data, found
    while found is None or len(found.fit.places.azimuth_rad) < most:
        grown = _one_more(data, dictionary, found)
        if grown is None:
            break
        data, found = _searched_again(*grown, dictionary)
    while found is not None and data.n_sources > least:
        fewer = _without_one(data, scene, found, n_points)
        if fewer is None:
            break
        data, found = fewer
    return at_first if found is None or _made_up(data, scene, found.fit) else (data, found)


def _one_more(
    data: Reduced, dictionary: Dictionary | PlanarDictionary, found: RobustFit | None
) -> tuple[Reduced, RobustFit] | None:
    """The best of two places to add, if the data ask for it: from the residual of the robust fit, and from that of
    least squares. Two close sources may make a robust fit of one take the rows for faulty that do not fit it."""
    scene, n_points = Scene.of(dictionary), len(dictionary.conjugate)
    if found is None:
        more, places = _appended(data, None, largest_response(data, dictionary, data.z, None))
        first = _settled_fit(more, scene, places)
        return None if first is None else (more, first)
    response = largest_response(data, dictionary, found.fit.residual, found)
    responses = [response] if response.excess > 0 else []
    if responses or _misfits(data, found):
        squares = RobustFit(_least_squares(data, scene, found.fit.places), np.ones(len(data.z)))
        responses.append(largest_response(data, dictionary, squares.fit.residual, squares))
    best, most = None, 0.0
    for response in responses:
        more, places = _appended(data, found, response)
        candidate = _settled_fit(more, scene, places)
        if candidate is None or not _asked_for(more, candidate.fit, found.fit, n_points):
            continue
        grown = evidence_grown(more, candidate.fit, found.fit)
        if grown > most:
            best, most = (more, candidate), grown
    return best


def _misfits(data: Reduced, found: RobustFit) -> bool:
    """The fit leaves more than noise, or too many rows."""
    limit = 1 + MISFIT_DEVIATIONS * 1.25 / np.sqrt(data.z.size)
    noisy = row_noise_power(found.fit.residual) > limit * data.noise_power
    return noisy or float(np.mean(found.weight < 0.1)) > 0.25


def _least_squares(data: Reduced, scene: Scene, places: Places) -> JointFit:
    n = len(data.z)
    return fit_jointly(data, scene, places, np.zeros(n, np.int8), np.ones(n, np.complex128), max_iterations=40)


def _settled_fit(data: Reduced, scene: Scene, places: Places) -> RobustFit | None:
    """By least squares, then robust and converged, as close sources need; ``None``: two ran into one."""
    try:
        return robust_fit(data, scene, _least_squares(data, scene, places).places, max_iterations=30)
    except EstimationError:
        return None


def _searched_again(
    data: Reduced, found: RobustFit, dictionary: Dictionary | PlanarDictionary
) -> tuple[Reduced, RobustFit]:
    """Each place looked for once more with the others fitted without it (alternating projection, Ziskind and Wax
    1988): the first were found when the later ones were not known."""
    scene = Scene.of(dictionary)
    if data.n_sources == 1:
        return data, found
    for _ in range(MAX_PASSES):
        before = found
        for i in range(data.n_sources):
            others = _others(data, scene, found, i)
            if others is None:
                continue
            squares = RobustFit(_least_squares(others[0], scene, others[1].fit.places), np.ones(len(data.z)))
            response = largest_response(others[0], dictionary, squares.fit.residual, squares)
            again, places = _appended(others[0], others[1], response)
            candidate = _settled_fit(again, scene, places)
            if candidate is not None and evidence_grown(again, candidate.fit, found.fit) > 1:
                data, found = again, candidate
        if found is before:
            break
    return data, found


def _without_one(data: Reduced, scene: Scene, found: RobustFit, n_points: int) -> tuple[Reduced, RobustFit] | None:
    """The fit less one place, if the evidence does not ask for it."""
    for i in range(data.n_sources):
        others = _others(data, scene, found, i)
        if others is not None and not _asked_for(data, found.fit, others[1].fit, n_points):
            return others
    return None


def _others(data: Reduced, scene: Scene, found: RobustFit, i: int) -> tuple[Reduced, RobustFit] | None:
    """Data and fit less place ``i``; ``None`` where it is its pilot's only one."""
    kept, pilot = np.delete(np.arange(data.n_sources), i), None
    if data.mixing is not None:
        pilots = np.arange(data.n_sources) if data.pilot is None else data.pilot
        if np.count_nonzero(pilots == pilots[i]) == 1:
            return None
        first = np.unique(pilots[kept], return_index=True)[1]  # each pilot's first place comes first
        kept = np.concatenate([kept[first], np.delete(kept, first)])
        pilot = pilots[kept]
    fewer = with_places(data, data.n_sources - 1, pilot)
    fit = _settled_fit(fewer, scene, found.fit.places.take(kept))
    return None if fit is None else (fewer, fit)


def largest_response(
    data: Reduced, dictionary: Dictionary | PlanarDictionary, residual: C128, found: RobustFit | None
) -> Response:
    """Matched response of a ``residual [sensor, column]``, known places projected out, largest over grid and pilots."""
    root = np.ones(len(residual)) if found is None else np.sqrt(found.weight)
    known = np.zeros((len(residual), 0), np.complex128)
    if found is not None:
        known = root[:, None] * Scene.of(dictionary).vectors(*found.fit.places).T
    weighted = root[:, None] * residual
    if data.mixing is None:
        groups, noise = [(weighted, known)], np.array([data.noise_power])
    else:
        alone = unmixed(data, weighted)
        pilot = np.arange(data.n_sources) if data.pilot is None else data.pilot
        groups = [(alone[:, [p]], known[:, pilot == p] if found else known) for p in range(data.n_waveforms)]
        inverse = np.linalg.inv(data.mixing[: data.n_waveforms])
        noise = data.noise_power * np.sum(np.abs(inverse) ** 2, axis=0)
    best = None
    for p, ((columns, sources), power) in enumerate(zip(groups, noise, strict=True)):
        gain = _unexplained_power(dictionary.conjugate, columns, sources) / (power * np.mean(root**2))
        index = int(gain.argmax())
        excess = float(gain[index]) - _threshold(columns.shape[1], len(gain))
        if best is None or excess > best[2]:
            best = index, p, excess, columns
    assert best is not None
    leading = np.linalg.svd(best[3], full_matrices=False)[0][:, :1]
    return Response(settled(leading, np.array([best[0]]), dictionary), best[1], best[2])


def evidence_grown(data: Reduced, new: JointFit, old: JointFit) -> float:
    """Log-likelihood of the new fit over the old one's, whatever elements are faulty."""
    noise_power = max(data.noise_power, row_noise_power(new.residual))
    n = len(data.z)
    n_faulty = int(np.count_nonzero(fault_test(data.z, new.model, noise_power, 1 / n).kind))
    share = min(max(n_faulty / n, 1 / n), 0.5)
    return log_evidence(data.z, new.model, noise_power, share) - log_evidence(data.z, old.model, noise_power, share)


def _unexplained_power(conjugate: npt.NDArray[np.complex64], columns: C128, known: C128) -> npt.NDArray[np.float32]:
    """``|a^H e|^2 / |P a|^2`` at each grid point, ``P`` the projection off the known steering vectors."""
    q = np.linalg.qr(known)[0]
    both = np.concatenate([columns - q @ (q.conj().T @ columns), q], axis=1).astype(np.complex64)
    power = np.abs(conjugate @ both) ** 2
    n_columns = columns.shape[1]
    # next to a known source nothing is left of a: no other is looked for there
    left = 1 - power[:, n_columns:].sum(axis=1)
    gain: npt.NDArray[np.float32] = np.where(left < 0.02, 0, power[:, :n_columns].sum(axis=1) / np.maximum(left, 0.02))
    return gain


def _threshold(n_gains: int, n_points: int) -> float:
    """Log-likelihood that ``n_gains`` complex gains gain from noise at the best of ``n_points``: Gamma distributed."""
    return float(gammainccinv(n_gains, FALSE_PLACES / n_points))


def _appended(data: Reduced, found: RobustFit | None, response: Response) -> tuple[Reduced, Places]:
    if found is None:
        return with_places(data, 1), response.place
    places = found.fit.places
    n = len(places.azimuth_rad)
    pilot = None
    if data.mixing is not None:
        pilot = np.append(np.arange(n) if data.pilot is None else data.pilot, response.pilot)
    stacked = np.concatenate([places.stacked(), response.place.stacked()], axis=1)
    return with_places(data, n + 1, pilot), Places.of_stacked(stacked)


def _asked_for(data: Reduced, new: JointFit, old: JointFit | None, n_points: int) -> bool:
    """Whether the evidence grew by more than noise does, with the last place of some power."""
    threshold = _threshold(1 if data.mixing is not None else data.n_waveforms, n_points)
    return _of_some_power(data, new) and (old is None or evidence_grown(data, new, old) > threshold)


def _made_up(data: Reduced, scene: Scene, fit: JointFit) -> bool:
    """Places at the edge of the search, or nearly one and the same: they make up for one that the search does not
    hold."""
    if (fit.places.inverse_range_per_m >= scene.inverse_range_limits_per_m[1]).any():
        return True
    a = scene.vectors(*fit.places)
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    pilot = np.zeros(data.n_sources) if data.mixing is None or data.pilot is None else data.pilot
    alike = (np.abs(a.conj() @ a.T) > MOST_ALIKE) & (pilot[:, None] == pilot)
    return bool(np.triu(alike, 1).any()) and data.n_sources > data.n_waveforms


def _of_some_power(data: Reduced, fit: JointFit) -> bool:
    power: F64 = np.sum(np.abs(fit.gains) ** 2, axis=1)
    if data.pilot is None:
        return bool(power[-1] > LEAST_POWER * power.max())
    return bool(power[-1] > LEAST_POWER * power[data.pilot == data.pilot[-1]].max())

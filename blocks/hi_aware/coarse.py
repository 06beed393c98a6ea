"""Coarse localization of [HI] Section IV-A2: bearings from subarrays, associated and intersected. Line arrays."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from blocks.hi_aware.scene import C128, F64, Places, Scene
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.far_field_music import far_field_dictionary, far_field_music
from hil.array import ArrayGeometry
from hil.errors import EstimationError


def coarse_places(y: C128, scene: Scene, parts: list[slice], n_sources: int) -> Places:
    """Bearings by MUSIC in each subarray (Eqs. 14 to 16), association, triangulation (Eq. 18).

    A subarray that shows fewer targets than asked, or has no more elements than there are targets, is left out, as is
    one much shorter than the longest: the unweighted Eq. (18) would let its bearings, whose variance goes with the cube
    of its length, spoil all others. What is left counts by that variance.

    Args:
        y: ``[sensor, snapshot]``, sensors in order along a line array.
        scene: The array.
        parts: From :func:`~blocks.hi_aware.subarrays.partition`.
        n_sources: Targets.

    Raises:
        EstimationError: Fewer than two subarrays see all targets, or their bearings do not meet in front of the array.
    """
    x = scene.position_m[:, 0]
    longest = max(p.stop - p.start for p in parts)
    centres, bearings, weights = [], [], []
    for part in parts:
        n = part.stop - part.start
        if n <= n_sources or 2 * n < longest:
            continue
        rows = y[part]
        found = far_field_music(
            rows @ rows.conj().T / y.shape[1],
            _bearings_of(n, x, scene.wavelength_m),
            n_sources,
            y.shape[1],
            polish=False,
        )
        if len(found.azimuth_rad) == n_sources:
            centres.append(float(x[part].mean()))
            bearings.append(np.sort(found.azimuth_rad))
            weights.append(float(n) ** 3)
    if len(centres) < 2:
        raise EstimationError(
            f"coarse_places: {len(centres)} of {len(parts)} subarrays show {n_sources} targets, two are needed; "
            "fewer targets, longer subarrays or a better signal"
        )
    position = np.stack([np.array(centres), np.zeros(len(centres))], axis=1)
    associated = associate(position, np.array(bearings))
    meeting = np.stack([triangulate(position, associated[:, k], np.array(weights)) for k in range(n_sources)])
    low, high = scene.inverse_range_limits_per_m
    inverse_range = 1 / np.maximum(np.linalg.norm(meeting, axis=1), 1e-9)
    # behind the array: the bearings diverge, a plane wave as far as they can tell
    inverse_range = np.where(meeting[:, 1] > 0, inverse_range, low)
    azimuth = np.where(meeting[:, 1] > 0, np.arctan2(meeting[:, 0], meeting[:, 1]), associated.mean(axis=0))
    return Places(azimuth, np.clip(inverse_range, low, high))


def triangulate(position_m: F64, bearing_rad: F64, weight: npt.ArrayLike = 1.0) -> F64:
    """Point nearest to all lines of sight, [HI] Eq. (18): ``(sum Q_q)^-1 sum Q_q p_q``, ``Q = w (I - e e^T)``.

    Args:
        position_m: Subarray centres ``[subarray, xy]`` metres.
        bearing_rad: ``[subarray]`` rad from +y towards +x.
        weight: ``[subarray]``.

    Raises:
        EstimationError: The lines are parallel.
    """
    e = np.stack([np.sin(bearing_rad), np.cos(bearing_rad)], axis=-1)
    q = np.broadcast_to(weight, bearing_rad.shape)[:, None, None] * (np.eye(2) - e[:, :, None] * e[:, None, :])
    total = q.sum(axis=0)
    if not np.linalg.eigvalsh(total)[0] > 1e-14 * np.trace(total):
        raise EstimationError("triangulate: the lines of sight are parallel; subarrays farther apart are needed")
    return np.linalg.solve(total, np.einsum("qij,qj->i", q, position_m))


def associate(position_m: F64, bearing_rad: F64) -> F64:
    """Sort the bearings ``[subarray, target]`` of each subarray by target.

    Neighbours along the array see nearly the same bearings: each subarray is matched to the one before; then all are
    matched to the bearings of the triangulated points until nothing changes. [HI] takes ascending order, which fails
    where the targets' order differs along the array.
    """
    order = np.argsort(position_m[:, 0])
    out = bearing_rad.copy()
    for before, now in pairwise(order):
        out[now] = _matched(out[now], out[before])
    for _ in range(5):
        try:
            points = np.stack([triangulate(position_m, out[:, k]) for k in range(out.shape[1])])
        except EstimationError:  # a target so far that its lines are parallel: neighbours have settled it
            break
        to = points[None] - position_m[:, None]
        predicted = np.arctan2(to[..., 0], to[..., 1])
        again = np.stack([_matched(row, p) for row, p in zip(out, predicted, strict=True)])
        if np.array_equal(again, out):
            break
        out = again
    return out


def _matched(bearing_rad: F64, to_rad: F64) -> F64:
    _, column = linear_sum_assignment(np.abs(np.sin(to_rad[:, None]) - np.sin(bearing_rad)))
    return bearing_rad[column]


def _bearings_of(n: int, x: F64, wavelength_m: float) -> Dictionary:
    return far_field_dictionary(ArrayGeometry.ula(n, float(x[1] - x[0])), wavelength_m)

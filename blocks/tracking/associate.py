"""Which detection belongs to which track: global nearest neighbour."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

F64 = npt.NDArray[np.float64]


def associate(
    mahalanobis2: F64, log_determinant: F64, gate: float, tracks: Sequence[int], detections: Sequence[int]
) -> list[tuple[int, int]]:
    """Pair tracks with detections one to one, with the greatest joint likelihood (Blackman and Popoli, ch. 6).

    A pair within the gate is always better than leaving its track without a detection, as that costs a track what
    its least certain detection on the edge of the gate would. Joint probabilistic association is not used: it draws
    tracks that run side by side together (Blom and Bloem, IEEE Trans. Autom. Control 45(2), 2000), and a crossing is
    told by the course before and after it, which single assignments keep.

    Args:
        mahalanobis2: ``[track, detection]``.
        log_determinant: ``[track, detection]``.
        gate: Largest ``mahalanobis2`` of a pair.
        tracks: Rows to pair.
        detections: Columns to pair.

    Returns:
        ``(track, detection)`` pairs, in the order of ``tracks``.
    """
    if not tracks or not detections:
        return []
    rows, columns = np.ix_(tracks, detections)
    distance, spread = mahalanobis2[rows, columns], log_determinant[rows, columns]
    n_tracks, n_detections = distance.shape
    cost = np.full((n_tracks, n_detections + n_tracks), np.inf)
    cost[:, :n_detections] = np.where(distance <= gate, distance + spread, np.inf)
    np.fill_diagonal(cost[:, n_detections:], gate + spread.max(axis=1))
    chosen = linear_sum_assignment(cost)[1].tolist()  # of every row, in order
    return [(tracks[t], detections[d]) for t, d in enumerate(chosen) if d < n_detections]

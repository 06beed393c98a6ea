"""Detections that two tracks have to share."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from blocks.tracking.innovations import Innovations

F64 = npt.NDArray[np.float64]


def unresolved(
    seen: Innovations,
    tracks: Sequence[int],
    pairs: Mapping[int, int],
    gate: float,
    position_m: F64,
    origin_m: F64,
    resolution_rad: float,
    before: Collection[int],
) -> dict[int, set[int]]:
    """Return detections that tracks have to share because the array did not resolve their sources, with these tracks.

    Such a detection lies somewhere between the two sources. Updating one track with it would drag that track along,
    and taking it for a new source would make a ghost: both tracks should coast, and it be used for nothing. Between
    two tracks whose directions differ by less than the resolution, it is a detection

    - that one of them took while the other, which found none, has it within its gate or already shared one
      before, or
    - that neither took, but that some point between the two has within its gate.

    Args:
        seen: All pairs.
        tracks: Confirmed tracks that may have been left without a detection.
        pairs: Detection of each track that found one.
        gate: Largest Mahalanobis distance squared of a pair.
        position_m: Predicted position of each track, ``[track, xyz]`` metres.
        origin_m: The array's centre, ``[xyz]`` metres.
        resolution_rad: Angle below which two sources may come as one detection; twice that for tracks that already
            share one, as both have since drifted from their sources.
        before: Tracks that shared their last detection.
    """
    without = [i for i in tracks if i not in pairs]
    if not without:
        return {}
    direction = position_m - origin_m
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    sharing = np.array([i in before for i in range(len(direction))])
    limit = np.where(sharing[:, None] & sharing[None, :], 2 * resolution_rad, resolution_rad)
    close = np.linalg.norm(direction[:, None] - direction[None, :], axis=-1) < limit
    shared: dict[int, set[int]] = {}
    for j, d in pairs.items():
        with_j = {i for i in without if close[i, j] and (i in before or seen.mahalanobis2[i, d] <= gate)}
        if with_j:
            shared[d] = {j, *with_j}
    for d in set(range(len(seen.measured))).difference(pairs.values()):
        for i, j in combinations(without, 2):
            if close[i, j] and _between(seen, i, j, d) <= gate:
                shared[d] = {i, j}
    return shared


def _between(seen: Innovations, i: int, j: int, d: int) -> float:
    """Least Mahalanobis distance squared of detection ``d`` to the line from track ``i`` to track ``j``."""
    side, offset = seen.predicted[j] - seen.predicted[i], seen.measured[d] - seen.predicted[i]
    weighted_side, weighted_offset = np.linalg.solve(seen.covariance[i, d], np.stack([side, offset], axis=-1)).T
    length2 = float(side @ weighted_side)
    along = min(1.0, max(0.0, float(offset @ weighted_side) / length2)) if length2 > 0 else 0.0
    return float((offset - along * side) @ (weighted_offset - along * weighted_side))

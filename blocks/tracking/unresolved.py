"""Detections that two tracks have to share."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from blocks.tracking.innovations import Innovations


def unresolved(seen: Innovations, tracks: Sequence[int], pairs: Mapping[int, int], gate: float) -> list[int]:
    """Return the detections that two tracks have to share because the array did not resolve their sources.

    Such a detection lies somewhere between the two sources. Updating one track with it would drag that track along,
    and taking it for a new source would make a ghost: both tracks should coast, and it be used for nothing. It is

    - one that its track shares with a track that found none and has it within its gate, or
    - one that no track took, but that some point between two tracks that found none has within its gate.

    Args:
        seen: All pairs.
        tracks: The confirmed tracks.
        pairs: Detection of each track that found one.
        gate: Largest Mahalanobis distance squared of a pair.
    """
    without = [i for i in tracks if i not in pairs]
    shared = {d for d in pairs.values() if any(seen.mahalanobis2[i, d] <= gate for i in without)}
    for d in set(range(len(seen.measured))).difference(pairs.values()):
        if any(_between(seen, i, j, d) <= gate for i, j in combinations(without, 2)):
            shared.add(d)
    return sorted(shared)


def _between(seen: Innovations, i: int, j: int, d: int) -> float:
    """Least Mahalanobis distance squared of detection ``d`` to the line from track ``i`` to track ``j``."""
    side, offset = seen.predicted[j] - seen.predicted[i], seen.measured[d] - seen.predicted[i]
    weighted_side, weighted_offset = np.linalg.solve(seen.covariance[i, d], np.stack([side, offset], axis=-1)).T
    length2 = float(side @ weighted_side)
    along = min(1.0, max(0.0, float(offset @ weighted_side) / length2)) if length2 > 0 else 0.0
    return float((offset - along * side) @ (weighted_offset - along * weighted_side))

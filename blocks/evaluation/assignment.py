"""Which estimate belongs to which true source."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class Assignment(NamedTuple):
    """Matched pairs, in the order of the estimates, and what was left over.

    Attributes:
        estimate: Index of each pair's estimate, ``[pair]``.
        truth: Index of each pair's true source, ``[pair]``.
        distance_m: Distance within each pair, ``[pair]`` metres, at most the gate.
        n_missed: True sources without an estimate.
        n_false: Estimates without a true source.
    """

    estimate: I64
    truth: I64
    distance_m: F64
    n_missed: int
    n_false: int


def distances(estimate_m: npt.ArrayLike, truth_m: npt.ArrayLike) -> F64:
    """Return the Euclidean distance of each estimate to each true source, ``[estimate, truth]`` metres.

    Args:
        estimate_m: Positions, ``[estimate, xyz]`` metres; any number of coordinates, none of the sets empty of axes.
        truth_m: Positions in the same frame, ``[truth, xyz]`` metres.

    Raises:
        ParamError: The arrays are not two lists of points of one space, or a coordinate is not finite.
    """
    estimate, truth = np.asarray(estimate_m, dtype=np.float64), np.asarray(truth_m, dtype=np.float64)
    if estimate.ndim != 2 or truth.ndim != 2 or estimate.shape[1] != truth.shape[1]:
        raise ParamError(
            f"distances: expected [estimate, xyz] and [truth, xyz], got {list(estimate.shape)} and {list(truth.shape)}"
        )
    if not (np.isfinite(estimate).all() and np.isfinite(truth).all()):
        raise ParamError("distances: every coordinate must be finite; leave out a source that has no position")
    difference = estimate[:, None, :] - truth[None, :, :]
    return np.sqrt(np.einsum("etx,etx->et", difference, difference))


def assign(estimate_m: npt.ArrayLike, truth_m: npt.ArrayLike, gate_m: float, *, order: Literal[1, 2] = 2) -> Assignment:
    r"""Match estimates to true sources one to one, with the least total cost.

    The cost of a pair is :math:`\min(d, g)^p` for distance ``d``, gate ``g`` and order ``p``; a pair farther apart
    than the gate is no pair but one missed and one false. The permutation of [NF] Eq. (23), extended to unequal
    numbers; the assignment of the GOSPA metric with alpha = 2 (Rahmathullah et al., Fusion 2017).

    Args:
        estimate_m: ``[estimate, xyz]`` metres.
        truth_m: ``[truth, xyz]`` metres, the same frame.
        gate_m: Largest distance of a pair, metres; may be infinite.
        order: 1 minimizes the sum of distances, 2 of their squares.

    Raises:
        ParamError: As :func:`distances`; or the gate is not positive.
    """
    if not gate_m > 0:
        raise ParamError(f"assign: gate_m must be above 0, got {gate_m}")
    distance = distances(estimate_m, truth_m)
    rows, columns = linear_sum_assignment(np.minimum(distance, gate_m) ** order)
    pair_distance = distance[rows, columns]
    kept = pair_distance <= gate_m
    n_estimates, n_truth = distance.shape
    n_pairs = int(kept.sum())
    return Assignment(rows[kept], columns[kept], pair_distance[kept], n_truth - n_pairs, n_estimates - n_pairs)

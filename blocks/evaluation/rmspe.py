"""Error of one frame as a single figure that also counts missed and extra sources."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from blocks.evaluation.assignment import distances
from hil.errors import ParamError


def rmspe(estimate_m: npt.ArrayLike, truth_m: npt.ArrayLike, cutoff_m: float, *, order: Literal[1, 2] = 2) -> float:
    r"""Return the position error of one frame over its sources, best permutation, metres.

    .. math::

        e_p = \left( \frac{1}{n} \left( \min_\pi \sum_i \min(d_{i\pi(i)}, c)^p
              + c^p\,|\hat M - M| \right) \right)^{1/p}, \quad n = \max(\hat M, M)

    With ``order=2`` it is [NF] Eq. (23): root of the mean over sources of the squared distance. With ``order=1`` it
    is the mean over sources of the distance, which is what the paper's published implementation computes under the
    same name. Both are means over frames in the paper's tables.

    Eq. (23) leaves open what a wrong number of sources costs. Here each missed or extra source costs ``cutoff_m``, as
    does any pair farther apart: this is the OSPA metric of order ``p`` (Schuhmacher, Vo and Vo, IEEE Trans. Signal
    Process. 56(8), 2008, Eq. (3)), equal to Eq. (23) where the numbers agree and no pair is farther apart than the
    cut-off. Publish the cut-off with the figure. Two empty sets have error 0.

    Args:
        estimate_m: ``[estimate, xyz]`` metres.
        truth_m: ``[truth, xyz]`` metres, the same frame.
        cutoff_m: ``c > 0``, metres; may be infinite where the numbers of sources agree.
        order: ``p``.

    Raises:
        ParamError: As :func:`~blocks.evaluation.assignment.distances`; the cut-off is not positive, or it is infinite
            and the numbers of sources differ.
    """
    if not cutoff_m > 0:
        raise ParamError(f"rmspe: cutoff_m must be above 0, got {cutoff_m}")
    distance = distances(estimate_m, truth_m)
    n_more, n_less = max(distance.shape), min(distance.shape)
    if n_more == 0:
        return 0.0
    if n_more > n_less and not np.isfinite(cutoff_m):
        raise ParamError(
            f"rmspe: {distance.shape[0]} estimates for {distance.shape[1]} sources need a finite cutoff_m, "
            f"got {cutoff_m}"
        )
    cost = np.minimum(distance, cutoff_m) ** order
    total = float(cost[linear_sum_assignment(cost)].sum())
    if n_more > n_less:
        total += cutoff_m**order * (n_more - n_less)
    return float((total / n_more) ** (1 / order))

"""Subarrays without faults in whose far field all targets lie, [HI] Section IV-A2."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hil.errors import EstimationError


def subarray_size(n_sensors: int) -> int:
    """Largest subarray whose Rayleigh distance is within [HI]'s Fresnel distance: ``2^(-3/4) N^(3/4)``, Eq. (13)."""
    return max(2, int(2**-0.75 * n_sensors**0.75))


def partition(faulty: npt.NDArray[np.bool_], max_size: int, min_size: int) -> list[slice]:
    """Cut the runs of intact elements of a line into parts of at most ``max_size``, as even as they go.

    Args:
        faulty: ``[sensor]``, in order along the line.
        max_size: Criterion 2.
        min_size: Shorter parts are left out; MUSIC needs one more element than targets.

    Raises:
        EstimationError: Nothing is left.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[1], faulty.astype(np.int8), [1]])))
    parts = []
    for first, end in edges.reshape(-1, 2):
        n_parts = -(-(end - first) // max_size)
        cuts = np.linspace(first, end, n_parts + 1).round().astype(int)
        parts += [slice(int(a), int(b)) for a, b in pairwise(cuts) if b - a >= min_size]
    if not parts:
        raise EstimationError(
            f"partition: {int(faulty.sum())} of {len(faulty)} elements are faulty and no {min_size} neighbours are "
            "intact; ask for fewer targets, or use estimate_with_faults, which needs no intact subarray"
        )
    return parts

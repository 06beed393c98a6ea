"""Phase of faulty elements averaged over time, Phase 2 of [HI] (Section IV-B)."""

import numpy as np

from blocks.hi_aware.scene import C128, F64


def phase_over_time(y: C128, ideal: C128) -> tuple[F64, F64]:
    """Mean of the unwrapped phase difference, Eqs. (23) to (26).

    The ideal phase is that of the noiseless sample of Eq. (5), the sum over all targets: Eqs. (21), (22) print that of
    one target, with the other sign.

    Args:
        y: Received, ``[element, snapshot]``.
        ideal: What they would receive intact, same shape.

    Returns:
        Phase ``[element]`` rad in -pi .. pi and the variance of that mean, rad^2.
    """
    difference = np.unwrap(np.angle(y * ideal.conj()), axis=1)
    mean = difference.mean(axis=1)
    variance = difference.var(axis=1, ddof=1) / difference.shape[1]
    return np.angle(np.exp(1j * mean)), variance

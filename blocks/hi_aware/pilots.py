"""Known waveforms at given ticks."""

import math

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError


def zadoff_chu(length: int, root: int, tick: int, n: int) -> npt.NDArray[np.complex128]:
    """Samples ``tick .. tick + n - 1`` of a Zadoff-Chu sequence of odd ``length``, repeated; it begins at tick 0.

    ``exp(-j pi root m (m + 1) / length)``, ``m = tick mod length`` (Chu 1972). Unit power.

    Raises:
        ParamError: Even length, or a root that is not prime to it.
    """
    if length < 3 or length % 2 == 0 or not 1 <= root < length or math.gcd(root, length) != 1:
        raise ParamError(f"zadoff_chu: expected an odd length and a root prime to it, got length {length}, root {root}")
    m = (tick + np.arange(n)) % length
    return np.exp(-1j * np.pi / length * ((root * m * (m + 1)) % (2 * length)))

r"""Which elements are faulty, given the model of what each should receive: a Bayesian test an element.

The mask threshold ``tau`` of [HI] Eq. (12) "can be set based on the fault probability"; here it follows from it. With
``q = m_n^H z_n`` and ``h = |m_n|^2``, odds of each hypothesis against an intact element::

    turned, phase uniform       p I0(2 |q| / s) exp(-2 Re q / s)
    changed, c uniform in disc  p' (s / h) exp(|q - h|^2 / (h s))

so a weak signal asks for a large deviation and a strong one for a small. ``p`` is the share of faulty elements,
learned from the data by repeating the test.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv, i0e

from blocks.hi_aware.joint_fit import I8, Kind
from blocks.hi_aware.scene import C128, F64

#: Prior share of faults that change the amplitude (dead elements among them).
COMPLEX_SHARE = 0.1


class FaultTest(NamedTuple):
    """``kind [sensor]`` and ``log_odds [sensor]`` of the better fault hypothesis against an intact element."""

    kind: I8
    log_odds: F64


def fault_test(z: C128, model: C128, noise_power: float, fault_probability: float) -> FaultTest:
    """Test each element.

    Args:
        z: ``[sensor, column]``.
        model: What an intact element receives, ``[sensor, column]``.
        noise_power: Of an entry of ``z``; include what the model itself errs by.
        fault_probability: Prior ``p``.
    """
    cross = np.sum(model.conj() * z, axis=1)
    return fault_test_of_sums(cross, np.sum(np.abs(model) ** 2, axis=1), noise_power, fault_probability)


def fault_test_of_sums(cross: C128, power: F64, noise_power: float, fault_probability: float) -> FaultTest:
    """As :func:`fault_test` from ``q [sensor]`` and ``h [sensor]``, which may be sums over many frames."""
    power = np.maximum(power, 1e-300)
    sigma2 = max(noise_power, 1e-300)
    prior = np.log(fault_probability / (1 - fault_probability))
    x = 2 * np.abs(cross) / sigma2
    turned = np.log(i0e(x)) + x - 2 * cross.real / sigma2 + prior + np.log(1 - COMPLEX_SHARE)
    changed = np.abs(cross - power) ** 2 / (power * sigma2) + np.log(sigma2 / power) + prior + np.log(COMPLEX_SHARE)
    best = np.maximum(turned, changed)
    kind = np.where(best <= 0, Kind.INTACT, np.where(turned >= changed, Kind.PHASE, Kind.COMPLEX)).astype(np.int8)
    return FaultTest(kind, best)


def log_evidence(z: C128, model: C128, noise_power: float, fault_probability: float) -> float:
    """Log-likelihood of all rows, faults summed over, but for what does not depend on the model.

    Arguments as :func:`fault_test`.
    """
    log_odds = fault_test(z, model, noise_power, fault_probability).log_odds
    return float(np.sum(np.logaddexp(0.0, log_odds)) - np.sum(np.abs(z - model) ** 2) / max(noise_power, 1e-300))


def row_noise_power(residual: C128) -> float:
    """Noise power of an entry from the median row of a residual ``[sensor, column]``: most rows are sound.

    The power of a row of ``L`` columns is Gamma(L) distributed.
    """
    n_columns = residual.shape[1]
    return float(np.median(np.sum(np.abs(residual) ** 2, axis=1)) / gammaincinv(n_columns, 0.5))

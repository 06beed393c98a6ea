"""Errors of several sources under the best permutation, with a gradient that is finite at zero."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

Tensor = torch.Tensor

#: Below this the root is a parabola: its gradient is 0 where the error is, not infinite.
_SMALLEST = 1e-12


def best_permutation(cost: Tensor) -> Tensor:
    """For each example the estimate that belongs to each truth, ``[batch, source]``, least sum of costs.

    Args:
        cost: ``[batch, truth, estimate]``, as many of both; no gradient flows through the choice.
    """
    chosen = [linear_sum_assignment(one)[1] for one in cost.detach().cpu().numpy()]
    return torch.as_tensor(np.array(chosen), device=cost.device)


def root_mean_square(error: Tensor) -> Tensor:
    """Root of the mean square over the last axis, ``[...]``: what [NF] Eqs. (19), (21) and (23) have in common."""
    return torch.sqrt((error * error).mean(-1) + _SMALLEST) - _SMALLEST**0.5


def periodic_difference(a: Tensor, b: Tensor) -> Tensor:
    """``a - b`` modulo pi, in -pi/2 .. pi/2: two azimuths of a line that are pi apart are the same. [NF] Eq. (19)."""
    return torch.remainder(a - b + np.pi / 2, np.pi) - np.pi / 2

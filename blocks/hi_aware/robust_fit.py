"""A fit that faulty elements do not turn, before anything is known of them."""

from typing import NamedTuple

import numpy as np

from blocks.hi_aware.joint_fit import JointFit, Kind, fit_jointly
from blocks.hi_aware.reduce import Reduced
from blocks.hi_aware.scene import F64, Places, Scene


class RobustFit(NamedTuple):
    """The fit and the weight of each row, ``[sensor]``, 0 .. 1."""

    fit: JointFit
    weight: F64


def robust_fit(data: Reduced, scene: Scene, places: Places, *, max_iterations: int = 2) -> RobustFit:
    """From ``places``: rows that do not fit lose their weight (Geman and McClure), the scale of what fits is taken down
    from the median row to the noise.

    Args:
        data: Reduced data.
        scene: The array.
        places: Start.
        max_iterations: Gauss-Newton steps a round of weights; a joint fit follows, so that two do.
    """
    n, n_columns = data.z.shape
    kind, ones = np.full(n, Kind.INTACT, np.int8), np.ones(n, np.complex128)
    weight = np.ones(n)
    floor = 4 * n_columns * data.noise_power
    fit = fit_jointly(data, scene, places, kind, ones, max_iterations=3)
    for _ in range(10):
        power = np.sum(np.abs(fit.residual) ** 2, axis=1)
        scale = max(2 * float(np.median(power)), floor)
        new_weight = 1 / (1 + power / scale) ** 2
        settled = scale == floor and float(np.abs(new_weight - weight).max()) < 0.05
        weight = new_weight
        fit = fit_jointly(data, scene, fit.places, kind, ones, weight=weight, max_iterations=max_iterations)
        if settled:
            break
    return RobustFit(fit, weight)

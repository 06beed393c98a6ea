"""The method of [HI] as it describes it, with known pilots: fault detection, phase calibration, localization.

It is the published method to compare with; :mod:`blocks.hi_aware.estimate` is what this project uses.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from blocks.hi_aware.coarse import coarse_places
from blocks.hi_aware.joint_fit import fit_gains
from blocks.hi_aware.phase_over_time import phase_over_time
from blocks.hi_aware.reduce import reduce_by_pilots
from blocks.hi_aware.scene import C128, F64, Places, Scene
from blocks.hi_aware.shrinkage import ista, penalty
from blocks.hi_aware.subarrays import partition, subarray_size
from blocks.subspace.anti_diagonal import reduced_dimension_music
from blocks.subspace.null_descent import Model

Bool = npt.NDArray[np.bool_]
#: Half width of the search round a coarse angle, and points of the range search.
WINDOW_RAD, N_RANGES = 0.02, 65


class ThreePhases(NamedTuple):
    """Coarse and fine places, faulty elements ``[sensor]``, coefficients ``[sensor]``, variance of the phases found."""

    coarse: Places
    fine: Places
    faulty: Bool
    coefficient: C128
    phase_variance_rad2: F64


def three_phases(y: C128, pilots: C128, scene: Scene, *, max_rounds: int = 6) -> ThreePhases:
    """Run the three phases.

    Args:
        y: ``[sensor, snapshot]`` of a uniform line array, in order along it.
        pilots: ``[source, snapshot]``.
        scene: The array.
        max_rounds: Of Phase 1; it ends earlier when the set of faults repeats.

    Raises:
        EstimationError: Too few intact neighbours, or subarrays that do not see the targets.
    """
    data = reduce_by_pilots(y, pilots)
    n, n_sources = len(y), len(pilots)
    faulty, seen = np.zeros(n, np.bool_), set()
    for _ in range(max_rounds):
        coarse = coarse_places(y, scene, partition(faulty, subarray_size(n), n_sources + 1), n_sources)
        coarse = _order_as_pilots(data.z, data.mixing, scene, coarse)
        a = scene.vectors(*coarse).T
        model = a @ fit_gains(data, a, np.where(faulty, 0.0, 1.0))
        cross, power = np.sum(model.conj() * data.z, axis=1), np.sum(np.abs(model) ** 2, axis=1)
        mask = ista(cross, power, penalty(cross, power, data.noise_power)).z
        faulty = np.abs(mask) > 0
        if faulty.tobytes() in seen:
            break
        seen.add(faulty.tobytes())
    # the model of Eq. (22) in snapshots: B S with B = diag(beta) G, and G from the pilots themselves
    beta = fit_gains(data, a, np.where(faulty, 0.0, 1.0))[:, 0] / data.mixing[:, 0]  # type: ignore[index]
    phase, variance = phase_over_time(y[faulty], a[faulty] @ (beta[:, None] * pilots))
    coefficient = np.ones(n, np.complex128)
    coefficient[faulty] = np.exp(1j * phase)
    fine = fine_places(coefficient.conj()[:, None] * y, scene, coarse)
    return ThreePhases(coarse, fine, faulty, coefficient, variance)


def fine_places(calibrated: C128, scene: Scene, coarse: Places) -> Places:
    """Phase 3: angles from the anti-diagonal (Eqs. 29 to 33), then a range spectrum at each angle (Eq. 34)."""
    covariance = calibrated @ calibrated.conj().T / calibrated.shape[1]
    model = Model(scene.position_m, scene.wavelength_m, scene.amplitude)
    ranges = np.linspace(*scene.inverse_range_limits_per_m, N_RANGES)
    found = reduced_dimension_music(covariance, model, coarse.azimuth_rad, WINDOW_RAD, ranges, backward=False)
    return Places(found.azimuth_rad, found.inverse_range_per_m)


def _order_as_pilots(z: C128, mixing: C128 | None, scene: Scene, places: Places) -> Places:
    """Subarrays do not tell which target sends which pilot: match each pilot with the place that responds most."""
    assert mixing is not None
    alone = np.linalg.solve(mixing.T, z.T)  # (source, sensor)
    response = np.abs(alone @ scene.vectors(*places).conj().T)
    _, order = linear_sum_assignment(-response)
    return Places(places.azimuth_rad[order], places.inverse_range_per_m[order])

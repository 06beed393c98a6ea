"""First-order errors have the Cramer-Rao bound as mean square, whose closed form is computed by another route."""

import numpy as np
import pytest

from benchmarks.first_order import controlled_ratio, first_order_errors
from blocks.bounds.impaired import impaired_crb
from blocks.hi_aware.reduce import reduce_by_pilots
from blocks.hi_aware.scene import Scene
from hil.array import ArrayGeometry

WAVELENGTH_M = 0.01


def test_their_mean_square_is_the_bound():
    rng = np.random.default_rng(3)
    n, t, noise_power = 32, 20, 0.5
    scene = Scene(ArrayGeometry.ula(n, WAVELENGTH_M / 2).position_m, WAVELENGTH_M, False, (0.0, 2.0))
    azimuth, r = np.array([0.3, -0.2]), np.array([1.0, 1.5])
    c = np.where(np.arange(n) == 5, 1j, 1)
    s = (rng.standard_normal((2, t)) + 1j * rng.standard_normal((2, t))) / np.sqrt(2)
    gain = np.array([1j, 0.7])
    clean = c[:, None] * (scene.vectors(azimuth, 1 / r).T @ (gain[:, None] * s))
    errors = []
    for _ in range(2000):
        noise = np.sqrt(noise_power / 2) * (rng.standard_normal((n, t)) + 1j * rng.standard_normal((n, t)))
        errors.append(first_order_errors(reduce_by_pilots(clean + noise, s), scene, azimuth, r, gain, c))
    squares = np.mean(np.square(errors), axis=0)
    bound = impaired_crb(
        scene.position_m, azimuth, np.zeros(2), r, WAVELENGTH_M, gain[:, None] * s, c, noise_power, amplitude=False
    )  # fmt: skip
    # the mean of 2,000 squares of a normal variable scatters by 3 %
    np.testing.assert_allclose(squares, np.einsum("kaka->ak", bound), rtol=0.13)


def test_control_takes_the_draws_out():
    rng = np.random.default_rng(4)
    bound = rng.uniform(1, 3, 500)
    first_order = bound * rng.chisquare(1, 500)
    ours = first_order + 0.1 * bound * rng.chisquare(1, 500)
    value, (low, high) = controlled_ratio(ours, bound, first_order, bound)
    assert low < np.sqrt(1.1) < high and low < value < high
    assert high - low < 0.02, "as drawn it is 0.13"
    ours[3] = np.nan
    assert controlled_ratio(ours, bound, first_order, bound)[0] == pytest.approx(value, abs=0.01)

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.resection.closed_form import resect_closed_form
from blocks.resection.posterior import pose_posterior
from blocks.resection.resect import resect
from hil.errors import EstimationError

SQUARE_M = [(12.0, 12.0), (0.0, 0.0), (0.0, 12.0), (12.0, 0.0)]


def bearings(x, y, heading, beacons):
    """Azimuths in the array frame, by complex numbers: north is real, east imaginary."""
    import cmath

    return [cmath.phase(complex(by - y, bx - x) * cmath.exp(-1j * heading)) for bx, by in beacons]


def wrap(angle):
    return math.remainder(angle, 2 * math.pi)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(1, 11), y=st.floats(1, 11), heading=st.floats(-math.pi, math.pi), n=st.sampled_from([3, 4]),
)  # fmt: skip
def test_closed_form_is_exact(x, y, heading, n):
    pose = resect_closed_form(bearings(x, y, heading, SQUARE_M[:n]), SQUARE_M[:n])
    np.testing.assert_allclose(pose.position_m, [x, y], atol=1e-6)
    assert abs(wrap(pose.heading_rad - heading)) < 1e-7


@settings(max_examples=25, deadline=None)
@given(x=st.floats(1, 11), y=st.floats(1, 11), heading=st.floats(-math.pi, math.pi))
def test_least_squares_is_exact(x, y, heading):
    found = resect(bearings(x, y, heading, SQUARE_M), SQUARE_M, 0.01)
    np.testing.assert_allclose(found.position_m, [x, y], atol=1e-3)
    assert abs(wrap(found.heading_rad - heading)) < 1e-4
    assert found.cost < 1e-3


def test_scatter_is_what_the_covariance_says():
    rng, errors = random.Random(1), []
    for _ in range(100):
        azimuth = [a + rng.gauss(0, 0.01) for a in bearings(4, 7, 0.3, SQUARE_M)]
        found = resect(azimuth, SQUARE_M, 0.01, robust_scale=10.0)
        errors.append([*(found.position_m - [4, 7]), wrap(found.heading_rad - 0.3)])
    # 100 draws: a variance is known to 14 %
    np.testing.assert_allclose(np.diag(np.cov(np.transpose(errors))), np.diag(found.covariance), rtol=0.45)


def test_one_wild_bearing_of_five_is_outvoted():
    beacons = [*SQUARE_M, (6.0, 14.0)]
    azimuth = bearings(4, 7, 0.3, beacons)
    azimuth[1] += 0.6
    found = resect(azimuth, beacons, 0.01)
    assert np.hypot(*(found.position_m - [4, 7])) < 0.25
    assert abs(found.residual_rad[1]) > 0.5


def test_on_the_circle_through_all_beacons_nothing_is_fixed():
    radius = math.hypot(6, 6)
    x, y = 6 + radius * math.sin(0.2), 6 + radius * math.cos(0.2)
    # rounding leaves an information that is singular to 1e-10 or so
    found = resect(bearings(x, y, 0.0, SQUARE_M), SQUARE_M, 0.01)
    assert not np.sqrt(found.covariance[0, 0] + found.covariance[1, 1]) < 3


@pytest.mark.parametrize(
    "solve", [resect_closed_form, lambda a, b: resect(a, b, 0.1), lambda a, b: pose_posterior(a, b, 0.1)]
)
def test_two_beacons_are_refused(solve):
    with pytest.raises(EstimationError, match="2 beacons at different places; position and heading are three unknowns"):
        solve([0.1, 0.2], SQUARE_M[:2])
    with pytest.raises(EstimationError, match="2 beacons at different places"):
        solve([0.1, 0.2, 0.3], [SQUARE_M[0], SQUARE_M[1], SQUARE_M[1]])
    with pytest.raises(EstimationError, match=r"got \[3\] and \[2, 2\]"):
        solve([0.1, 0.2, 0.3], SQUARE_M[:2])
    with pytest.raises(EstimationError, match="not finite"):
        solve([0.1, math.nan, 0.3], SQUARE_M[:3])


@pytest.mark.parametrize("solve", [resect, pose_posterior])
def test_deviation_must_be_positive(solve):
    with pytest.raises(EstimationError, match="deviations must be above 0"):
        solve([0.1, 0.2, 0.3], SQUARE_M[:3], 0.0)


def test_posterior_is_the_truth_where_bearings_are_good():
    found = pose_posterior(bearings(4, 7, 3.0, SQUARE_M), SQUARE_M, 0.005)
    np.testing.assert_allclose(found.position_m, [4, 7], atol=0.02)
    assert abs(wrap(found.heading_rad - 3.0)) < 0.002


def test_posterior_beats_least_squares_near_the_circle():
    rng, squared = random.Random(4), {"mean": 0.0, "least squares": 0.0}
    for _ in range(25):
        azimuth = [a + rng.gauss(0, 0.06) for a in bearings(0.0, 3.0, 0.3, SQUARE_M)]
        for name, found in (
            ("mean", pose_posterior(azimuth, SQUARE_M, 0.06)),
            ("least squares", resect(azimuth, SQUARE_M, 0.06)),
        ):
            squared[name] += float(((found.position_m - [0, 3]) ** 2).sum())
    assert squared["mean"] < 0.8 * squared["least squares"]


def test_posterior_spread_covers_its_errors():
    rng, inside, n = random.Random(5), 0, 60
    for _ in range(n):
        x, y = rng.gauss(6, 4), rng.gauss(6, 4)
        azimuth = [a + rng.gauss(0, 0.05) for a in bearings(x, y, 0.3, SQUARE_M)]
        found = pose_posterior(azimuth, SQUARE_M, 0.05, degrees_of_freedom=50.0)
        error = found.position_m - [x, y]
        inside += error @ np.linalg.solve(found.covariance[:2, :2], error) < 5.99  # 95 % of a normal
    assert inside >= 51

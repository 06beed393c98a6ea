"""Polar to Cartesian: axes, round trip, covariance against sampling, and sources without a range."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from blocks.geometry.polar_to_cartesian import (
    PolarToCartesian,
    cartesian_covariance,
    cartesian_to_polar,
    has_position,
    polar_to_cartesian,
)
from hil.array import ArrayGeometry
from hil.errors import EstimationError


def test_axes():
    places = polar_to_cartesian(
        np.array([0.0, math.pi / 2, 0.7]), np.array([0.0, 0.0, math.pi / 2]), np.array([2.0, 3.0, 4.0])
    )
    np.testing.assert_allclose(places, [[0, 2, 0], [3, 0, 0], [0, 0, 4]], atol=1e-15)


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(0.1, 1e4))
def test_round_trip(azimuth, elevation, range_m):
    back = cartesian_to_polar(polar_to_cartesian(np.array(azimuth), np.array(elevation), np.array(range_m)))
    np.testing.assert_allclose(back, [azimuth, elevation, range_m], rtol=1e-9, atol=1e-9)


def test_covariance_is_that_of_samples():
    rng = np.random.default_rng(0)
    mean = np.array([0.4, -0.2, 1 / 20])
    root = np.array([[1e-3, 0, 0], [4e-4, 8e-4, 0], [2e-5, 1e-5, 3e-5]])
    polar = mean + rng.normal(size=(200_000, 3)) @ root.T
    sampled = np.cov(polar_to_cartesian(polar[:, 0], polar[:, 1], 1 / polar[:, 2]).T)
    ours = cartesian_covariance(np.array(mean[0]), np.array(mean[1]), np.array(20.0), root @ root.T)
    # 200,000 samples: 0.3 % of each variance, and second order below 1e-6
    scale = np.sqrt(np.outer(np.diag(ours), np.diag(ours)))
    np.testing.assert_allclose((sampled - ours) / scale, 0, atol=0.01)


def test_known_elevation_adds_no_variance_across_it():
    covariance = np.diag([1e-6, 0.0, 1e-8])
    ours = cartesian_covariance(np.array(0.0), np.array(0.0), np.array(10.0), covariance)
    np.testing.assert_allclose(ours, np.diag([1e-4, 1e-4, 0.0]), atol=1e-18)


def test_has_position_needs_a_range_that_differs_from_infinity():
    covariance = np.zeros((3, 3, 3))
    covariance[:, 2, 2] = 0.01**2
    range_m = np.array([10.0, 50.0, np.inf])
    assert has_position(range_m, covariance, 3.0).tolist() == [True, False, False]
    assert has_position(range_m, None, 3.0).tolist() == [True, True, False]


def estimates(range_m):
    n = len(range_m)
    covariance = np.zeros((n, 3, 3))
    covariance[:, 0, 0], covariance[:, 2, 2] = 1e-8, 1e-8
    return {
        "azimuth_rad": np.full(n, 0.1), "elevation_rad": np.zeros(n), "range_m": np.array(range_m, dtype=float),
        "polar_covariance": covariance, "power_db": np.full(n, 3.0),
    }  # fmt: skip


def test_block_gives_world_positions_and_keeps_directions_apart():
    rotation = Rotation.from_euler("zx", [0.5, 0.2])
    block = PolarToCartesian("xyz")
    block.array = ArrayGeometry.ula(8, 0.03, orientation_xyzw=rotation.as_quat(), origin_m=[1, 2, 3])
    positions, directions = block(estimates([5.0, np.inf, 8.0]))
    expected = np.array([1, 2, 3]) + rotation.apply(np.outer([5.0, 8.0], [math.sin(0.1), math.cos(0.1), 0]))
    np.testing.assert_allclose(positions["position_m"], expected)
    own = cartesian_covariance(np.array(0.1), np.array(0.0), np.array(5.0), np.diag([1e-8, 0, 1e-8]))
    matrix = rotation.as_matrix()
    np.testing.assert_allclose(positions["covariance_m2"][0], matrix @ own @ matrix.T, atol=1e-18)
    assert positions["range_m"].tolist() == [5.0, 8.0]
    assert directions["range_m"].tolist() == [np.inf]
    assert directions["polar_covariance"].shape == (1, 3, 3)


def test_block_passes_frames_without_sources():
    block = PolarToCartesian("xyz")
    block.array = ArrayGeometry.ula(8, 0.03)
    positions, directions = block(estimates([]))
    assert positions["position_m"].shape == (0, 3)
    assert positions["covariance_m2"].shape == (0, 3, 3)
    assert directions["azimuth_rad"].shape == (0,)


def test_block_without_a_descriptor_says_so():
    with pytest.raises(EstimationError, match="xyz: no array descriptor has come"):
        PolarToCartesian("xyz")(estimates([5.0]))

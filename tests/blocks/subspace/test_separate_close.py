"""Separation in standard deviations, against scipy's Mahalanobis distance, and on a circle."""

import numpy as np
from scipy.spatial.distance import mahalanobis

from blocks.subspace.moments import Moments
from blocks.subspace.separate_close import n_above_noise, separation
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from hil.array import ArrayGeometry
from tests.blocks.subspace.scene import LAMBDA, snapshots


def test_is_the_mahalanobis_distance_of_the_difference():
    rng = np.random.default_rng(0)
    azimuth, inverse_range = rng.normal(size=3) * 1e-3, rng.normal(size=3) * 1e-2
    root = rng.normal(size=(3, 2, 2)) * np.array([1e-4, 1e-3])[:, None]
    covariance = root @ root.transpose(0, 2, 1)
    ours = separation(azimuth, inverse_range, covariance)
    for i in range(3):
        for j in range(3):
            inverse = np.linalg.inv(covariance[i] + covariance[j])
            expected = mahalanobis((azimuth[i], inverse_range[i]), (azimuth[j], inverse_range[j]), inverse)
            np.testing.assert_allclose(ours[i, j], expected, rtol=1e-9, atol=1e-12)


def test_a_known_range_leaves_azimuth_alone_and_circles_close():
    covariance = np.zeros((2, 2, 2))
    covariance[:, 0, 0] = 0.005
    apart = separation(np.array([np.pi - 0.1, -np.pi + 0.1]), np.zeros(2), covariance, full_circle=True)
    np.testing.assert_allclose(apart, [[0, 2], [2, 0]], atol=1e-12)


def test_noise_is_not_taken_for_a_source_nor_a_source_for_noise():
    rng = np.random.default_rng(1)
    for n, t in ((15, 100), (64, 100), (64, 30)):
        array = ArrayGeometry.ula(n, LAMBDA / 2)
        for _ in range(50):
            x = snapshots(array, [0.2], [20.0], 0, t, rng).x
            assert n_above_noise(signal_subspace_from_samples(x, 4), Moments.of_samples(x)) == 1

import numpy as np
import pytest

from sim_device.draws import TICK_BLOCK
from sim_device.front_end import front_end, noise_block


def test_noise_is_circular_gaussian_of_unit_power_and_independent_between_channels():
    x = np.concatenate([noise_block(16, block, 5) for block in range(100)], axis=1).astype(np.complex128)
    n = x.shape[1]
    assert n == 100 * TICK_BLOCK
    covariance = x @ x.conj().T / n
    # entries of a sample covariance of n snapshots have standard deviation 1 / sqrt(n) = 0.0125
    assert np.max(np.abs(covariance - np.eye(16))) < 5 / np.sqrt(n)
    assert np.max(np.abs(x @ x.T / n)) < 5 * np.sqrt(2 / n)
    assert np.mean(np.abs(x) ** 4) == pytest.approx(2.0, rel=0.05)  # of a circular Gaussian


def test_gain_acts_on_signal_and_noise():
    signal, noise = np.full((1, 2), 0.01 + 0j, np.complex64), np.array([[1j, -1.0]], np.complex64)
    samples, clipped = front_end(signal, noise, noise_power_db=-40.0, gain_db=20.0, clip=True)
    np.testing.assert_allclose(samples, [[0.1 + 0.1j, 0.0]], atol=1e-7)
    assert clipped.tolist() == [0, 0]


def test_clipping_limits_each_part_and_counts_samples():
    signal = np.array([[2.0 + 2.0j, 0.5 - 3.0j, 0.9 + 0.9j], [-1.5, 0.1, 1.0]], np.complex64)
    samples, clipped = front_end(signal, 0 * signal, noise_power_db=-200.0, gain_db=0.0, clip=True)
    np.testing.assert_array_equal(samples, np.array([[1 + 1j, 0.5 - 1j, 0.9 + 0.9j], [-1, 0.1, 1]], np.complex64))
    assert clipped.tolist() == [2, 1, 0]
    samples, clipped = front_end(signal, 0 * signal, noise_power_db=-200.0, gain_db=0.0, clip=False)
    np.testing.assert_array_equal(samples, signal)
    assert clipped.tolist() == [0, 0, 0]

"""Snapshots of [HI] Eq. (5), written with loops over targets and the distances themselves."""

from typing import NamedTuple

import numpy as np

from blocks.subspace.dictionary import Dictionary, steering_dictionary
from hil.array import ArrayGeometry

WAVELENGTH_M = 299_792_458.0 / 30e9
AZIMUTH_RAD = np.array([np.pi / 12, -np.pi / 12, -np.pi / 6])
RANGE_M = np.array([10.0, 18.0, 8.0])


class Case(NamedTuple):
    y: np.ndarray  # [sensor, snapshot]
    pilots: np.ndarray  # [source, snapshot]
    coefficient: np.ndarray  # [sensor]
    gain: np.ndarray  # [source]
    noise_power: float
    azimuth_rad: np.ndarray
    range_m: np.ndarray


def array(n=256):
    return ArrayGeometry.ula(n, WAVELENGTH_M / 2)


def dictionary(n=256) -> Dictionary:
    return steering_dictionary(array(n), WAVELENGTH_M, amplitude=False)


def phase_faults(n, elements, rng):
    c = np.ones(n, complex)
    c[elements] = np.exp(1j * rng.uniform(0.5, 2 * np.pi - 0.5, len(elements)))
    return c


def simulate(rng, coefficient, snr_db, *, azimuth_rad=AZIMUTH_RAD, range_m=RANGE_M, n_snapshots=100) -> Case:
    """Gaussian pilots of unit power, unit gains of random phase, SNR over all targets as in [HI] Section VI-A."""
    n, k = len(coefficient), len(azimuth_rad)
    d = array(n).position_m[:, 0]
    s = (rng.standard_normal((k, n_snapshots)) + 1j * rng.standard_normal((k, n_snapshots))) / np.sqrt(2)
    gain = np.exp(1j * rng.uniform(0, 2 * np.pi, k))
    y = np.zeros((n, n_snapshots), complex)
    for theta, r, b, waveform in zip(azimuth_rad, range_m, gain, s, strict=True):
        distance = np.sqrt(r**2 + d**2 - 2 * r * d * np.sin(theta))
        y += np.outer(coefficient * np.exp(-2j * np.pi * (distance - r) / WAVELENGTH_M), b * waveform)
    noise_power = k / 10 ** (snr_db / 10)
    noise = rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape)
    return Case(y + np.sqrt(noise_power / 2) * noise, s, coefficient, gain, noise_power, azimuth_rad, range_m)

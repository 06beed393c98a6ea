"""Snapshots of sources at known places, element by element from the definition; no function under test is used."""

from dataclasses import dataclass

import numpy as np

from hil.array import ArrayGeometry
from hil.wavefront import wavelength_m

FREQUENCY_HZ = 5e9
LAMBDA = wavelength_m(FREQUENCY_HZ)


@dataclass
class Scene:
    x: np.ndarray
    waveform: np.ndarray
    azimuth_rad: np.ndarray
    range_m: np.ndarray


def snapshots(
    array: ArrayGeometry,
    azimuth_rad,
    range_m,
    snr_db: float,
    n_snapshots: int,
    rng: np.random.Generator,
    *,
    coherent: bool = False,
) -> Scene:
    """``[sensor, snapshot]`` in unit noise; ``snr_db`` is power per sensor at the array's centre."""
    azimuth, distance = np.asarray(azimuth_rad, dtype=float), np.asarray(range_m, dtype=float)
    m, n = len(azimuth), array.n_elements
    steering = np.empty((n, m), dtype=complex)
    for i in range(m):
        if np.isinf(distance[i]):
            direction = np.array([np.sin(azimuth[i]), np.cos(azimuth[i]), 0.0])
            steering[:, i] = np.exp(2j * np.pi / LAMBDA * array.position_m @ direction)
            continue
        place = distance[i] * np.array([np.sin(azimuth[i]), np.cos(azimuth[i]), 0.0])
        r_m = np.linalg.norm(array.position_m - place, axis=1)
        steering[:, i] = distance[i] / r_m * np.exp(-2j * np.pi / LAMBDA * (r_m - distance[i]))
    s = (rng.normal(size=(m, n_snapshots)) + 1j * rng.normal(size=(m, n_snapshots))) / np.sqrt(2)
    if coherent:
        s = np.exp(2j * np.pi * rng.random((m, 1))) * s[:1]
    s *= 10 ** (snr_db / 20)
    noise = (rng.normal(size=(n, n_snapshots)) + 1j * rng.normal(size=(n, n_snapshots))) / np.sqrt(2)
    return Scene(steering @ s + noise, s, azimuth, distance)

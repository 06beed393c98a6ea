import math
import random

import numpy as np
import pytest

from blocks.calibration.phase_manifold import plane_wave_phase
from blocks.switched_array.bearing_and_offset import search_bearing_and_offset
from blocks.switched_array.slot_snapshots import slot_snapshots
from blocks.switched_array.slot_timing import ble_cte_timing
from hil.array import ArrayGeometry
from hil.errors import ParamError
from tests.blocks.switched_array.simulate import CHANNEL_MAP, RADIUS_M, WAVELENGTH_M, packet

TIMING = ble_cte_timing()
POSITION_M = ArrayGeometry.uca(8, RADIUS_M, channel_map=CHANNEL_MAP).channel_position_m
GRID = np.radians(np.arange(-45.0, 45.0, 0.5))


def ideal(azimuth):
    return plane_wave_phase(azimuth, POSITION_M, WAVELENGTH_M)


def draw(n, noise, seed=3):
    rng = random.Random(seed)
    azimuth = [rng.uniform(-math.pi, math.pi) for _ in range(n)]
    offset = [rng.uniform(-0.7, 0.7) for _ in range(n)]
    phase = [packet(a, f, rng, noise=noise) for a, f in zip(azimuth, offset, strict=True)]
    return np.array(azimuth), np.array(offset), slot_snapshots(phase, TIMING)


def wrap(x):
    return np.angle(np.exp(1j * x))


def test_exact_without_noise_off_the_grid():
    azimuth, offset, snapshots = draw(30, 0.0)
    got = search_bearing_and_offset(snapshots, TIMING, ideal, offset_grid_rad=GRID)
    np.testing.assert_allclose(wrap(got.azimuth_rad - azimuth), 0, atol=1e-6)
    np.testing.assert_allclose(got.offset_rad, offset, atol=1e-6)
    np.testing.assert_allclose(got.coherence, 1, atol=1e-6)


def test_errors_are_those_that_it_says():
    azimuth, offset, snapshots = draw(300, 0.2)
    got = search_bearing_and_offset(snapshots, TIMING, ideal, offset_grid_rad=GRID)
    # 300 draws: the standard deviation of a unit normal is known to 4 %
    assert np.std(wrap(got.azimuth_rad - azimuth) / got.azimuth_std_rad) == pytest.approx(1, abs=0.2)
    assert np.std((got.offset_rad - offset) / got.offset_std_rad) == pytest.approx(1, abs=0.2)


def test_a_prior_keeps_noisy_packets_in_the_right_lobe():
    azimuth, offset, snapshots = draw(200, 1.6, seed=5)
    free = search_bearing_and_offset(snapshots, TIMING, ideal, offset_grid_rad=GRID)
    prior = search_bearing_and_offset(
        snapshots, TIMING, ideal, offset_grid_rad=GRID, offset_mean_rad=offset, offset_std_rad=0.01
    )
    assert (np.abs(prior.offset_rad - offset) < 0.05).all()
    wild = [int((np.abs(wrap(g.azimuth_rad - azimuth)) > 0.5).sum()) for g in (free, prior)]
    assert wild[1] < wild[0]


def test_where_the_prior_is_nan_there_is_none():
    _, offset, snapshots = draw(4, 0.1)
    mean = np.array([np.nan, offset[1], np.nan, offset[3]])
    std = np.array([np.inf, 0.01, np.inf, 0.01])
    got = search_bearing_and_offset(
        snapshots, TIMING, ideal, offset_grid_rad=GRID, offset_mean_rad=mean, offset_std_rad=std
    )
    np.testing.assert_allclose(got.offset_rad, offset, atol=0.02)


def test_refuses_snapshots_of_another_timing():
    with pytest.raises(ParamError, match=r"\[packet, slot=29\], got \[2, 8\]"):
        search_bearing_and_offset(np.ones((2, 8), complex), TIMING, ideal, offset_grid_rad=GRID)

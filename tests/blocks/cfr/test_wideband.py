"""Directions over a band: beamforming and MUSIC with steering vectors of each sub-band."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest

from blocks.cfr.wideband import (
    dbf_power,
    find_directions,
    music_cost,
    number_of_bands,
    signal_subspaces,
    steering,
    sub_bands,
)
from hil.errors import EstimationError, ParamError
from tests.blocks.cfr.channels import C_M_S, CARRIER_HZ, line, noise, response

OFFSET_HZ = (np.arange(400) - 200) * 240e3  # 96 MHz
GRID = np.linspace(-np.pi / 2, np.pi / 2, 181)


def test_sub_bands_keep_the_phase_error_at_the_edge() -> None:
    """At endfire, of the outermost element, at the edge of a sub-band: pi (B / n) D / (2 c)."""
    aperture_m, span_hz = 4.0, 100e6
    n = number_of_bands(span_hz, aperture_m, 0.05)
    error_rad = 2 * math.pi * (span_hz / n / 2) * (aperture_m / 2) / C_M_S
    assert error_rad <= 0.05 < error_rad * n / (n - 1)
    assert number_of_bands(1e3, 0.1, 0.05) == 1


def test_steering_is_the_plane_wave_of_each_band() -> None:
    array, bands = line(3), np.array([3.45e9, 3.55e9])
    got = steering(array.channel_position_m, [0.3, -1.0], 0.2, bands)
    assert got.shape == (2, 2, 3)
    for b, f in enumerate(bands):
        for k, azimuth in enumerate((0.3, -1.0)):
            for m in range(3):
                along = float(array.channel_position_m[m, 0]) * math.sin(azimuth) * math.cos(0.2)
                assert got[b, k, m] == pytest.approx(cmath.exp(2j * math.pi * float(f) * along / C_M_S), abs=1e-9)


def test_covariances_are_means_over_the_subcarriers_of_a_part() -> None:
    h = noise((3, 10), 1.0, 1)
    bands = sub_bands(h, np.arange(10.0), 1e9, 3)
    assert bands.n_snapshots.tolist() == [4, 3, 3] and bands.frequency_hz.tolist() == [1e9 + f for f in (1.5, 5, 8)]
    part = h[:, 4:7]
    expected = sum(np.outer(part[:, k], part[:, k].conj()) for k in range(3)) / 3
    np.testing.assert_allclose(bands.covariance[1], expected, atol=1e-12)
    with pytest.raises(ParamError, match=r"cfr \[3, 10\], 9 frequencies, 3 bands"):
        sub_bands(h, np.arange(9.0), 1e9, 3)


def test_the_beamformer_gives_the_power_of_one_source() -> None:
    h = response(OFFSET_HZ, [(0.3, 50e-9, 0.5)])
    bands = sub_bands(h, OFFSET_HZ, CARRIER_HZ, 20)
    vector = steering(line().channel_position_m, [0.5], 0.0, bands.frequency_hz)
    assert dbf_power(bands, vector)[0] == pytest.approx(0.09, rel=1e-3)


@pytest.mark.parametrize("method", ["dbf", "music"])
@pytest.mark.parametrize("azimuth", [-1.1, 0.0, 0.4])
def test_one_path_is_found_between_the_points_of_the_grid(method: str, azimuth: float) -> None:
    h = response(OFFSET_HZ, [(0.3, 50e-9, azimuth)])
    bands = sub_bands(h, OFFSET_HZ, CARRIER_HZ, 8)
    found = find_directions(bands, line().channel_position_m, GRID, method, 1)  # type: ignore[arg-type]
    assert found.azimuth_rad[0] == pytest.approx(azimuth, abs=1e-3)
    assert found.power_db[0] == pytest.approx(20 * math.log10(0.3), abs=0.05)
    assert found.spectrum_db.shape == (181,)


def test_two_paths_of_different_delay_are_told_apart_by_music() -> None:
    """The band decorrelates them: their delays differ by 4.8 times one over the bandwidth."""
    h = response(OFFSET_HZ, [(0.3, 50e-9, -0.3), (0.2, 100e-9, 0.25)], n_sensors=8)
    bands = sub_bands(h + noise(h.shape, 1e-4, 2), OFFSET_HZ, CARRIER_HZ, 4)
    found = find_directions(bands, line(8).channel_position_m, GRID, "music", 2)
    assert sorted(found.azimuth_rad) == pytest.approx([-0.3, 0.25], abs=0.01)


def test_sub_bands_undo_the_squint_of_a_large_array() -> None:
    """64 elements, 96 MHz, 60 degrees: one steering vector for all is off by 20 times as much."""
    h = response(OFFSET_HZ, [(1.0, 0.0, math.pi / 3)], n_sensors=64)
    array = line(64)
    n = number_of_bands(96e6, array.aperture_m, 0.05)
    split, whole = (sub_bands(h, OFFSET_HZ, CARRIER_HZ, count) for count in (n, 1))
    lost = []
    for bands in (split, whole):
        signal, weight = signal_subspaces(bands, 1)
        vector = steering(array.channel_position_m, [math.pi / 3], 0.0, bands.frequency_hz)
        lost.append(float(music_cost(signal, weight, vector)[0]))
    assert 20 * lost[0] < lost[1]


def test_a_circle_has_no_ends() -> None:
    position = np.array([[0.1 * math.sin(t), 0.1 * math.cos(t), 0.0] for t in np.arange(5) * 2 * math.pi / 5])
    grid = np.linspace(-np.pi, np.pi, 360, endpoint=False)
    bands = sub_bands(np.ones((5, 4), complex), np.arange(4.0), 1e9, 1)
    for azimuth in (math.pi - 1e-3, -math.pi + 2e-3):
        a = steering(position, [azimuth], 0.0, bands.frequency_hz)[0, 0]
        one = bands._replace(covariance=np.outer(a, a.conj())[None])
        found = find_directions(one, position, grid, "music", 1, wraps=True)
        assert found.azimuth_rad[0] == pytest.approx(azimuth, abs=1e-3)


def test_what_nothing_can_be_found_in_is_refused() -> None:
    position = line().channel_position_m
    zero = sub_bands(np.zeros((4, 8), complex), np.arange(8.0), 1e9, 2)
    for method in ("dbf", "music"):
        with pytest.raises(EstimationError, match="zero at all antennas"):
            find_directions(zero, position, GRID, method, 1)  # type: ignore[arg-type]
        with pytest.raises(EstimationError, match="not finite"):
            find_directions(zero._replace(covariance=zero.covariance * np.nan), position, GRID, method, 1)  # type: ignore[arg-type]
    with pytest.raises(EstimationError, match="4 sources asked of 4 sensors, which tell at most 3"):
        signal_subspaces(zero, 4)
    with pytest.raises(EstimationError, match="3 sources asked of 2 subcarriers in a band"):
        signal_subspaces(sub_bands(np.ones((4, 8), complex), np.arange(8.0), 1e9, 4), 3)

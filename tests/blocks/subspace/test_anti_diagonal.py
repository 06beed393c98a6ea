"""The anti-diagonal against its closed form, and the angles and ranges that come of it."""

import numpy as np
import pytest

from blocks.subspace.anti_diagonal import anti_diagonal, reduced_dimension_music, subvector_covariance
from blocks.subspace.null_descent import Model
from blocks.subspace.range_music import range_grid, range_music
from blocks.subspace.signal_subspace import signal_subspace
from hil.array import ArrayGeometry, fresnel_distance_oblique
from hil.errors import EstimationError, ParamError
from hil.wavefront import steering_vector_polar
from tests.blocks.subspace.scene import LAMBDA, snapshots

AZIMUTH = np.array([0.26, -0.26, -0.52])


def covariance(n, model, ranges, noise=0.0):
    array = ArrayGeometry.ula(n, LAMBDA / 2)
    a = steering_vector_polar(array.position_m, AZIMUTH, np.asarray(ranges), LAMBDA, model=model).T
    return array, (a * [1.0, 2.0, 0.5]) @ a.conj().T + noise * np.eye(n)


@pytest.mark.parametrize("n", [16, 17])
def test_ranges_cancel_for_fresnel_waves(n):
    array, r = covariance(n, "fresnel", [2.0, 3.0, 4.0], noise=0.3)
    x = array.position_m[:, 0]
    expected = sum(
        g * np.exp(2j * np.pi / LAMBDA * 2 * x * np.sin(az)) for g, az in zip([1.0, 2.0, 0.5], AZIMUTH, strict=True)
    )
    np.testing.assert_allclose(anti_diagonal(r, 0.3), expected, atol=1e-12)  # Eq. (30)


def test_subvectors_against_the_definition():
    rng = np.random.default_rng(0)
    r = rng.normal(size=9) + 1j * rng.normal(size=9)
    parts = [r[m : m + 6] for m in range(4)]
    expected = sum(np.outer(p, p.conj()) for p in parts) / 4
    np.testing.assert_allclose(subvector_covariance(r, 4, backward=False), expected)
    mirrored = [p[::-1].conj() for p in parts]
    both = sum(np.outer(p, p.conj()) for p in parts + mirrored) / 8
    np.testing.assert_allclose(subvector_covariance(r, 4), both)


@pytest.mark.parametrize("n", [64, 65])
def test_exact_for_fresnel_waves_and_the_cubic_term_of_exact_ones(n):
    aperture = (n - 1) * LAMBDA / 2
    reach = fresnel_distance_oblique(aperture, LAMBDA)
    ranges = np.array([3.0, 4.0, 2.0]) * reach
    for model, bias in (("fresnel", 0.0), ("exact", -0.05)):
        array, r = covariance(n, model, ranges, noise=1e-9)
        found = reduced_dimension_music(
            r, Model(array.position_m, LAMBDA, False), AZIMUTH + 0.4 / n, 2 / n, range_grid(aperture, LAMBDA, reach)
        )
        assert found.in_window.all()
        sine_error = np.sin(found.azimuth_rad) - np.sin(AZIMUTH)
        expected = bias * (aperture / ranges) ** 2 * np.sin(AZIMUTH) * np.cos(AZIMUTH) ** 2
        np.testing.assert_allclose(sine_error, expected, atol=0.1 * np.abs(expected).max() + 1e-6)
        np.testing.assert_allclose(found.inverse_range_per_m * ranges, 1, atol=0.02)


def test_from_snapshots_and_torch():
    torch = pytest.importorskip("torch")
    array = ArrayGeometry.ula(64, LAMBDA / 2)
    ranges = np.array([3.0, 4.0, 2.0]) * fresnel_distance_oblique(array.aperture_m, LAMBDA)
    x = snapshots(array, AZIMUTH, ranges, 10, 200, np.random.default_rng(1)).x
    r = x @ x.conj().T / 200
    grid = range_grid(array.aperture_m, LAMBDA, ranges.min() / 2)
    found = reduced_dimension_music(r, Model(array.position_m, LAMBDA, True), AZIMUTH + 0.005, 0.03, grid)
    np.testing.assert_allclose(found.azimuth_rad, AZIMUTH, atol=0.05 / 64)
    np.testing.assert_allclose(found.inverse_range_per_m * ranges, 1, atol=0.1)
    ours, tensors = subvector_covariance(anti_diagonal(r), 32), subvector_covariance(anti_diagonal(torch.tensor(r)), 32)
    np.testing.assert_allclose(tensors.numpy(), ours, atol=1e-12)


def test_a_coarse_azimuth_beyond_the_window_is_told():
    array, r = covariance(64, "fresnel", [3.0, 4.0, 5.0], noise=1e-6)
    grid = range_grid(array.aperture_m, LAMBDA, 2.0)
    found = reduced_dimension_music(r, Model(array.position_m, LAMBDA, False), AZIMUTH + 0.04, 0.01, grid, n_sources=3)
    assert not (found.in_window & (found.angle_depth < 0.1)).any()


def test_range_along_a_known_direction():
    array, r = covariance(48, "exact", [1.5, 2.5, 1e9])
    model = Model(array.position_m, LAMBDA, False)
    found = range_music(signal_subspace(r, 3), model, AZIMUTH, np.zeros(3), range_grid(array.aperture_m, LAMBDA, 1.0))
    np.testing.assert_allclose(found.inverse_range_per_m, [1 / 1.5, 1 / 2.5, 0], atol=1e-5)
    np.testing.assert_allclose(found.depth, 0, atol=1e-9)


def test_refusals():
    array, r = covariance(8, "fresnel", [2.0, 3.0, 4.0])
    model = Model(array.position_m, LAMBDA, False)
    with pytest.raises(ParamError, match="the middle of 7 sensors carries the noise"):
        anti_diagonal(np.eye(7) + 0j)
    with pytest.raises(ParamError, match="1 <= n_subvectors < 8 sensors, got 8"):
        subvector_covariance(np.ones(8) + 0j, 8)
    with pytest.raises(ParamError, match="separates 1 to 4"):
        reduced_dimension_music(r, model, np.zeros(5), 0.1, np.array([0, 1.0]))
    with pytest.raises(EstimationError, match="not finite"):
        reduced_dimension_music(np.full((8, 8), np.nan + 0j), model, AZIMUTH, 0.1, np.array([0, 1.0]))
    with pytest.raises(ParamError, match="ascending inverse ranges"):
        range_music(np.eye(8)[:, :1] + 0j, model, np.zeros(1), np.zeros(1), np.array([1.0, 0.5]))

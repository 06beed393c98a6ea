"""Near- and far-field MUSIC off the grid: exactness without noise, the Cramer-Rao bound with it, and honesty."""

import numpy as np
import pytest

from blocks.bounds.cramer_rao import conditional_crb
from blocks.subspace.dictionary import Grid, steering_dictionary
from blocks.subspace.far_field_music import far_field_dictionary, far_field_music, far_field_spectrum
from blocks.subspace.maximum_likelihood import refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import near_field_music, near_field_music_samples
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.errors import EstimationError, ParamError
from tests.blocks.subspace.scene import LAMBDA, snapshots

ULA64 = ArrayGeometry.ula(64, LAMBDA / 2)


def sorted_by_azimuth(estimate):
    order = np.argsort(estimate.azimuth_rad)
    return estimate.azimuth_rad[order], estimate.inverse_range_per_m[order], estimate.covariance[order]


def estimate_of(scene, array, n_sources, **options):
    t = scene.x.shape[1]
    return near_field_music(scene.x @ scene.x.conj().T / t, steering_dictionary(array, LAMBDA), n_sources, t, **options)


@pytest.mark.parametrize("polish", [False, True])
@pytest.mark.parametrize(
    "array",
    [ArrayGeometry.ula(15, LAMBDA / 2), ULA64, ArrayGeometry.ura(12, 3, LAMBDA / 2), ArrayGeometry.uca(24, 0.2)],
    ids=["ula15", "ula64", "ura", "uca"],
)
def test_off_grid_places_come_back_when_there_is_next_to_no_noise(array, polish):
    near = fresnel_distance(array.aperture_m, LAMBDA)
    scene = snapshots(array, [0.31, -0.47], [1.7 * near, 2.3 * near], 80, 200, np.random.default_rng(0))
    estimate = estimate_of(scene, array, 2, polish=polish)
    assert estimate.complete
    azimuth, inverse_range, _ = sorted_by_azimuth(estimate)
    # 80 dB: the bound is 3,000 times smaller than at 10 dB
    np.testing.assert_allclose(azimuth, [-0.47, 0.31], atol=2e-6)
    np.testing.assert_allclose(1 / inverse_range, [2.3 * near, 1.7 * near], rtol=2e-4)


def monte_carlo(array, n_trials, seed, n_snapshots=100, from_samples=False, polish=True):
    """Errors over bound for two sources between Fresnel and half Fraunhofer, off the grid, 10 dB.

    The sources are apart by two beams or more: nearer ones meet a bound that includes their mutual information.
    """
    rng = np.random.default_rng(seed)
    near, far = (f(array.aperture_m, LAMBDA) for f in (fresnel_distance, fraunhofer_distance))
    beam = LAMBDA / array.aperture_m
    dictionary = steering_dictionary(array, LAMBDA)
    range_error, range_bound, azimuth_error, azimuth_bound, k_score, incomplete = [], [], [], [], [], 0
    for _ in range(n_trials):
        sines = np.sort(rng.uniform(-0.85, 0.85, 2))
        while sines[1] - sines[0] < 2 * beam:
            sines = np.sort(rng.uniform(-0.85, 0.85, 2))
        scene = snapshots(array, np.arcsin(sines), rng.uniform(near, far / 2, 2), 10, n_snapshots, rng)
        if from_samples:
            estimate = near_field_music_samples(scene.x, dictionary, 2, polish=polish)
        else:
            covariance = scene.x @ scene.x.conj().T / n_snapshots
            estimate = near_field_music(covariance, dictionary, 2, n_snapshots, polish=polish)
        if not estimate.complete:
            incomplete += 1
            continue
        s = scene.waveform
        bound = conditional_crb(
            array.position_m, scene.azimuth_rad, np.zeros(2), scene.range_m, LAMBDA, s @ s.conj().T / n_snapshots, 1.0,
            n_snapshots,
        )  # fmt: skip
        azimuth, inverse_range, covariance = sorted_by_azimuth(estimate)
        range_error.append(1 / inverse_range - scene.range_m)
        range_bound.append([bound[i, 1, i, 1] for i in range(2)])
        azimuth_error.append(azimuth - scene.azimuth_rad)
        azimuth_bound.append([bound[i, 0, i, 0] for i in range(2)])
        k_score.append((inverse_range - 1 / scene.range_m) / np.sqrt(covariance[:, 1, 1]))
    return {
        "range_ratio": np.sqrt(np.mean(np.square(range_error)) / np.mean(range_bound)),
        "range_normalized": np.sqrt(np.mean(np.square(range_error) / range_bound)),
        "azimuth_normalized": np.sqrt(np.mean(np.square(azimuth_error) / azimuth_bound)),
        "own_covariance": np.sqrt(np.mean(np.square(k_score))),
        "incomplete": incomplete,
    }


@pytest.mark.parametrize("polish", [False, True])
def test_single_frame_errors_reach_the_bound(polish):
    """The figure of the first system: range RMSE within 1.3 of the bound (500 trials: 3 % sampling error)."""
    result = monte_carlo(ULA64, 500, seed=1, polish=polish)
    assert result["incomplete"] == 0
    assert result["range_ratio"] < 1.15
    assert result["range_normalized"] < 1.15
    assert result["azimuth_normalized"] < 1.15
    # the covariance that tracking uses is neither bold nor timid
    assert 0.85 < result["own_covariance"] < 1.15


@pytest.mark.slow
def test_bound_at_other_sizes():
    for n, t, trials in ((15, 100, 1000), (128, 60, 300), (256, 100, 300)):
        result = monte_carlo(ArrayGeometry.ula(n, LAMBDA / 2), trials, seed=n, n_snapshots=t, from_samples=t < n)
        assert result["incomplete"] == 0
        assert result["range_ratio"] < 1.15, (n, result)
        assert result["azimuth_normalized"] < 1.15, (n, result)
        assert 0.85 < result["own_covariance"] < 1.15, (n, result)


def test_near_and_far_sources_together():
    array = ULA64
    scene = snapshots(array, [-0.4, 0.2, 0.7], [12.0, np.inf, 1e4], 10, 100, np.random.default_rng(5))
    estimate = estimate_of(scene, array, 3)
    assert estimate.complete
    order = np.argsort(estimate.azimuth_rad)
    assert estimate.far_field[order].tolist() == [False, True, True]
    np.testing.assert_allclose(estimate.azimuth_rad[order], [-0.4, 0.2, 0.7], atol=5e-4)
    assert estimate.range_m[order][0] == pytest.approx(12.0, abs=0.2)
    # four deviations of inverse range cover the truth, 0 and 1e-4
    deviation = np.sqrt(estimate.covariance[order][1:, 1, 1])
    assert (np.abs(estimate.inverse_range_per_m[order][1:] - [0, 1e-4]) < 4 * deviation).all()
    assert np.isfinite(estimate.covariance).all()


def test_power_and_noise_power():
    scene = snapshots(ULA64, [0.1, -0.6], [10.0, 20.0], 7, 4000, np.random.default_rng(6))
    estimate = estimate_of(scene, ULA64, 2)
    # 4,000 snapshots: 1.6 % of a power
    np.testing.assert_allclose(10 * np.log10(estimate.power), 7.0, atol=0.3)
    assert estimate.noise_power == pytest.approx(1.0, rel=0.02)


def test_one_beam_apart_and_same_direction_at_two_ranges_are_resolved():
    beam = LAMBDA / ULA64.aperture_m
    rng = np.random.default_rng(7)
    for azimuth, range_m in (([0.1, 0.1 + 0.7 * beam], [20.0, 25.0]), ([0.2, 0.2], [6.0, 14.0])):
        scene = snapshots(ULA64, azimuth, range_m, 20, 200, rng)
        estimate = estimate_of(scene, ULA64, 2)
        assert estimate.complete
        got = sorted(zip(estimate.azimuth_rad, estimate.range_m, strict=True), key=lambda s: s[1])
        np.testing.assert_allclose(got, list(zip(azimuth, range_m, strict=True)), rtol=0.05, atol=2e-3)


@pytest.mark.parametrize("beams_apart", [0.0, 0.1, 0.3])
def test_sources_without_nulls_of_their_own_are_separated_at_the_bound(beams_apart):
    """A near source passes in front of a far one: MUSIC alone shows one null, the likelihood two sources."""
    rng = np.random.default_rng(19)
    azimuth, range_m = [0.1, 0.1 + beams_apart * LAMBDA / ULA64.aperture_m], np.array([17.0, 43.0])
    score, alone = [], 0
    for _ in range(100):
        scene = snapshots(ULA64, azimuth, range_m, 10, 100, rng)
        alone += estimate_of(scene, ULA64, 2, polish=False).complete
        estimate = estimate_of(scene, ULA64, 2)
        assert estimate.complete
        s = scene.waveform
        bound = conditional_crb(
            ULA64.position_m, scene.azimuth_rad, np.zeros(2), range_m, LAMBDA, s @ s.conj().T / 100, 1.0, 100,
            parameters=("azimuth", "inverse_range"),
        )  # fmt: skip
        order = np.argsort(estimate.range_m)
        error = estimate.inverse_range_per_m[order] - 1 / range_m
        score.append(error / np.sqrt([bound[i, 1, i, 1] for i in range(2)]))
    assert alone < 50
    assert np.sqrt(np.mean(np.square(score))) < 1.2


def test_sources_too_close_are_fewer_and_said_to_be():
    beam = LAMBDA / ULA64.aperture_m
    scene = snapshots(ULA64, [0.1, 0.1 + 0.01 * beam], [20.0, 20.0], 0, 50, np.random.default_rng(8))
    estimate = estimate_of(scene, ULA64, 2)
    assert not estimate.complete
    assert estimate.resolved.sum() <= 1
    assert len(estimate.azimuth_rad) <= 2


def test_coherent_sources_are_flagged_never_passed_off_as_resolved():
    rng = np.random.default_rng(9)
    for _ in range(20):
        scene = snapshots(ULA64, [0.3, -0.2], [10.0, 20.0], 10, 100, rng, coherent=True)
        estimate = estimate_of(scene, ULA64, 2)
        assert not estimate.complete
        assert not estimate.resolved.all() or len(estimate.resolved) < 2


def test_asking_for_more_than_there_are_gives_those_there_are():
    rng = np.random.default_rng(10)
    for _ in range(20):
        scene = snapshots(ULA64, [0.3], [10.0], 10, 100, rng)
        estimate = estimate_of(scene, ULA64, 3)
        assert not estimate.complete
        assert estimate.resolved.sum() == 1
        assert estimate.azimuth_rad[estimate.resolved][0] == pytest.approx(0.3, abs=3e-4)


def test_source_on_the_edge_of_the_search_is_resolved():
    near = fresnel_distance(ULA64.aperture_m, LAMBDA)
    scene = snapshots(ULA64, [0.1], [near], 10, 100, np.random.default_rng(18))
    assert estimate_of(scene, ULA64, 1).complete


def test_source_nearer_than_searched_is_not_called_resolved():
    dictionary = steering_dictionary(ULA64, LAMBDA, Grid.coarse(ULA64, LAMBDA, range_min_m=10.0))
    scene = snapshots(ULA64, [0.1], [7.0], 20, 100, np.random.default_rng(11))
    estimate = near_field_music(scene.x @ scene.x.conj().T / 100, dictionary, 1, 100)
    assert not estimate.complete


def test_polishing_separates_coherent_sources_from_a_rough_start():
    """Deterministic maximum likelihood takes coherent sources in its stride where MUSIC has no subspace for them."""
    scene = snapshots(ULA64, [0.3, -0.2], [10.0, 20.0], 10, 100, np.random.default_rng(12), coherent=True)
    dictionary = steering_dictionary(ULA64, LAMBDA)
    fit = refine_maximum_likelihood(
        Moments.of_samples(scene.x), dictionary, np.array([0.302, -0.203]), np.array([1 / 10.5, 1 / 19.0])
    )
    np.testing.assert_allclose(fit.azimuth_rad, [0.3, -0.2], atol=4e-4)
    np.testing.assert_allclose(1 / fit.inverse_range_per_m, [10.0, 20.0], rtol=0.03)


def test_maximum_likelihood_is_a_minimum_and_moments_agree():
    scene = snapshots(ULA64, [0.3, -0.2], [10.0, 20.0], 10, 100, np.random.default_rng(13))
    dictionary = steering_dictionary(ULA64, LAMBDA)
    start = np.array([0.301, -0.2005]), np.array([1 / 10.3, 1 / 19.5])
    fit = refine_maximum_likelihood(Moments.of_samples(scene.x), dictionary, *start, tolerance=1e-4)
    other = Moments.of_covariance(scene.x @ scene.x.conj().T / 100, 100)
    np.testing.assert_allclose(
        refine_maximum_likelihood(other, dictionary, *start, tolerance=1e-4).azimuth_rad, fit.azimuth_rad, atol=1e-9
    )
    for d_az, d_k in ((1e-5, 0), (-1e-5, 0), (0, 1e-5), (0, -1e-5)):
        moved = refine_maximum_likelihood(
            other,
            dictionary,
            fit.azimuth_rad + np.array([d_az, 0]),
            fit.inverse_range_per_m + np.array([0, d_k]),
            max_iterations=0,
        )
        assert moved.cost > fit.cost


def test_coincident_starting_points_are_refused():
    scene = snapshots(ULA64, [0.3], [10.0], 10, 100, np.random.default_rng(14))
    with pytest.raises(EstimationError, match=r"of 2 sources some coincide"):
        refine_maximum_likelihood(
            Moments.of_samples(scene.x), steering_dictionary(ULA64, LAMBDA), np.array([0.0, 0.0]), np.zeros(2)
        )


def test_data_of_another_array_is_refused():
    with pytest.raises(ParamError, match="data of 8 sensors, dictionary of 64"):
        near_field_music(np.eye(8) + 0j, steering_dictionary(ULA64, LAMBDA), 1, 100)
    with pytest.raises(ParamError, match="1 <= n_sources < 64 sensors, got 64"):
        near_field_music(np.eye(64) + 0j, steering_dictionary(ULA64, LAMBDA), 64, 100)


class TestFarField:
    array = ArrayGeometry.ula(16, LAMBDA / 2)

    def test_angles_reach_the_bound_of_one_unknown(self):
        dictionary = far_field_dictionary(self.array, LAMBDA)
        rng = np.random.default_rng(15)
        score = []
        for _ in range(200):
            scene = snapshots(
                self.array, np.arcsin(rng.uniform([-0.8, 0.1], [-0.1, 0.8])), [np.inf, np.inf], 10, 256, rng
            )
            estimate = far_field_music(scene.x @ scene.x.conj().T / 256, dictionary, 2, 256)
            assert estimate.complete
            assert estimate.far_field.all()
            azimuth, _, covariance = sorted_by_azimuth(estimate)
            score.append((azimuth - scene.azimuth_rad) / np.sqrt(covariance[:, 0, 0]))
        assert 0.85 < np.sqrt(np.mean(np.square(score))) < 1.15

    def test_circle_across_the_seam(self):
        array = ArrayGeometry.uca(8, 0.0456 / (2 * np.sin(np.pi / 8)))
        dictionary = far_field_dictionary(array, LAMBDA)
        scene = snapshots(array, [np.pi - 0.01, -1.0], [np.inf, np.inf], 20, 200, np.random.default_rng(16))
        estimate = far_field_music(scene.x @ scene.x.conj().T / 200, dictionary, 2, 200)
        assert estimate.complete
        turn = (np.sort(estimate.azimuth_rad % (2 * np.pi))) - np.sort(np.array([np.pi - 0.01, -1.0]) % (2 * np.pi))
        np.testing.assert_allclose(turn, 0, atol=5e-3)

    def test_spectrum_peaks_at_the_sources(self):
        dictionary = far_field_dictionary(self.array, LAMBDA, 361)
        scene = snapshots(self.array, [0.3], [np.inf], 10, 256, np.random.default_rng(17))
        spectrum = far_field_spectrum(scene.x @ scene.x.conj().T / 256, dictionary, 1)
        assert spectrum.shape == (361,)
        assert dictionary.azimuth_rad[spectrum.argmax()] == pytest.approx(0.3, abs=0.01)

    def test_dictionary_with_ranges_is_refused(self):
        with pytest.raises(ParamError, match="build it with far_field_dictionary"):
            far_field_music(np.eye(16) + 0j, steering_dictionary(self.array, LAMBDA), 1, 100)

"""The benchmark's own arithmetic, and a few examples of it."""

import numpy as np
import pytest

from benchmarks.nf_subspace.cases import ALL, LEARNED, cases
from benchmarks.nf_subspace.kept import kept
from benchmarks.nf_subspace.methods import Found, Test, run
from benchmarks.nf_subspace.networks import choose
from benchmarks.nf_subspace.orders import CRITERIA, decided
from benchmarks.nf_subspace.published import WholePlaces, estimate
from benchmarks.nf_subspace.score import (
    MISSED_RAD,
    Score,
    mean_ci95,
    over_bound,
    position_bounds,
    root_mean_square_ci95,
    score,
)
from sim_device.near_field_places import NearFieldPlaces

Test.__test__ = False  # no test case of pytest


def examples(n=4, **data):
    places = NearFieldPlaces({"snr_db": (20, 20), "separation_rad": 0.3, **data}, 3, "test")
    return Test(places, places.batch(0, n))


def test_the_truth_has_no_error_and_a_missing_source_costs_what_is_said():
    test = examples(3)
    truth = [test.truth(i) for i in range(3)]
    assert score(test, truth).mean_m.max() < 1e-9
    short = [Found(t.azimuth_rad[:1], t.range_m[:1]) for t in truth]
    missed = score(test, short)
    np.testing.assert_allclose(missed.mean_m, test.limits_m[1] / 2)
    np.testing.assert_allclose(missed.angle_rad, MISSED_RAD / np.sqrt(2))
    np.testing.assert_allclose(missed.range_m, test.limits_m[1] / np.sqrt(2))
    assert missed.short.all()


def test_both_definitions_of_the_error():
    test = examples(1)
    t = test.truth(0)
    off = score(test, [Found(t.azimuth_rad[::-1], (t.range_m + np.array([0.3, 0.4]))[::-1])])
    root = np.sqrt((0.09 + 0.16) / 2)
    np.testing.assert_allclose([off.mean_m[0], off.rms_m[0], off.range_m[0]], [0.35, root, root])


def test_intervals():
    rng = np.random.default_rng(1)
    x = rng.normal(size=4000)
    mean, (low, high) = mean_ci95(x)
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(4000), rel=0.05) and low < mean < high
    root, (low, high) = root_mean_square_ci95(x)
    assert low < 1 < high and root == pytest.approx(1, abs=0.05)


def test_errors_drawn_at_the_bound_are_at_the_bound():
    test = examples(200)
    bounds = position_bounds(test)
    rng = np.random.default_rng(2)
    rms = np.sqrt((bounds * rng.normal(size=bounds.shape) ** 2).mean(1))
    ratio, (low, high), told = over_bound(Score(rms, rms, rms, rms, rms > 1e9), bounds)
    assert low < 1 < high and 0 < told <= 200 and ratio == pytest.approx(1, abs=0.3)


def test_non_coherent_sources_are_found_by_all_that_need_no_weights():
    test = examples()
    for name in ("2D MUSIC", "2D MUSIC refined", "greedy likelihood"):
        found, _ = run(name, test, test.n_sources)
        assert np.median(score(test, found).mean_m) < 1, name


def test_weights_are_chosen_by_their_card_and_what_they_are_not_made_for_is_told():
    assert choose("nf_subspacenet", examples(1, coherent=True, random_phase=True).places).foreign == ()
    far = choose("nf_subspacenet", examples(1, coherent=True, random_phase=True, n_snapshots=300).places)
    assert "snapshots" in far.foreign
    assert choose("nf_subspacenet", examples(1, array={"kind": "ula", "n": 12}).places) is None


def test_the_number_of_sources_weighs_most():
    chosen = choose("nf_subspacenet", examples(1, coherent=True, n_sources=(3, 3), n_snapshots=10).places)
    assert (chosen.name, chosen.foreign) == ("nf_subspacenet_n15_m8", ("snapshots",))


def test_a_baseline_with_weights_gives_places():
    test = examples(3, coherent=True, random_phase=True)
    found, told = run("DeepCNN", test, test.n_sources)
    assert told == "deep_cnn_n15" and all(len(f.azimuth_rad) == 2 for f in found)
    assert np.median(score(test, found).mean_m) < 10


def test_weights_that_know_where_elements_are_serve_that_array_alone():
    large = {"array": {"kind": "ula", "n": 64}, "frequency_hz": 5e9, "position_error_of": "array"}
    for eta, seed, there in ((0.25, 1, True), (0.25, 2, False), (0.1, 1, False)):
        places = examples(1, **large, position_error=eta, position_error_seed=seed).places
        assert (choose("nf_subspacenet", places) is not None) == there


def test_the_number_of_sources_is_decided_of_what_the_samples_show():
    test = examples(8, n_sources=(2, 4), separation_rad=0.35)
    for criterion in CRITERIA:
        order = decided("2D MUSIC", criterion, test)
        assert order.shape == (8,) and (order == test.n_sources).mean() > 0.5, criterion
    assert decided("DCD-MUSIC", "mdl", test) is None


def test_published_choices_fill_up_with_places_at_random():
    whole, rng = WholePlaces(), np.random.default_rng(0)
    flat = np.eye(15, dtype=complex)
    azimuth, ranges = estimate(flat, whole, 2, rng)
    assert azimuth.shape == ranges.shape == (2,)
    assert np.isin(azimuth, whole.azimuth_rad).all() and np.isin(ranges, whole.range_m).all()


def test_points_are_those_of_the_paper_and_methods_are_known():
    every = cases(quick=False)
    assert {c.figure for c in every} == {"4a", "4b", "4c", "4d", "5", "6", "7a", "7b", "8", "8b", "III"}
    assert len({c.label for c in every}) == len(every)
    assert all(name in (*ALL, *LEARNED) for c in every for name in c.methods)
    assert len(cases(quick=True)) < len(every)


def test_what_is_kept_is_not_run_again(tmp_path):
    made = Score(*(np.arange(3.0),) * 4, np.array([True, False, False]))
    first = kept(tmp_path, "a case; a method", lambda: made)
    again = kept(tmp_path, "a case; a method", lambda: pytest.fail("it is there"))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert kept(tmp_path, "no weights", lambda: None) is None and len(list(tmp_path.iterdir())) == 1

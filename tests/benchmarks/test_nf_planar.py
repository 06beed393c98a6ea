import numpy as np
import pytest

from benchmarks.nf_planar import MISSED_RAD, NAME, bounds, examples, measure_planar, methods, score
from benchmarks.report import Report
from blocks.neural.weights import load_card, weights_path
from blocks.subspace.planar_grid import planar_grid
from sim_device.near_field_places import NearFieldPlaces

LIMITS_M = (0.2, 0.8)
TRUTH = np.array([[0.3, 0.4, 0.5], [-0.6, -0.2, 0.7]])


def inverse(places):
    return np.column_stack([places[:, :2], 1 / places[:, 2]])


def test_what_is_exact_has_no_error_in_either_order():
    got = score(inverse(TRUTH[::-1]), TRUTH, LIMITS_M)
    np.testing.assert_allclose(got, (0, 0, 0, 0, False), atol=1e-7)


def test_a_source_that_is_missed_costs_the_farthest_range_and_a_right_angle():
    got = score(inverse(TRUTH[:1]), TRUTH, LIMITS_M)
    np.testing.assert_allclose(got, (0.4, 0.8 / np.sqrt(2), MISSED_RAD / 2, 0, True), atol=1e-7)


def test_angles_are_those_between_directions_and_ranges_are_held_within_the_limits():
    """A tenth of a radian up at the horizon's meridian, and a plane wave: its range is the farthest."""
    truth, found = np.array([[0.0, 0.2, 0.5]]), np.array([[0.0, 0.3, 0.0]])
    got = score(found, truth, LIMITS_M)
    assert got.angle_rad == pytest.approx(0.1)
    assert got.range_m == pytest.approx(0.3)
    law_of_cosines = np.sqrt(0.5**2 + 0.8**2 - 2 * 0.5 * 0.8 * np.cos(0.1))
    assert got.mean_m == got.rms_m == pytest.approx(law_of_cosines)


def test_sources_apart_are_placed_to_a_few_bounds():
    data = {**load_card(weights_path(NAME)).data, "snr_db": (20, 20), "separation_rad": 0.5, "n_snapshots": 60}
    places = NearFieldPlaces({**data, "n_snapshots_most": None, "coherent": False}, 3, "test")
    grid = planar_grid(places.array, places.wavelength_m, amplitude=True)
    for example in examples(places, 3):
        bound = bounds(example, grid)
        assert np.all(bound > 0)
        for name in ("planar MUSIC, refined", "greedy likelihood", "NF-SubspaceNet, block"):
            found = methods(grid)[name](example)
            found, truth = found[np.argsort(found[:, 0])], example.truth[np.argsort(example.truth[:, 0])]
            sigma = bound[np.argsort(example.truth[:, 0])]
            assert np.all(np.abs(1 / found[:, 2] - truth[:, 2]) < 5 * sigma[:, 1]), name
            assert np.all(np.abs(found[:, 1] - truth[:, 1]) < 5 * sigma[:, 0]), name


def test_rows_are_whole():
    report = Report("nf_planar", as_json=False)
    measure_planar(report, n=2)
    assert len(report.rows) == 2 * (4 + 6 * 9)
    assert all(np.isfinite(row.value) for row in report.rows)

"""The benchmark's own arithmetic, and one small point of it."""

import numpy as np
import pytest

from benchmarks.hi_aware import Point, Result, f1, figure_table, figures, ratio_ci, ratio_table, run_point


def test_ratio_and_its_interval():
    rng = np.random.default_rng(1)
    bound = np.full(4000, 2.0)
    value, (low, high) = ratio_ci(2.0 * 1.2**2 * rng.chisquare(1, 4000), bound)
    assert low < 1.2 < high and low < value < high
    assert high - low == pytest.approx(2 * 1.96 * 1.2 / np.sqrt(2 * 4000), rel=0.15)


def test_trials_that_gave_up_count_in_neither():
    value, _ = ratio_ci(np.array([4.0, np.nan, 4.0]), np.array([1.0, 100.0, 1.0]))
    assert value == 2


def test_f1_of_counts():
    assert f1(np.array([[3, 1, 0], [5, 0, 3]])) == pytest.approx(16 / 20)


def test_points_are_those_of_the_paper():
    drawn = figures(quick=False)
    assert {p.snr_db for p in drawn[6]} == set(range(-10, 31, 5))
    assert {p.p_fault for p in drawn[9]} == {0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14}
    assert all(len(p.targets[0]) == 1 for p in drawn[8])


@pytest.mark.slow
def test_one_point_is_the_same_every_time_and_ours_is_the_best():
    point = Point(n=64, snr_db=20.0)
    first, again = run_point(point, 4), run_point(point, 4)
    np.testing.assert_array_equal(first.azimuth2["ours"], again.azimuth2["ours"])
    assert np.nanmean(first.azimuth2["ours"]) < np.nanmean(first.azimuth2["HI"])
    assert "N=64, 20 dB, 2 %" in figure_table([point], {point: first})


def test_table_of_ratios():
    """Errors that are the bound's have ratio 1, with the draws taken out too; [HI]'s are ten times ours."""
    point = Point(n=64, snr_db=20.0)
    bound = np.full(6, 4.0)
    table = {m: bound for m in ("ours", "blind", "CRB", "blind CRB", "first order")} | {"HI": 100 * bound}
    counts = {m: np.tile([9.0, 1.0, 1.0], (6, 1)) for m in ("ours", "oracle")}
    nmse = {"ours": bound, "HI": 10 * bound}
    row = ratio_table({point: Result(table, table, table, nmse, counts)}).splitlines()[2]
    ones = " | ".join(["1.000 (1.000 .. 1.000)"] * 8)
    assert row == f"| N=64, 20 dB, 2 % | {ones} | 0.900 | 0.900 | 10, 10 | 10.0 | 6 |"

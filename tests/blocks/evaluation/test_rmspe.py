import datetime
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stonesoup.metricgenerator.ospametric import OSPAMetric
from stonesoup.types.state import State

from blocks.evaluation.rmspe import rmspe
from hil.errors import ParamError

POINTS = st.integers(1, 4).flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.floats(-50, 50)))


def test_is_equation_23_where_the_numbers_agree():
    truth = [[3.0, 20.0, 0.0], [-6.0, 40.0, 0.0]]
    estimate = [[-6.0, 36.0, 0.0], [3.0, 23.0, 0.0]]  # swapped; 3 m and 4 m off
    assert rmspe(estimate, truth, 100.0) == pytest.approx(math.sqrt((9 + 16) / 2))
    assert rmspe(estimate, truth, 100.0, order=1) == pytest.approx(3.5)
    assert rmspe(estimate, truth, math.inf) == pytest.approx(math.sqrt(12.5))


def test_missed_and_extra_sources_cost_the_cutoff():
    truth = [[0.0, 10.0, 0.0], [0.0, 20.0, 0.0]]
    assert rmspe([[0.0, 13.0, 0.0]], truth, 5.0) == pytest.approx(math.sqrt((9 + 25) / 2))
    assert rmspe([[0.0, 13.0, 0.0]], truth, 5.0, order=1) == pytest.approx((3 + 5) / 2)
    assert rmspe(np.zeros((0, 3)), truth, 5.0) == pytest.approx(5.0)
    assert rmspe([*truth, [9.0, 9.0, 9.0]], truth, 5.0) == pytest.approx(math.sqrt(25 / 3))
    assert rmspe([[0.0, 10.0, 0.0], [0.0, 90.0, 0.0]], truth, 5.0) == pytest.approx(math.sqrt(25 / 2))


def test_nothing_there_and_nothing_found_is_no_error():
    assert rmspe(np.zeros((0, 3)), np.zeros((0, 3)), 5.0) == 0.0


@given(POINTS, POINTS, st.floats(0.1, 60))
def test_order_1_is_stone_soups_ospa(estimate, truth, cutoff_m):
    # Its order 2 minimizes the plain sum and then takes squares, so only order 1 is compared with it.
    time = datetime.datetime(2026, 1, 1)
    states = [[State(np.reshape(p, (3, 1)), timestamp=time) for p in points] for points in (estimate, truth)]
    reference = OSPAMetric(c=cutoff_m, p=1).compute_OSPA_distance(*states).value
    assert rmspe(estimate, truth, cutoff_m, order=1) == pytest.approx(reference, rel=1e-9, abs=1e-9)


@given(POINTS, POINTS, st.floats(0.1, 60))
def test_order_2_is_the_best_permutation(estimate, truth, cutoff_m):
    small, large = sorted((estimate.tolist(), truth.tolist()), key=len)
    best = min(
        sum(min(math.dist(a, b), cutoff_m) ** 2 for a, b in zip(small, chosen, strict=True))
        for chosen in itertools.permutations(large, len(small))
    )
    expected = math.sqrt((best + cutoff_m**2 * (len(large) - len(small))) / len(large))
    assert rmspe(estimate, truth, cutoff_m) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(POINTS, POINTS, st.floats(0.1, 60), st.sampled_from([1, 2]))
def test_is_symmetric_and_bounded_by_the_cutoff(estimate, truth, cutoff_m, order):
    error = rmspe(estimate, truth, cutoff_m, order=order)
    assert error == pytest.approx(rmspe(truth, estimate, cutoff_m, order=order))
    assert 0 <= error <= cutoff_m * (1 + 1e-12)
    assert rmspe(truth, truth[::-1], cutoff_m, order=order) == pytest.approx(0, abs=1e-9)


def test_refuses_a_cutoff_that_says_nothing():
    with pytest.raises(ParamError, match="1 estimates for 2 sources need a finite cutoff_m, got inf"):
        rmspe(np.zeros((1, 3)), np.zeros((2, 3)), math.inf)
    with pytest.raises(ParamError, match="cutoff_m must be above 0, got -1"):
        rmspe(np.zeros((1, 3)), np.zeros((1, 3)), -1.0)

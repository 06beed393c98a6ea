import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blocks.evaluation.assignment import assign
from hil.errors import ParamError

POINTS = st.integers(0, 4).flatmap(lambda n: arrays(np.float64, (n, 3), elements=st.floats(-50, 50)))


def least_cost(estimate, truth, gate_m, order):
    """The definition, by trying every one-to-one map of the smaller set into the larger."""
    small, large = sorted((estimate.tolist(), truth.tolist()), key=len)
    costs = [
        sum(min(math.dist(a, b), gate_m) ** order for a, b in zip(small, chosen, strict=True))
        for chosen in itertools.permutations(large, len(small))
    ]
    return min(costs)


def test_pairs_the_nearest_and_counts_the_rest():
    truth = [[0.0, 10.0, 0.0], [5.0, 10.0, 0.0], [-40.0, 10.0, 0.0]]
    estimate = [[5.1, 10.0, 0.0], [0.0, 10.3, 0.0], [80.0, 0.0, 0.0]]
    pairs = assign(estimate, truth, gate_m=2.0)
    assert pairs.estimate.tolist() == [0, 1]
    assert pairs.truth.tolist() == [1, 0]
    assert pairs.distance_m == pytest.approx([0.1, 0.3])
    assert (pairs.n_missed, pairs.n_false) == (1, 1)


def test_order_decides_between_one_large_and_two_middling_errors():
    # In order 2.0 and 2.0, crosswise 3.3 and 0.1: crosswise is less in sum and more in squares.
    truth, estimate = [[0.0, 0.0], [2.0, 0.0]], [[-0.8, 1.83], [0.0, 0.1]]
    assert assign(estimate, truth, 10.0, order=1).truth.tolist() == [1, 0]
    assert assign(estimate, truth, 10.0, order=2).truth.tolist() == [0, 1]


@given(POINTS, POINTS, st.sampled_from([1, 2]), st.sampled_from([0.5, 20.0, math.inf]))
def test_cost_is_the_least_of_all_permutations(estimate, truth, order, gate_m):
    pairs = assign(estimate, truth, gate_m, order=order)
    n_dropped = min(len(estimate), len(truth)) - len(pairs.distance_m)
    cost = (pairs.distance_m**order).sum() + (gate_m**order * n_dropped if n_dropped else 0.0)
    assert cost == pytest.approx(least_cost(estimate, truth, gate_m, order), rel=1e-9, abs=1e-12)
    assert len(pairs.distance_m) + pairs.n_missed == len(truth)
    assert len(pairs.distance_m) + pairs.n_false == len(estimate)
    assert (pairs.distance_m <= gate_m).all()


@given(POINTS, POINTS, st.randoms(use_true_random=False))
def test_order_of_the_points_does_not_matter(estimate, truth, random):
    rows = random.sample(range(len(estimate)), len(estimate))
    columns = random.sample(range(len(truth)), len(truth))
    pairs, mixed = assign(estimate, truth, 20.0), assign(estimate[rows], truth[columns], 20.0)
    assert (mixed.distance_m**2).sum() + 400 * mixed.n_missed == pytest.approx(
        (pairs.distance_m**2).sum() + 400 * pairs.n_missed, rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize(
    ("estimate", "truth", "gate_m", "message"),
    [
        (np.zeros(3), np.zeros((1, 3)), 1.0, r"expected \[estimate, xyz\] and \[truth, xyz\], got \[3\] and \[1, 3\]"),
        (np.zeros((2, 2)), np.zeros((1, 3)), 1.0, r"got \[2, 2\] and \[1, 3\]"),
        (np.full((1, 3), np.nan), np.zeros((1, 3)), 1.0, "must be finite; leave out a source"),
        (np.zeros((1, 3)), np.zeros((1, 3)), 0.0, "gate_m must be above 0, got 0"),
    ],
)
def test_refuses(estimate, truth, gate_m, message):
    with pytest.raises(ParamError, match=message):
        assign(estimate, truth, gate_m)

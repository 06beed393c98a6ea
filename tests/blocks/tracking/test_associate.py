import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import multivariate_normal

from blocks.tracking.associate import associate
from blocks.tracking.innovations import innovations
from hil.errors import EstimationError

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(SHAPES.flatmap(lambda s: st.tuples(*[arrays(np.float64, s, elements=st.floats(0, 30))] * 2)))
def test_is_the_best_of_all_assignments(matrices):
    mahalanobis2, log_determinant = matrices
    gate, (n_tracks, n_detections) = 15.0, matrices[0].shape

    def cost(choice):
        missed = gate + log_determinant.max(axis=1)
        return sum(missed[t] if d is None else mahalanobis2[t, d] + log_determinant[t, d] for t, d in enumerate(choice))

    options = [[None, *(d for d in range(n_detections) if mahalanobis2[t, d] <= gate)] for t in range(n_tracks)]
    best = min(
        cost(c)
        for c in itertools.product(*options)
        if len({d for d in c if d is not None}) == sum(d is not None for d in c)
    )
    pairs = dict(associate(mahalanobis2, log_determinant, gate, range(n_tracks), range(n_detections)))
    assert cost([pairs.get(t) for t in range(n_tracks)]) == pytest.approx(best)


def test_takes_only_the_rows_and_columns_it_may():
    assert associate(np.zeros((3, 3)), np.zeros((3, 3)), 1.0, [2], [1]) == [(2, 1)]
    assert associate(np.zeros((3, 3)), np.zeros((3, 3)), 1.0, [], [1]) == []
    assert associate(np.full((1, 1), 2.0), np.zeros((1, 1)), 1.0, [0], [0]) == []


def test_innovations_add_up_to_the_likelihood_of_scipy():
    rng = np.random.default_rng(4)
    mean = rng.uniform(5, 20, (2, 6))
    root = rng.standard_normal((2, 6, 6))
    covariance = root @ np.swapaxes(root, 1, 2)
    position = rng.uniform(5, 20, (3, 3))
    noise = np.stack([np.diag([0.1, 0.2, 0.3])] * 3)
    seen = innovations(mean, covariance, position, noise, np.zeros(3), "cartesian")
    for t, d in itertools.product(range(2), range(3)):
        expected = multivariate_normal(mean[t, :3], covariance[t, :3, :3] + noise[d]).logpdf(position[d])
        got = -(seen.mahalanobis2[t, d] + seen.log_determinant[t, d] + 3 * np.log(2 * np.pi)) / 2
        assert got == pytest.approx(expected)


def test_refuses_an_indefinite_covariance():
    mean, covariance = np.array([[0.0, 9, 0, 0, 0, 0]]), 0.1 * np.eye(6)[None]
    with pytest.raises(EstimationError, match="not positive semidefinite"):
        innovations(mean, covariance, np.ones((1, 3)), -np.eye(3)[None], np.zeros(3), "cartesian")

import numpy as np
import pytest

from blocks.neural.planar_likeliest import explains_in_space, likeliest_in_space, settled_in_space
from blocks.subspace.moments import Moments
from blocks.subspace.planar_likelihood import planar_from_subspace
from tests.blocks.subspace.test_planar_likelihood import GRID, TRUE, in_order, samples


def of_random_subspace(moments, seed):
    """What a network that has learned nothing gives."""
    rng = np.random.default_rng(seed)
    signal = np.linalg.qr(rng.normal(size=(36, 3)) + 1j * rng.normal(size=(36, 3)))[0]
    return planar_from_subspace(signal, moments, GRID, polish=False)


@pytest.mark.parametrize("coherent", [False, True])
def test_a_poor_start_does_no_harm(coherent):
    moments = Moments.of_samples(samples(np.random.default_rng(6), coherent=coherent))
    poor = of_random_subspace(moments, 2)
    assert not explains_in_space(poor, moments, GRID)
    best = settled_in_space(poor, moments, GRID)
    assert explains_in_space(best, moments, GRID) and best.resolved.all()
    np.testing.assert_allclose(in_order(best.fit.point), TRUE, atol=1.5e-2)


def test_what_explains_the_samples_is_kept():
    moments = Moments.of_samples(samples(np.random.default_rng(6), coherent=False))
    good = likeliest_in_space(moments, GRID, 3, [])
    assert settled_in_space(good, moments, GRID) is good


def test_a_source_that_is_not_there_is_not_resolved():
    moments = Moments.of_samples(samples(np.random.default_rng(7), coherent=True))
    best = likeliest_in_space(moments, GRID, 4, [])
    assert best.n_requested == 4 and best.resolved.sum() == 3
    np.testing.assert_allclose(in_order(best.fit.point[best.resolved]), TRUE, atol=2e-2)

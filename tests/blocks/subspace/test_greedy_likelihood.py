import numpy as np
import pytest

from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.greedy_likelihood import explain_all, greedy_likelihood
from blocks.subspace.moments import Moments
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from hil.wavefront import steering_vector_polar

LINE = ArrayGeometry.ula(15, 0.5)
SEARCH = steering_dictionary(LINE, 1.0)
AZIMUTH, RANGE = np.array([-0.4, 0.05, 0.6]), np.array([12.0, 20.0, 9.0])


def samples(rng, *, coherent, noise=0.1, n=60):
    a = steering_vector_polar(LINE.channel_position_m, AZIMUTH, RANGE, 1.0, amplitude=True).T
    s = rng.normal(size=(3, n)) + 1j * rng.normal(size=(3, n))
    if coherent:
        s = np.exp([[0.3j], [1.9j], [-2j]]) * s[:1]
    return a @ s + noise * (rng.normal(size=(15, n)) + 1j * rng.normal(size=(15, n)))


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("as_covariance", [False, True])
def test_sources_are_found_from_nothing(coherent, as_covariance):
    x = samples(np.random.default_rng(3), coherent=coherent)
    moments = Moments.of_covariance(x @ x.conj().T / x.shape[1], 60) if as_covariance else Moments.of_samples(x)
    fit = greedy_likelihood(moments, SEARCH, 3)
    order = np.argsort(fit.azimuth_rad)
    off = np.stack([fit.azimuth_rad[order] - AZIMUTH, fit.inverse_range_per_m[order] - 1 / RANGE], -1)
    for d, bound in zip(off, fit.covariance[order], strict=True):
        assert d @ np.linalg.solve(bound, d) < 16


def test_without_noise_nothing_is_left():
    x = samples(np.random.default_rng(4), coherent=True, noise=1e-6)
    assert greedy_likelihood(Moments.of_samples(x), SEARCH, 3).cost < 1e-9


@pytest.mark.parametrize("coherent", [False, True])
def test_it_tells_how_many_there_are_where_eigenvalues_cannot(coherent):
    fit = explain_all(Moments.of_samples(samples(np.random.default_rng(5), coherent=coherent)), SEARCH, 6)
    np.testing.assert_allclose(np.sort(fit.azimuth_rad), AZIMUTH, atol=0.02)


def test_of_too_few_that_are_allowed_all_are_used():
    moments = Moments.of_samples(samples(np.random.default_rng(5), coherent=True))
    assert len(explain_all(moments, SEARCH, 2).azimuth_rad) == 2


def test_what_no_fit_can_come_from_is_refused():
    x = samples(np.random.default_rng(4), coherent=True)
    with pytest.raises(ParamError, match="n_sources < 15"):
        greedy_likelihood(Moments.of_samples(x), SEARCH, 15)
    with pytest.raises(EstimationError):
        greedy_likelihood(Moments.of_samples(0 * x), SEARCH, 2)

import numpy as np
import pytest

from blocks.subspace.moments import Moments
from blocks.subspace.planar_grid import grid_points, planar_grid
from blocks.subspace.planar_likelihood import greedy_planar, planar_from_subspace, planar_steering
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from hil.wavefront import steering_vector_polar

RECTANGLE = ArrayGeometry.ura(6, 6, 0.5)
GRID = planar_grid(RECTANGLE, 1.0, amplitude=True)
#: Azimuth, elevation, range.
PLACES = np.array([[-0.5, 0.4, 4.0], [0.4, -0.2, 6.0], [0.3, 0.6, 3.5]])


def waves(places):
    az, el, r = places.T
    a = steering_vector_polar(RECTANGLE.channel_position_m, az, r, 1.0, elevation_rad=el, amplitude=True)
    return a.T


def samples(rng, *, coherent, noise=0.1, n=60):
    s = rng.normal(size=(3, n)) + 1j * rng.normal(size=(3, n))
    if coherent:
        s = np.exp([[0.3j], [1.9j], [-2j]]) * s[:1]
    return waves(PLACES) @ s + noise * (rng.normal(size=(36, n)) + 1j * rng.normal(size=(36, n)))


def in_order(point):
    return point[np.argsort(point[:, 0])]


TRUE = in_order(np.column_stack([PLACES[:, :2], 1 / PLACES[:, 2]]))


@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("as_covariance", [False, True])
def test_sources_are_found_from_nothing(coherent, as_covariance):
    x = samples(np.random.default_rng(3), coherent=coherent)
    moments = Moments.of_covariance(x @ x.conj().T / x.shape[1], 60) if as_covariance else Moments.of_samples(x)
    fit = greedy_planar(moments, GRID, 3)
    order = np.argsort(fit.point[:, 0])
    for d, bound in zip(fit.point[order] - TRUE, fit.covariance[order], strict=True):
        assert d @ np.linalg.solve(bound, d) < 20


@pytest.mark.parametrize("polish", [False, True])
def test_nulls_of_a_subspace_are_the_sources(polish):
    x = samples(np.random.default_rng(4), coherent=False, noise=0.02)
    signal = np.linalg.svd(x)[0][:, :3]
    found = planar_from_subspace(signal, Moments.of_samples(x), GRID, polish=polish)
    assert found.n_requested == 3 and found.resolved.all()
    np.testing.assert_allclose(in_order(found.fit.point), TRUE, atol=3e-3)
    power = np.diag(found.fit.source_covariance).real[np.argsort(found.fit.point[:, 0])]
    np.testing.assert_allclose(power, 2.0, rtol=0.4)  # 60 snapshots of power 2


def test_a_subspace_without_nulls_gives_no_source():
    rng = np.random.default_rng(5)
    signal = np.linalg.qr(rng.normal(size=(36, 1)) + 1j * rng.normal(size=(36, 1)))[0]
    found = planar_from_subspace(signal, Moments.of_samples(samples(rng, coherent=True)), GRID)
    assert not found.resolved.any()
    assert found.fit is None or len(found.fit.point) <= 1


def test_steering_is_that_of_the_wavefront():
    point = np.column_stack([PLACES[:, :2], 1 / PLACES[:, 2]])
    np.testing.assert_allclose(planar_steering(GRID.model, point), waves(PLACES), atol=1e-12)


def test_points_of_the_grid_are_where_its_projection_is():
    """A steering vector at a point of the grid has a projection of one there."""
    n_range = len(GRID.inverse_range_per_m)
    at_v, at_u = (i[40] for i in np.nonzero(GRID.visible))
    index = np.ravel_multi_index((at_v, at_u, n_range - 1), (*GRID.visible.shape, n_range))
    a = planar_steering(GRID.model, grid_points(GRID, np.array([index])))
    assert GRID.projection(a / np.linalg.norm(a)).ravel()[index] == pytest.approx(1.0, abs=1e-5)


def test_what_no_fit_can_come_from_is_refused():
    x = samples(np.random.default_rng(4), coherent=True)
    with pytest.raises(ParamError, match="n_sources < 36"):
        greedy_planar(Moments.of_samples(x), GRID, 36)
    with pytest.raises(EstimationError):
        greedy_planar(Moments.of_samples(0 * x), GRID, 2)

"""Smoothing and Toeplitz averaging against loops, and what they do to coherent waves."""

import numpy as np
import pytest

from blocks.subspace.esprit import esprit
from blocks.subspace.planar_block import PlanarMusicFromCovariance
from blocks.subspace.signal_subspace import signal_subspace
from blocks.subspace.smoothing_block import RectangleSmoothing, SpatialSmoothing
from blocks.subspace.spatial_smoothing import smooth_line, smooth_rectangle
from blocks.subspace.toeplitz import ToeplitzAverage, diagonal_means, toeplitz_average, uniform_spacing
from hil.array import ArrayGeometry
from hil.descriptor import array_of, descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.subspace.frames import covariance_frame as cov_of
from tests.blocks.subspace.frames import given, told
from tests.blocks.subspace.scene import LAMBDA


def random_covariance(n, seed=0, batch=()):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*batch, n, 2 * n)) + 1j * rng.normal(size=(*batch, n, 2 * n))
    return x @ np.conj(np.swapaxes(x, -1, -2))


def test_smooth_line_against_a_loop():
    r = random_covariance(6, batch=(2,))
    smoothed = smooth_line(r, 4)
    for b, i, j in np.ndindex(2, 4, 4):
        assert smoothed[b, i, j] == pytest.approx(sum(r[b, i + s, j + s] for s in range(3)) / 3, rel=1e-12)
    both = smooth_line(r, 4, backward=True)
    np.testing.assert_allclose(both, (smoothed + smoothed[:, ::-1, ::-1].conj()) / 2, rtol=1e-12)


def test_smooth_rectangle_against_a_loop():
    rows, columns, sub = 3, 4, (2, 3)
    r = random_covariance(rows * columns)
    expected = np.zeros((6, 6), complex)
    for top in range(2):
        for left in range(2):
            index = [(top + i) * columns + left + j for i in range(sub[0]) for j in range(sub[1])]
            expected += r[np.ix_(index, index)] / 4
    np.testing.assert_allclose(smooth_rectangle(r, (rows, columns), sub), expected, rtol=1e-12)


def test_toeplitz_against_a_loop():
    r = random_covariance(5, batch=(2,))
    t = toeplitz_average(r)
    for b, i, j in np.ndindex(2, 5, 5):
        same = [r[b, m, k] for m in range(5) for k in range(5) if m - k == i - j]
        assert t[b, i, j] == pytest.approx(sum(same) / len(same), rel=1e-12)
    np.testing.assert_allclose(diagonal_means(r)[:, 0].real, np.trace(r, axis1=1, axis2=2).real / 5, rtol=1e-12)


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    r = random_covariance(6)
    tensor = torch.tensor(r)
    np.testing.assert_allclose(toeplitz_average(tensor).numpy(), toeplitz_average(r), atol=1e-12)
    np.testing.assert_allclose(smooth_line(tensor, 4, backward=True).numpy(), smooth_line(r, 4, backward=True))
    np.testing.assert_allclose(smooth_rectangle(tensor, (2, 3), (1, 2)).numpy(), smooth_rectangle(r, (2, 3), (1, 2)))


def coherent(n, phases):
    a = np.exp(1j * np.outer(np.arange(n), phases)).sum(axis=1)
    return np.outer(a, a.conj())


def test_smoothing_restores_the_rank_of_coherent_waves_without_bias():
    phases = [-0.9, 0.4, 1.3]
    r = coherent(10, phases)
    assert np.linalg.matrix_rank(r, tol=1e-8) == 1
    smoothed = smooth_line(r, 7)
    assert np.linalg.matrix_rank(smoothed, tol=1e-8) == 3
    np.testing.assert_allclose(esprit(signal_subspace(smoothed, 3)).phase_rad, phases, atol=1e-9)


def test_smoothing_a_rectangle_restores_the_rank():
    u, v = np.array([-0.9, 0.4]), np.array([0.3, 1.1])
    a = sum(np.exp(1j * (v[i] * np.arange(4)[:, None] + u[i] * np.arange(5))).ravel() for i in range(2))
    r = np.outer(a, a.conj())
    assert np.linalg.matrix_rank(smooth_rectangle(r, (4, 5), (3, 4)), tol=1e-8) == 2


def test_toeplitz_restores_the_rank_of_coherent_waves():
    values = np.linalg.eigvalsh(toeplitz_average(coherent(12, [-0.9, 0.9])))
    assert values[-2] > 0.3 * values[-1]  # 0 before


def covariance_frame(r, seq=0):
    return Frame.of(
        Header("cov.covariance", seq), covariance=(r, "sensor sensor", "FS^2"), n_snapshots=(np.array(50), "", "")
    )


def test_smoothing_block_describes_the_subarray():
    block = SpatialSmoothing("smooth", n_sub=6, backward=False)
    array = ArrayGeometry.ula(8, 0.03, array_id="roof")
    ((_, told),) = block.feed("covariance", descriptor_frame(Header("cov.covariance", 0), array, {"seed": 3}))
    assert array_of(told) == ArrayGeometry.ula(6, 0.03, array_id="roof/6")
    assert told.header.meta["seed"] == 3
    r = random_covariance(8)
    ((_, out),) = block.feed("covariance", covariance_frame(r))
    assert out.header.array_id == "roof/6"
    np.testing.assert_allclose(out["covariance"], smooth_line(r, 6), rtol=1e-12)


def test_rectangle_smoothing_block_describes_the_subarray_and_separates_coherent_waves():
    """Two echoes of one waveform: one null before, two directions behind the smoothing, off the grid."""
    array = ArrayGeometry.ura(8, 6, LAMBDA / 2, array_id="wall")
    truth = np.array([[-0.3, 0.2], [0.35, -0.25]])  # azimuth, elevation
    a = sum(
        np.exp(2j * np.pi / LAMBDA * array.position_m @ [np.cos(e) * np.sin(z), np.cos(e) * np.cos(z), np.sin(e)])
        for z, e in truth
    )
    rng = np.random.default_rng(3)
    s = rng.normal(size=200) + 1j * rng.normal(size=200)
    x = np.outer(a, s) + 0.1 * (rng.normal(size=(48, 200)) + 1j * rng.normal(size=(48, 200)))
    smooth = told(RectangleSmoothing("smooth", n_rows=4, n_columns=6), array)
    ((_, described),) = smooth.feed("covariance", descriptor_frame(Header("cov", 0), array, {"seed": 3}))
    sub = array_of(described)
    np.testing.assert_allclose(sub.position_m, ArrayGeometry.ura(6, 4, LAMBDA / 2).position_m, atol=1e-12)
    assert sub.array_id == "wall/4x6"
    assert described.header.meta["seed"] == 3
    smoothed = given(smooth, covariance=cov_of(x))
    r = x @ x.conj().T / 200
    np.testing.assert_allclose(smoothed["covariance"], smooth_rectangle(r, (6, 8), (4, 6), backward=True), rtol=1e-9)
    planar = told(PlanarMusicFromCovariance("planar", n_sources=2, far_field_only=True, polish=False), sub)
    out = given(planar, covariance=smoothed)
    order = np.argsort(out["azimuth_rad"])
    np.testing.assert_allclose(out["azimuth_rad"][order], truth[:, 0], atol=5e-3)
    np.testing.assert_allclose(out["elevation_rad"][order], truth[:, 1], atol=5e-3)
    alone = told(PlanarMusicFromCovariance("planar", n_sources=2, far_field_only=True, polish=False), array)
    assert given(alone, covariance=cov_of(x)).header.meta["n_unresolved"] >= 1
    with pytest.raises(ParamError, match=r"subarrays of 7 x 2 elements of array 'wall', which has 6 x 8"):
        told(RectangleSmoothing("smooth", n_rows=7, n_columns=2), array)


def test_toeplitz_block():
    block = ToeplitzAverage("toeplitz")
    r = random_covariance(4)
    block.feed("covariance", descriptor_frame(Header("cov.covariance", 0), ArrayGeometry.ula(4, 0.03)))
    ((_, out),) = block.feed("covariance", covariance_frame(r))
    np.testing.assert_allclose(out["covariance"], toeplitz_average(r))


def test_refusals():
    r = random_covariance(6)
    with pytest.raises(ParamError, match=r"1 <= n_sub <= 6 sensors, got 7"):
        smooth_line(r, 7)
    with pytest.raises(ParamError, match=r"2 x 4 elements, covariance of 6 sensors"):
        smooth_rectangle(r, (2, 4), (1, 2))
    with pytest.raises(ParamError, match=r"within \(2, 3\), got \(3, 1\)"):
        smooth_rectangle(r, (2, 3), (3, 1))
    with pytest.raises(ParamError, match="expected a uniform line along x"):
        uniform_spacing(ArrayGeometry.uca(6, 0.1).position_m)
    with pytest.raises(EstimationError, match=r"smooth: no array descriptor"):
        SpatialSmoothing("smooth", n_sub=4).feed("covariance", covariance_frame(r))
    with pytest.raises(ParamError, match=r"n_sub 9 is more than the 6 elements"):
        SpatialSmoothing("smooth", n_sub=9).feed(
            "covariance", descriptor_frame(Header("cov.covariance", 0), ArrayGeometry.ula(6, 0.03))
        )

"""Derivatives by another route, and descents, batches, lines and planes against the truth and each other."""

import numpy as np
import pytest
from scipy.optimize import minimize

from blocks.bounds.cramer_rao import stochastic_crb
from blocks.bounds.steering_derivative import steering_derivatives
from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.far_field_music import far_field_dictionary, far_field_music
from blocks.subspace.joint_likelihood import refine_jointly
from blocks.subspace.line_music import line_grid, line_music
from blocks.subspace.maximum_likelihood import refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_batch import near_field_music_batch
from blocks.subspace.near_field_music import near_field_music_samples
from blocks.subspace.null_descent import Box, Model, descend_nulls
from blocks.subspace.planar_block import PlanarMusic
from blocks.subspace.planar_grid import planar_grid
from blocks.subspace.planar_music import planar_music
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from blocks.subspace.steering_rows import steering_rows
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.subspace.scene import FREQUENCY_HZ, LAMBDA, snapshots


@pytest.mark.parametrize("amplitude", [False, True])
@pytest.mark.parametrize("wanted", [("azimuth", "inverse_range"), ("inverse_range", "elevation", "azimuth"), ()])
def test_rows_agree_with_the_derivatives(amplitude, wanted):
    rng = np.random.default_rng(0)
    p, az, el, k = rng.normal(size=(5, 3)), rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.random((2, 3)) / 5
    expected = steering_derivatives(p, az, el, k, 0.7, amplitude=amplitude)
    rows = steering_rows(p, az, el, k, 0.7, amplitude=amplitude, wanted=wanted)
    for i, name in enumerate(("a", *wanted)):
        np.testing.assert_allclose(rows[:, :, i], getattr(expected, name), atol=1e-11)
    flat = steering_rows(p, az[0], 0.3, k[0], 0.7, amplitude=amplitude, wanted=wanted)
    both = steering_rows(p, az[0], np.full(3, 0.3), k[0], 0.7, amplitude=amplitude, wanted=wanted)
    np.testing.assert_allclose(flat, both, atol=1e-14)


def planar_scene(rng, n_sources=2, snr_db=15):
    """Samples by distances alone, and the truth as azimuth, elevation, inverse range."""
    array = ArrayGeometry.ura(8, 8, LAMBDA / 2)
    far = 2 * array.aperture_m**2 / LAMBDA
    point = np.stack(
        [
            np.array([-0.5, 0.6])[:n_sources] + rng.uniform(-0.1, 0.1, n_sources),
            np.array([0.3, -0.3])[:n_sources] + rng.uniform(-0.1, 0.1, n_sources),
            rng.uniform(1, 4, n_sources) / far,
        ],
        axis=-1,
    )
    az, el, k = point.T
    place = np.stack([np.cos(el) * np.sin(az), np.cos(el) * np.cos(az), np.sin(el)], axis=-1) / k[:, None]
    r_m = np.linalg.norm(array.position_m[:, None] - place, axis=-1)
    a = np.exp(-2j * np.pi / LAMBDA * (r_m - 1 / k)) / (k * r_m)
    s = (rng.normal(size=(n_sources, 80)) + 1j * rng.normal(size=(n_sources, 80))) / np.sqrt(2) * 10 ** (snr_db / 20)
    noise = (rng.normal(size=(64, 80)) + 1j * rng.normal(size=(64, 80))) / np.sqrt(2)
    return array, a @ s + noise, point


def test_planar_music_and_likelihood_reach_the_bound():
    rng = np.random.default_rng(1)
    scaled_music, scaled_ml, claimed = [], [], []
    for _ in range(40):
        array, x, truth = planar_scene(rng)
        grid = planar_grid(array, LAMBDA, amplitude=True)
        found = planar_music(signal_subspace_from_samples(x, 2), grid)
        assert found.resolved.all()
        point = np.stack(found[:3], axis=-1)[np.argsort(found.azimuth_rad)]
        fit = refine_jointly(Moments.of_samples(x), grid.model, point, grid.box, grid.free)
        assert fit.converged
        bound = stochastic_crb(
            array.position_m, *truth[:, :2].T, 1 / truth[:, 2], LAMBDA, 10**1.5 * np.eye(2), 1.0, 80,
            parameters=("azimuth", "elevation", "inverse_range"),
        )  # fmt: skip
        sigma = np.sqrt([np.diag(bound[i, :, i, :]) for i in range(2)])
        scaled_music.append((point - truth) / sigma)
        scaled_ml.append((fit.point - truth) / sigma)
        claimed.append(np.sqrt(np.diagonal(fit.covariance, axis1=1, axis2=2)) / sigma)
    # 80 errors a coordinate: their root mean square is known to 8 %
    for scaled in (scaled_music, scaled_ml):
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(scaled), axis=(0, 1))), 1, atol=0.25)
    np.testing.assert_allclose(np.mean(claimed, axis=(0, 1)), 1, atol=0.1)


def test_two_ranges_in_one_direction():
    array = ArrayGeometry.ura(24, 24, LAMBDA / 2)
    far = 2 * array.aperture_m**2 / LAMBDA
    grid = planar_grid(array, LAMBDA, range_min_m=far / 12)
    k = np.array([2.0, 10.0]) / far
    rows = steering_rows(array.position_m, np.full(2, 0.2), 0.1, k, LAMBDA, amplitude=False, wanted=())
    found = planar_music(np.linalg.qr(rows[:, 0].T)[0], grid)
    np.testing.assert_allclose(np.sort(found.inverse_range_per_m), k, rtol=1e-3)
    np.testing.assert_allclose(found.azimuth_rad, 0.2, atol=1e-4)


def test_fits_of_lines_are_the_minimum_that_a_simplex_finds():
    """Coherent sources; the cost written out with a pseudo-inverse, its minimum by scipy without derivatives."""
    array = ArrayGeometry.ula(24, LAMBDA / 2)
    azimuth, distance = np.array([-0.3, 0.4]), np.array([2.0, 3.0])
    x = snapshots(array, azimuth, distance, 10, 50, np.random.default_rng(2), coherent=True).x
    moments = Moments.of_samples(x)

    def cost(values):
        a = steering_rows(
            array.position_m, values[:2], 0.0, values[2:] / 10, LAMBDA, amplitude=True, wanted=()
        )[:, 0].T  # fmt: skip
        return np.linalg.norm(x - a @ (np.linalg.pinv(a) @ x)) ** 2 / np.linalg.norm(x) ** 2

    start = np.concatenate([azimuth + 0.01, 10 / distance])
    options = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000, "maxfev": 4000}
    best = minimize(cost, start, method="Nelder-Mead", options=options)
    dictionary = steering_dictionary(array, LAMBDA)
    line = refine_maximum_likelihood(moments, dictionary, azimuth + 0.01, 1 / distance, tolerance=1e-3)
    np.testing.assert_allclose(line.azimuth_rad, best.x[:2], atol=1e-6)
    np.testing.assert_allclose(line.inverse_range_per_m, best.x[2:] / 10, atol=1e-5)
    assert line.cost == pytest.approx(best.fun, rel=1e-6)
    k_low, k_high = dictionary.grid.inverse_range_limits_per_m
    box = Box(np.array([-1.5, -1.5, k_low]), np.array([1.5, 1.5, k_high]), np.array([0.05, 1.0, 0.1]))
    point = np.stack([azimuth + 0.01, np.zeros(2), 1 / distance], axis=-1)
    model = Model(array.position_m, LAMBDA, True)
    joint = refine_jointly(moments, model, point, box, ("azimuth", "inverse_range"), tolerance=1e-3)
    assert joint.converged
    np.testing.assert_allclose(joint.point[:, 0], best.x[:2], atol=1e-6)
    np.testing.assert_allclose(joint.point[:, 2], best.x[2:] / 10, atol=1e-5)


def test_descent_holds_coordinates_at_their_limits():
    array = ArrayGeometry.ula(16, LAMBDA / 2)
    rows = steering_rows(array.position_m, np.array([0.3]), 0.0, np.array([0.8]), LAMBDA, amplitude=False, wanted=())
    signal = rows[:, 0].T / 4
    box = Box(np.array([-1.5, 0, 0]), np.array([1.5, 0, 0.5]), np.array([0.1, 1, 0.2]))
    model = Model(array.position_m, LAMBDA, False)
    ended = descend_nulls(signal, model, np.array([[0.28, 0.0, 0.3]]), box, ("azimuth", "inverse_range"))
    assert ended.point[0, 2] == 0.5
    assert ended.converged.all()


def test_batch_gives_the_estimates_of_the_single_frames():
    array, rng = ArrayGeometry.ula(15, LAMBDA / 2), np.random.default_rng(5)
    dictionary = steering_dictionary(array, LAMBDA)
    far = 2 * array.aperture_m**2 / LAMBDA
    x = np.stack(
        [
            snapshots(
                array, np.arcsin(np.array([-0.4, 0.4]) + rng.uniform(-0.25, 0.25, 2)), rng.uniform(0.12, 1, 2) * far,
                10, 100, rng,
            ).x
            for _ in range(40)
        ]
    )  # fmt: skip
    batch = near_field_music_batch(x, dictionary, 2)
    assert batch.resolved.mean() > 0.97
    for i in range(40):
        single = near_field_music_samples(x[i], dictionary, 2, polish=False)
        if batch.resolved[i].all() and single.complete:
            order, other = np.argsort(batch.azimuth_rad[i]), np.argsort(single.azimuth_rad)
            # a hundredth of the standard deviation of 5e-4 rad
            assert np.abs(batch.azimuth_rad[i, order] - single.azimuth_rad[other]).max() < 5e-5


@pytest.mark.parametrize("array", [ArrayGeometry.ula(12, LAMBDA / 2), ArrayGeometry.uca(12, LAMBDA)])
def test_batches_of_plane_waves(array):
    """Also across the seam of a full circle, where azimuths of pi and -pi are one."""
    rng, dictionary = np.random.default_rng(6), far_field_dictionary(array, LAMBDA)
    azimuth = np.array([-0.5, 0.4]) if array.is_linear else np.array([np.pi - 1e-3, 0.4])
    x = np.stack([snapshots(array, azimuth, [np.inf, np.inf], 20, 80, rng).x for _ in range(5)])
    found = near_field_music_batch(x, dictionary, 2)
    assert found.resolved.all()
    for i, frame in enumerate(x):
        alone = far_field_music(frame @ frame.conj().T / 80, dictionary, 2, 80, polish=False)
        turn = found.azimuth_rad[i][:, None] - alone.azimuth_rad
        assert (np.abs((turn + np.pi) % (2 * np.pi) - np.pi).min(axis=1) < 1e-5).all()
    assert (found.inverse_range_per_m == 0).all()


def test_batch_says_what_it_did_not_find():
    array = ArrayGeometry.ula(15, LAMBDA / 2)
    x = snapshots(array, [0.2, 0.2], [2.0, 2.0], 20, 50, np.random.default_rng(0)).x[None]
    found = near_field_music_batch(x, steering_dictionary(array, LAMBDA), 2)
    assert not found.resolved.all()
    assert np.isnan(found.azimuth_rad[~found.found]).all()
    assert (found.depth[~found.found] == 1).all()


def test_line_music_spectrum_and_peaks():
    rng = np.random.default_rng(7)
    array, azimuth = ArrayGeometry.ula(16, LAMBDA / 2), np.array([-0.413, 0.2071])
    grid = line_grid(16, LAMBDA / 2, LAMBDA, 361)
    scene = snapshots(array, azimuth, [np.inf, np.inf], 20, 256, rng)
    x = scene.x.astype(np.complex64)
    found = line_music(x, grid, 2)
    _, vectors = np.linalg.eigh(scene.x @ scene.x.conj().T)
    noise = vectors[:, :-2]
    a = np.exp(2j * np.pi / LAMBDA * array.position_m[:, :1] * np.sin(grid.azimuth_rad))
    expected = 16 / (np.abs(noise.conj().T @ a) ** 2).sum(axis=0)
    np.testing.assert_allclose(found.spectrum, expected, rtol=2e-2)  # single precision at the peaks of 1e3
    np.testing.assert_allclose(np.sort(found.azimuth_rad), azimuth, atol=1e-3)
    on_grid = line_music(x, grid, 2, refine=False)
    assert set(on_grid.azimuth_rad) <= set(grid.azimuth_rad)
    a_hat = np.exp(2j * np.pi / LAMBDA * array.position_m[:, :1] * np.sin(found.azimuth_rad))
    np.testing.assert_allclose(found.depth, (np.abs(noise.conj().T @ a_hat) ** 2).sum(axis=0) / 16, atol=1e-5)


@pytest.mark.parametrize("azimuth", [-np.pi / 2, np.pi / 2 - 1e-3])
def test_line_music_at_endfire(azimuth):
    array = ArrayGeometry.ula(8, 0.4 * LAMBDA)
    x = snapshots(array, [azimuth], [np.inf], 20, 64, np.random.default_rng(0)).x.astype(np.complex64)
    found = line_music(x, line_grid(8, 0.4 * LAMBDA, LAMBDA, 181), 1)
    assert np.sin(found.azimuth_rad[0]) == pytest.approx(np.sin(azimuth), abs=0.02)


def iq_frame(x):
    header = Header("dev.iq", 0, frequency_hz=FREQUENCY_HZ)
    return Frame.of(header, iq=(x.astype(np.complex64), "sensor snapshot", "FS"))


def test_planar_block():
    array, x, truth = planar_scene(np.random.default_rng(9))
    block = PlanarMusic("planar", n_sources=2)
    with pytest.raises(EstimationError, match="planar: no array descriptor"):
        block.feed("iq", iq_frame(x))
    block.feed("iq", descriptor_frame(Header("dev.iq", 0), array))
    ((_, out),) = block.feed("iq", iq_frame(x))
    order = np.argsort(out["azimuth_rad"])
    sigma = np.sqrt(np.diagonal(out["polar_covariance"], axis1=1, axis2=2))[order]
    error = np.stack([out["azimuth_rad"], out["elevation_rad"], 1 / out["range_m"]], axis=-1)[order] - truth
    assert (np.abs(error) < 4.5 * sigma).all()
    np.testing.assert_allclose(out["power_db"], 15, atol=1)
    assert out.header.meta == {"n_requested": 2, "n_unresolved": 0}


def test_planar_block_of_plane_waves():
    array = ArrayGeometry.ura(6, 6, LAMBDA / 2)
    u = np.array([np.cos(0.2) * np.sin(0.4), np.cos(0.2) * np.cos(0.4), np.sin(0.2)])
    rng = np.random.default_rng(0)
    s = rng.normal(size=40) + 1j * rng.normal(size=40)
    x = np.outer(np.exp(2j * np.pi / LAMBDA * array.position_m @ u), s)
    x = x + 0.1 * (rng.normal(size=x.shape) + 1j * rng.normal(size=x.shape))
    block = PlanarMusic("planar", far_field_only=True, polish=False)
    block.feed("iq", descriptor_frame(Header("dev.iq", 0), array))
    ((_, out),) = block.feed("iq", iq_frame(x))
    assert (out["azimuth_rad"][0], out["elevation_rad"][0]) == pytest.approx((0.4, 0.2), abs=0.01)
    assert np.isinf(out["range_m"]).all()


def test_refusals():
    line, x = ArrayGeometry.ula(15, LAMBDA / 2), np.ones((1, 15, 20)) + 0j
    with pytest.raises(ParamError, match="a line sees no elevation"):
        planar_grid(line, LAMBDA)
    with pytest.raises(ParamError, match=r"expected \[batch, sensor=15, snapshot\]"):
        near_field_music_batch(x[0], steering_dictionary(line, LAMBDA), 2)
    with pytest.raises(EstimationError, match="not finite"):
        near_field_music_batch(x * np.nan, steering_dictionary(line, LAMBDA), 2)
    grid = line_grid(15, LAMBDA / 2, LAMBDA, 181)
    with pytest.raises(ParamError, match="complex64"):
        line_music(x[0], grid, 2)
    with pytest.raises(EstimationError, match="power nan; expected a finite positive one"):
        line_music((x[0] * np.nan).astype(np.complex64), grid, 2)
    with pytest.raises(ParamError, match="expected n_azimuth >="):
        line_grid(64, LAMBDA / 2, LAMBDA, 181)
    planar = planar_grid(ArrayGeometry.ura(4, 4, LAMBDA / 2), LAMBDA)
    with pytest.raises(ParamError, match="grid of 16 sensors"):
        planar_music(np.eye(8, 2) + 0j, planar)
    start = np.zeros((2, 3))
    with pytest.raises(EstimationError, match="some coincide"):
        refine_jointly(Moments.of_samples(x[0]), Model(line.position_m, LAMBDA, False), start, planar.box, ("azimuth",))
    block = PlanarMusic("planar", n_sources=5)
    block.feed("iq", descriptor_frame(Header("dev.iq", 0), ArrayGeometry.ura(2, 2, LAMBDA / 2)))
    with pytest.raises(EstimationError, match="tell at most 3 apart"):
        block.feed("iq", iq_frame(np.ones((4, 9))))

"""Torch arrays and batch axes give what NumPy gives frame by frame; gradients agree with finite differences."""

import numpy as np
import pytest

from blocks.subspace.anti_diagonal import reduced_dimension_music
from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.joint_likelihood import refine_jointly
from blocks.subspace.joint_likelihood_batch import refine_jointly_batch
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_batch import near_field_music_batch
from blocks.subspace.null_descent import Box, Model, descend_nulls
from blocks.subspace.range_music import range_grid, range_music
from blocks.subspace.root_music import root_music
from blocks.subspace.signal_subspace import signal_subspace, split_subspaces
from blocks.subspace.steering_rows import steering_rows
from blocks.subspace.track_subspace import block_power_step, past_update
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from tests.blocks.subspace.scene import LAMBDA, snapshots

torch = pytest.importorskip("torch")

LINE = ArrayGeometry.ula(20, LAMBDA / 2)
MODEL = Model(LINE.position_m, LAMBDA, True)
AZIMUTH, RANGE_M = np.array([-0.3, 0.4]), np.array([2.5, 4.0])
BOX = Box(np.array([-np.pi / 2, -np.pi / 2, 0.0]), np.array([np.pi / 2, np.pi / 2, 1.5]), np.array([0.1, 0.1, 0.1]))
FREE = ("azimuth", "inverse_range")


def covariances(n=6, t=80, snr_db=10, range_m=RANGE_M):
    frames = [snapshots(LINE, AZIMUTH, range_m, snr_db, t, np.random.default_rng(i)).x for i in range(n)]
    return np.stack([x @ x.conj().T / t for x in frames])


def starts(n=6):
    rng = np.random.default_rng(9)
    point = np.zeros((n, 2, 3))
    point[..., 0] = AZIMUTH + rng.uniform(-0.02, 0.02, (n, 2))
    point[..., 2] = 1 / RANGE_M + rng.uniform(-0.03, 0.03, (n, 2))
    return point


def as_torch(x):
    return torch.tensor(np.array(x))


def same(torch_values, numpy_values, **tolerance):
    np.testing.assert_allclose(torch_values.detach().numpy(), numpy_values, **tolerance)


@pytest.mark.parametrize("amplitude", [False, True])
def test_steering_rows(amplitude):
    rng = np.random.default_rng(0)
    az, el, k = rng.normal(size=(3, 2, 4))
    wanted = ("inverse_range", "azimuth", "elevation")
    rows = steering_rows(LINE.position_m, az, el, np.abs(k) / 9, LAMBDA, amplitude=amplitude, wanted=wanted)
    other = steering_rows(
        LINE.position_m, as_torch(az), as_torch(el), as_torch(np.abs(k) / 9), LAMBDA, amplitude=amplitude, wanted=wanted
    )
    same(other, rows, atol=1e-11)
    flat = steering_rows(LINE.position_m, as_torch(az), 0.2, as_torch(np.abs(k) / 9), LAMBDA, amplitude=amplitude)
    same(flat, steering_rows(LINE.position_m, az, 0.2, np.abs(k) / 9, LAMBDA, amplitude=amplitude), atol=1e-11)


@pytest.mark.parametrize("free", [("azimuth",), FREE, ("azimuth", "elevation", "inverse_range")])
def test_descents(free):
    array = ArrayGeometry.ura(4, 5, LAMBDA / 2)
    model = Model(array.position_m, LAMBDA, False)
    x = [snapshots(array, AZIMUTH, RANGE_M, 15, 80, np.random.default_rng(i)).x for i in range(3)]
    signal = split_subspaces(np.stack([f @ f.conj().T / 80 for f in x]), 2).signal
    one = [descend_nulls(s, model, p, BOX, free, tolerance=1e-8) for s, p in zip(signal, starts(3), strict=True)]
    batch = descend_nulls(signal, model, starts(3), BOX, free, tolerance=1e-8)
    other = descend_nulls(as_torch(signal), model, as_torch(starts(3)), BOX, free, tolerance=1e-8)
    np.testing.assert_allclose(batch.point, [o.point for o in one], atol=1e-6)
    same(other.point, batch.point, atol=1e-6)
    same(other.depth, batch.depth, atol=1e-9)
    usual = [descend_nulls(kind(signal), model, kind(starts(3)), BOX, free) for kind in (np.asarray, as_torch)]
    assert usual[0].converged.all()
    same(usual[1].converged, usual[0].converged)


def test_descent_holds_what_is_at_its_limit_in_both():
    signal = split_subspaces(covariances(2), 2).signal
    tight = Box(BOX.low, np.array([np.pi / 2, np.pi / 2, 0.3]), BOX.step)
    batch = descend_nulls(signal, MODEL, np.minimum(starts(2), [9, 9, 0.3]), tight, FREE)
    other = descend_nulls(as_torch(signal), MODEL, as_torch(np.minimum(starts(2), [9, 9, 0.3])), tight, FREE)
    assert batch.point[0, 0, 2] == 0.3
    same(other.point, batch.point, atol=1e-5)


def test_root_music():
    signal = split_subspaces(covariances(range_m=np.full(2, np.inf)), 2).signal
    one = [root_music(s) for s in signal]
    batch, other = root_music(signal), root_music(as_torch(signal))
    np.testing.assert_allclose(batch.phase_rad, [o.phase_rad for o in one], atol=1e-9)
    np.testing.assert_allclose(batch.phase_rad, np.pi * np.sin(AZIMUTH) + 0 * batch.phase_rad, atol=0.02)
    same(other.phase_rad, batch.phase_rad, atol=1e-9)
    same(other.radius, batch.radius, atol=1e-9)


def test_range_music():
    signal = split_subspaces(covariances(), 2).signal
    azimuth, elevation = AZIMUTH + np.zeros((6, 2)), np.zeros((6, 2))
    grid = range_grid(LINE.aperture_m, LAMBDA, 0.8)
    one = [range_music(s, MODEL, AZIMUTH, np.zeros(2), grid).inverse_range_per_m for s in signal]
    batch = range_music(signal, MODEL, azimuth, elevation, grid)
    other = range_music(as_torch(signal), MODEL, as_torch(azimuth), as_torch(elevation), grid)
    np.testing.assert_allclose(batch.inverse_range_per_m, one, atol=1e-6)
    same(other.inverse_range_per_m, batch.inverse_range_per_m, atol=1e-6)


@pytest.mark.parametrize("n", [20, 19])
def test_reduced_dimension_music(n):
    line = ArrayGeometry.ula(n, LAMBDA / 2)
    frames = [snapshots(line, AZIMUTH, RANGE_M, 15, 200, np.random.default_rng(i)).x for i in range(4)]
    covariance = np.stack([x @ x.conj().T / 200 for x in frames])
    model, coarse = Model(line.position_m, LAMBDA, False), AZIMUTH + np.full((4, 2), 0.02)
    grid = range_grid(line.aperture_m, LAMBDA, 0.8)
    one = [reduced_dimension_music(r, model, c, 0.1, grid) for r, c in zip(covariance, coarse, strict=True)]
    batch = reduced_dimension_music(covariance, model, coarse, 0.1, grid)
    other = reduced_dimension_music(as_torch(covariance), model, as_torch(coarse), 0.1, grid)
    for name in batch._fields:
        np.testing.assert_allclose(getattr(batch, name), [getattr(o, name) for o in one], atol=1e-6)
        same(getattr(other, name), getattr(batch, name), atol=1e-6)


@pytest.mark.parametrize("samples", [True, False])
def test_power_step_and_past(samples):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 8, 30)) + 1j * rng.normal(size=(3, 8, 30))
    data = x if samples else x @ np.conj(np.swapaxes(x, 1, 2)) / 30
    before = np.linalg.qr(rng.normal(size=(3, 8, 3)) + 0j)[0]
    one = [block_power_step(d, b, samples=samples, n_steps=2) for d, b in zip(data, before, strict=True)]
    batch = block_power_step(data, before, samples=samples, n_steps=2)
    other = block_power_step(as_torch(data), as_torch(before), samples=samples, n_steps=2)
    for name in ("eigenvalues", "residual"):
        np.testing.assert_allclose(getattr(batch, name), [getattr(o, name) for o in one], rtol=1e-9)
        same(getattr(other, name), getattr(batch, name), rtol=1e-9)
    projector = batch.vectors @ np.conj(np.swapaxes(batch.vectors, 1, 2))
    same(other.vectors @ other.vectors.mH, projector, atol=1e-10)
    inverse = np.stack([np.eye(3) + 0j] * 3)
    alone = [past_update(b, np.eye(3) + 0j, d[:, 0], 0.9) for b, d in zip(before, data, strict=True)]
    w, p = past_update(before, inverse, data[..., 0], 0.9)
    other_w, other_p = past_update(as_torch(before), as_torch(inverse), as_torch(data[..., 0]), 0.9)
    for i in range(2):
        np.testing.assert_allclose((w, p)[i], [a[i] for a in alone], atol=1e-12)
        same((other_w, other_p)[i], (w, p)[i], atol=1e-12)


@pytest.mark.parametrize("array", [LINE, ArrayGeometry.uca(16, LAMBDA)])
def test_near_field_music_batch(array):
    x = np.stack([snapshots(array, AZIMUTH, RANGE_M, 10, 60, np.random.default_rng(i)).x for i in range(20)])
    dictionary = steering_dictionary(array, LAMBDA)
    ours, other = near_field_music_batch(x, dictionary, 2), near_field_music_batch(as_torch(x), dictionary, 2)
    assert ours.resolved.all()
    same(other.resolved, ours.resolved)
    same(other.azimuth_rad, ours.azimuth_rad, atol=1e-6)
    same(other.inverse_range_per_m, ours.inverse_range_per_m, atol=1e-5)
    with pytest.raises(EstimationError, match="the data are not finite"):
        near_field_music_batch(as_torch(np.where(np.arange(60) == 3, np.nan, x)), dictionary, 2)


@pytest.mark.parametrize("coherent", [False, True])
def test_joint_likelihood_in_batches(coherent):
    frames = [
        snapshots(LINE, AZIMUTH, RANGE_M, 10, 80, np.random.default_rng(i), coherent=coherent).x for i in range(6)
    ]
    covariance = np.stack([x @ x.conj().T / 80 for x in frames])
    batch = refine_jointly_batch(covariance, 80, MODEL, starts(), BOX, FREE, tolerance=1e-6, max_iterations=60)
    other = refine_jointly_batch(
        as_torch(covariance), 80, MODEL, as_torch(starts()), BOX, FREE, tolerance=1e-6, max_iterations=60
    )
    assert batch.converged.all()
    for i, r in enumerate(covariance):
        alone = refine_jointly(
            Moments.of_covariance(r, 80), MODEL, starts()[i], BOX, FREE, tolerance=1e-6, max_iterations=60
        )
        deviation = np.sqrt(alone.covariance[:, [0, 1], [0, 1]])
        assert (np.abs(batch.point[i][:, ::2] - alone.point[:, ::2]) < 1e-3 * deviation).all()
        np.testing.assert_allclose(batch.covariance[i], alone.covariance, rtol=1e-3, atol=1e-12)
        np.testing.assert_allclose(batch.source_covariance[i], alone.source_covariance, rtol=1e-4)
        assert batch.noise_power[i] == pytest.approx(alone.noise_power)
        assert batch.cost[i] == pytest.approx(alone.cost)
    for name in batch._fields:
        same(getattr(other, name), getattr(batch, name), rtol=1e-5, atol=1e-8)


def test_sources_that_coincide_spoil_their_frame_alone():
    covariance, point = covariances(3), starts(3)
    point[1] = point[1, 0]
    fine = refine_jointly_batch(covariance[[0, 2]], 80, MODEL, point[[0, 2]], BOX, FREE)
    for kind in (np.asarray, as_torch):
        fit = refine_jointly_batch(kind(covariance), 80, MODEL, kind(point), BOX, FREE)
        assert np.isnan(np.asarray(fit.point[1])).all() and not bool(fit.converged[1])
        assert np.isnan(np.asarray(fit.covariance[1])).all()
        np.testing.assert_allclose(np.asarray(fit.point)[[0, 2]], fine.point, atol=1e-9)
    with pytest.raises(EstimationError, match="not finite"):
        refine_jointly_batch(covariance * np.nan, 80, MODEL, point, BOX, FREE)
    with pytest.raises(ParamError, match="20 sources, 20 sensors"):
        refine_jointly_batch(covariance[0], 80, MODEL, np.zeros((20, 3)), BOX, FREE)


def derivative(function, covariance, direction, step):
    return (function(covariance + step * direction) - function(covariance - step * direction)) / (2 * step)


@pytest.mark.parametrize("name", ["likelihood", "root_music", "music"])
def test_gradients_are_those_of_finite_differences(name):
    """Of a weighted sum of estimates, in the direction of a random change of the covariance, through all of it."""
    far = name == "root_music"
    covariance = covariances(2, range_m=np.full(2, np.inf) if far else RANGE_M)
    rng = np.random.default_rng(3)
    change = rng.normal(size=covariance.shape) + 1j * rng.normal(size=covariance.shape)
    change = change + np.conj(np.swapaxes(change, 1, 2))
    weight = rng.normal(size=(2, 2))

    def estimate(r):
        if name == "root_music":
            return root_music(split_subspaces(r, 2).signal).phase_rad
        start = torch.tensor(starts(2)) if isinstance(r, torch.Tensor) else starts(2)
        if name == "music":
            return descend_nulls(
                split_subspaces(r, 2).signal, MODEL, start, BOX, FREE, tolerance=1e-11, max_iterations=80
            ).point[..., 2]
        return refine_jointly_batch(r, 80, MODEL, start, BOX, FREE, tolerance=1e-9, max_iterations=80).point[..., 2]

    def by_numpy(r):
        return float(np.sum(weight * estimate(r)))

    leaf = torch.tensor(covariance, requires_grad=True)
    value = torch.sum(torch.tensor(weight) * estimate(leaf))
    value.backward()
    assert value.item() == pytest.approx(by_numpy(covariance), rel=1e-6)
    # minima are found to 1e-8 or so, where the cost is flat to rounding: the step of the difference is far above that
    # torch's gradient of a complex leaf is that of its real and imaginary parts
    along = float(np.sum((leaf.grad.numpy().conj() * change).real))
    assert along == pytest.approx(derivative(by_numpy, covariance, change, 3e-3), rel=2e-3)


def test_the_numpy_subspace_of_one_is_that_of_the_batch():
    r = covariances(1)
    one, batch = signal_subspace(r[0], 2), split_subspaces(r, 2).signal[0]
    np.testing.assert_allclose(one @ one.conj().T, batch @ batch.conj().T, atol=1e-10)

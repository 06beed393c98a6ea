"""Tracked subspaces against eigendecompositions of the same data."""

import numpy as np
import pytest

from blocks.subspace.sample_covariance import rank_one_update
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from blocks.subspace.track_subspace import SubspaceTracker, block_power_step, past_update
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from tests.blocks.subspace.scene import LAMBDA, snapshots

ARRAY = ArrayGeometry.ula(32, LAMBDA / 2)


def frames(n, rng, n_sources=2, snr_db=10, step=1e-3):
    for i in range(n):
        azimuth = np.array([-0.4, 0.3, 0.9])[:n_sources] + step * i
        yield snapshots(ARRAY, azimuth, np.full(n_sources, np.inf), snr_db, 60, rng).x


def sine_of_angle(u, v):
    q, _ = np.linalg.qr(u)
    return np.linalg.norm(v - q @ (q.conj().T @ v), 2)


def test_rank_one_update_is_the_sample_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 8)) + 1j * rng.normal(size=(2, 3, 8))
    r = np.zeros((2, 3, 3), complex)
    for t in range(8):
        r = rank_one_update(r, x[..., t], 1 - 1 / (t + 1))
    np.testing.assert_allclose(r, np.einsum("bit,bjt->bij", x, x.conj()) / 8, atol=1e-13)
    torch = pytest.importorskip("torch")
    again = rank_one_update(torch.tensor(r), torch.tensor(x[..., 0]), 0.5)
    np.testing.assert_allclose(again.numpy(), rank_one_update(r, x[..., 0], 0.5), atol=1e-13)


@pytest.mark.parametrize("samples", [True, False])
def test_steps_converge_to_the_eigenvectors(samples):
    (x,) = frames(1, np.random.default_rng(1))
    data = x if samples else x @ x.conj().T / 60
    values, vectors = np.linalg.eigh(x @ x.conj().T / 60)
    start = np.linalg.qr(np.random.default_rng(2).normal(size=(32, 4)) + 0j)[0]
    ritz = block_power_step(data, start, samples=samples, n_steps=30)
    np.testing.assert_allclose(ritz.eigenvalues[:2], values[-2:][::-1], rtol=1e-9)
    assert sine_of_angle(vectors[:, -2:], ritz.vectors[:, :2]) < 1e-8
    assert ritz.residual[:2].max() < 1e-8


def test_tracker_stays_within_its_tolerance_and_rarely_starts_anew():
    tracker = SubspaceTracker(2, tolerance=0.02)
    for x in frames(40, np.random.default_rng(3)):
        assert sine_of_angle(signal_subspace_from_samples(x, 2), tracker.update(x)) < 0.02
    assert tracker.n_cold == 1
    assert tracker.n_warm == 39


def test_tracker_follows_a_jump():
    tracker, rng = SubspaceTracker(2), np.random.default_rng(4)
    for x in (*frames(5, rng), *(f[::-1] for f in frames(3, rng))):
        assert sine_of_angle(signal_subspace_from_samples(x, 2), tracker.update(x)) < 0.02
    tracker.forget()
    tracker.update(x)
    assert tracker.n_cold >= 2


def test_tracker_takes_covariances_and_new_sizes():
    tracker = SubspaceTracker(1)
    for n in (16, 16, 8):
        x = next(frames(1, np.random.default_rng(5)))[:n]
        r = x @ x.conj().T / 60
        u = tracker.update(r, samples=False)
        assert sine_of_angle(signal_subspace_from_samples(x, 1), u) < 0.02
    assert tracker.n_cold == 2


def test_past_converges():
    rng = np.random.default_rng(6)
    w, p = np.eye(32, 2) + 0j, np.eye(2) + 0j
    for x in frames(10, rng, step=0.0):
        for t in range(x.shape[1]):
            w, p = past_update(w, p, x[:, t], 0.99)
    a = np.exp(1j * np.pi * np.outer(np.arange(32), np.sin([-0.4, 0.3])))
    # noise of 100 effective snapshots turns the subspace by sqrt(30 / (100 N SNR)) = 0.03 at 10 dB
    assert sine_of_angle(w, np.linalg.qr(a)[0]) < 0.1


def test_refusals():
    with pytest.raises(ParamError, match=r"0 < forgetting <= 1, got 0"):
        past_update(np.eye(2) + 0j, np.eye(2) + 0j, np.ones(2), 0)
    with pytest.raises(ParamError, match="expected n_sources, n_guards, max_steps >= 1"):
        SubspaceTracker(0)
    with pytest.raises(EstimationError, match=r"3 sources of data \[8, 3\]"):
        SubspaceTracker(3).update(np.ones((8, 3)) + 0j)
    with pytest.raises(ParamError, match="data of 4 sensors, subspace of 3"):
        block_power_step(np.ones((4, 5)) + 0j, np.eye(3) + 0j)
    with pytest.raises(EstimationError, match="leading power"):
        block_power_step(np.zeros((4, 5)) + 0j, np.eye(4, 2) + 0j)

"""The recursive covariance against rank-one updates one by one, and against the mean where nothing is forgotten."""

import numpy as np
import pytest

from blocks.subspace.recursive_covariance import RecursiveCovariance, rank_one_updates
from blocks.subspace.sample_covariance import rank_one_update
from hil.errors import ParamError
from tests.blocks.subspace.frames import HEADER, given, iq_frame


def samples(n=4, t=30, seed=0, batch=()):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*batch, n, t)) + 1j * rng.normal(size=(*batch, n, t))


@pytest.mark.parametrize("forgetting", [0.0, 0.9])
def test_one_product_is_all_updates(forgetting):
    torch = pytest.importorskip("torch")
    x, r = samples(batch=(2,)), np.broadcast_to(np.eye(4) + 0j, (2, 4, 4))
    expected = r
    for t in range(30):
        expected = rank_one_update(expected, x[..., t], forgetting)
    np.testing.assert_allclose(rank_one_updates(r, x, forgetting), expected, atol=1e-12)
    tensor = rank_one_updates(torch.tensor(np.array(r)), torch.tensor(x), forgetting)
    np.testing.assert_allclose(tensor.numpy(), expected, atol=1e-12)
    single = rank_one_updates(r.astype(np.complex64), x.astype(np.complex64), forgetting)
    assert single.dtype == np.complex64


def test_the_cut_into_frames_does_not_matter():
    x = samples(t=60).astype(np.complex64)
    whole = given(RecursiveCovariance("cov", memory=12.0), iq=iq_frame(x))
    block = RecursiveCovariance("cov", memory=12.0)
    for first in range(0, 60, 7):
        out = given(block, iq=iq_frame(x[:, first : first + 7]))
    np.testing.assert_allclose(out["covariance"], whole["covariance"], rtol=1e-10)
    weight = (11 / 12) ** np.arange(59, -1, -1.0)
    exact = x.astype(complex)
    np.testing.assert_allclose(out["covariance"], (exact * weight) @ exact.conj().T / weight.sum(), rtol=1e-10)
    assert out["n_snapshots"] == whole["n_snapshots"] == round(weight.sum() ** 2 / (weight**2).sum())


def test_a_long_memory_is_the_sample_mean_and_an_epoch_ends_it():
    x = samples(t=50).astype(np.complex64)
    block = RecursiveCovariance("cov", memory=1e9)
    given(block, iq=iq_frame(x))
    other = samples(t=50, seed=1).astype(np.complex64)
    out = given(block, iq=iq_frame(other, HEADER.replace(epoch=2)))
    np.testing.assert_allclose(out["covariance"], other.astype(complex) @ other.conj().T / 50, rtol=1e-5)
    assert out["n_snapshots"] == 50


def test_refusals():
    with pytest.raises(ParamError, match="expected 0 <= forgetting < 1, got 1"):
        rank_one_updates(np.eye(2) + 0j, samples(2), 1)
    with pytest.raises(ParamError, match="memory"):
        RecursiveCovariance("cov", memory=1.0)

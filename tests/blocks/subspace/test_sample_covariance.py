"""Covariance functions against loops, and the blocks under any chunking."""

import numpy as np
import pytest

from blocks.subspace.sample_covariance import (
    ExponentialCovariance,
    SampleCovariance,
    exponential_average,
    sample_covariance,
)
from hil.frame import Frame, Header


def random_samples(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def frame(x, seq=0, sample_start=0, **header):
    return Frame.of(
        Header("dev.iq", seq, sample_start=sample_start, time_ns=sample_start * 1000, sample_rate_hz=1e6, **header),
        iq=(x.astype(np.complex64), "sensor snapshot", "FS"),
    )


def data(outputs):
    return [f for _, f in outputs if f.header.kind == "data"]


def test_against_a_loop_with_batch_axes():
    x = random_samples(2, 3, 5)
    r = sample_covariance(x)
    for b, i, j in np.ndindex(2, 3, 3):
        expected = sum(x[b, i, t] * x[b, j, t].conjugate() for t in range(5)) / 5
        assert r[b, i, j] == pytest.approx(expected, rel=1e-12)


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    x = random_samples(3, 5)
    np.testing.assert_allclose(sample_covariance(torch.tensor(x)).numpy(), sample_covariance(x), atol=1e-14)


def test_exponential_average_of_constants_is_the_constant_and_forgets():
    one = np.eye(2)
    assert exponential_average(one, one, 0.9).tolist() == one.tolist()
    assert exponential_average(0 * one, one, 0.9)[0, 0] == pytest.approx(0.1)


@pytest.mark.parametrize("cuts", [[20], [1] * 20, [3, 7, 1, 9], [8, 8, 4]])
def test_block_of_snapshots_does_not_depend_on_frames(cuts):
    x = random_samples(3, 20).astype(np.complex64)
    block = SampleCovariance("cov", n_snapshots=8)
    out, at = [], 0
    for seq, n in enumerate(cuts):
        out += data(block.feed("iq", frame(x[:, at : at + n], seq, at)))
        at += n
    out += data(block.finish())
    assert [int(f["n_snapshots"]) for f in out] == [8, 8, 4]
    assert [f.header.sample_start for f in out] == [0, 8, 16]
    for f, first in zip(out, (0, 8, 16), strict=True):
        part = x[:, first : first + 8].astype(complex)
        expected = np.einsum("it,jt->ij", part, part.conj()) / part.shape[1]
        np.testing.assert_allclose(f["covariance"], expected, atol=1e-12)
        assert f.header.time_ns == first * 1000


def test_covariance_of_each_frame():
    x = random_samples(3, 6).astype(np.complex64)
    result = SampleCovariance("cov")(x)
    assert int(result["n_snapshots"]) == 6
    np.testing.assert_allclose(result["covariance"], np.einsum("it,jt->ij", x, x.conj()) / 6, atol=1e-6)


def test_a_new_epoch_does_not_mix_with_the_old():
    block = SampleCovariance("cov", n_snapshots=4)
    old, new = random_samples(2, 3), random_samples(2, 4, seed=1).astype(np.complex64)
    assert data(block.feed("iq", frame(old, 0, 0, epoch=1))) == []
    (out,) = data(block.feed("iq", frame(new, 1, 3, epoch=2)))
    np.testing.assert_allclose(out["covariance"], np.einsum("it,jt->ij", new, new.conj()) / 4, atol=1e-6)
    assert out.header.sample_start == 3
    assert block.stats() == {"snapshots_discarded_at_epochs": 3}


def covariance_frame(covariance, n, seq, epoch=0):
    return Frame.of(
        Header("cov.covariance", seq, epoch=epoch),
        covariance=(covariance.astype(complex), "sensor sensor", "FS^2"),
        n_snapshots=(np.array(n), "", ""),
    )


def test_exponential_block_and_its_effective_snapshots():
    block = ExponentialCovariance("exp", forgetting=0.5)
    outs = [
        data(block.feed("covariance", covariance_frame(v * np.eye(2), 10, i)))[0] for i, v in enumerate((4.0, 2.0, 0.0))
    ]
    assert [f["covariance"][0, 0].real for f in outs] == [4.0, 3.0, 1.5]
    # weights 1; 1/2 1/2; 1/4 1/4 1/2: effective blocks 1, 2, 1 / (1/16 + 1/16 + 1/4)
    assert [int(f["n_snapshots"]) for f in outs] == [10, 20, round(10 / 0.375)]
    (fresh,) = data(block.feed("covariance", covariance_frame(8 * np.eye(2), 10, 3, epoch=1)))
    assert fresh["covariance"][0, 0] == 8

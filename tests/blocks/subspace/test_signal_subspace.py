"""Every route to the signal subspace against the full eigendecomposition."""

import numpy as np
import pytest

from blocks.subspace.signal_subspace import (
    leading_eigenpairs,
    leading_from_samples,
    signal_subspace,
    signal_subspace_from_samples,
    split_subspaces,
)
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from tests.blocks.subspace.scene import LAMBDA, snapshots


def projector(u):
    return u @ u.conj().T


def samples(n, t):
    return snapshots(
        ArrayGeometry.ula(n, LAMBDA / 2), [0.3, -0.4, 0.0], [5.0, 6.0, 7.0], 10, t, np.random.default_rng(n)
    ).x


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize(("n", "t"), [(8, 50), (80, 200), (64, 40), (100, 99)])
def test_routes_agree(n, t, dtype):
    x = samples(n, t)
    values, vectors = np.linalg.eigh(x @ x.conj().T / t)
    # eigenvectors turn by the rounding over the gap to the noise, 100 times the noise here
    rounding = 1e-4 if dtype == np.complex64 else 1e-10
    x = x.astype(dtype)
    for leading in (leading_from_samples(x, 3), leading_eigenpairs(x @ x.conj().T / t, 3, t)):
        np.testing.assert_allclose(leading.eigenvalues, values[::-1][:3], rtol=rounding)
        np.testing.assert_allclose(projector(leading.vectors), projector(vectors[:, -3:]), atol=rounding)
        assert leading.vectors.dtype == dtype
    for signal in (signal_subspace(x @ x.conj().T / t, 3), signal_subspace_from_samples(x, 3)):
        np.testing.assert_allclose(projector(signal), projector(vectors[:, -3:]), atol=rounding)


def test_split_is_orthonormal_and_batched():
    x = np.stack([samples(6, 30), samples(6, 30)[::-1]])
    r = x @ np.conj(np.swapaxes(x, -1, -2))
    split = split_subspaces(r, 2)
    assert split.signal.shape == (2, 6, 2)
    assert split.noise.shape == (2, 6, 4)
    both = np.concatenate([split.signal, split.noise], axis=-1)
    rebuilt = both @ (split.eigenvalues[..., None] * np.conj(np.swapaxes(both, -1, -2)))
    np.testing.assert_allclose(rebuilt, r, atol=1e-9)
    assert (np.diff(split.eigenvalues, axis=-1) <= 0).all()


def test_split_in_torch():
    torch = pytest.importorskip("torch")
    x = samples(6, 30)
    ours, tensors = split_subspaces(x @ x.conj().T, 2), split_subspaces(torch.tensor(x @ x.conj().T), 2)
    np.testing.assert_allclose(projector(ours.signal), projector(tensors.signal.numpy()), atol=1e-12)


def test_refusals():
    with pytest.raises(ParamError, match="0 <= n_sources <= 4 sensors, got 5"):
        split_subspaces(np.eye(4) + 0j, 5)
    with pytest.raises(ParamError, match=r"expected 1 \.\. 4 eigenvectors of 4 sensors, got 0"):
        leading_eigenpairs(np.eye(4) + 0j, 0, 10)
    with pytest.raises(ParamError, match=r"expected 1 \.\. 3 eigenvectors of 3 snapshots, got 4"):
        leading_from_samples(np.ones((8, 3), complex), 4)
    with pytest.raises(EstimationError, match="power nan"):
        leading_eigenpairs(np.full((4, 4), np.nan + 0j), 1, 10)
    with pytest.raises(EstimationError, match="power 0"):
        leading_from_samples(np.zeros((8, 3), complex), 1)
    with pytest.raises(EstimationError, match="rank below 2"):
        signal_subspace_from_samples(np.ones((8, 3), complex), 2)
    with pytest.raises(EstimationError, match="not positive definite"):
        leading_eigenpairs(np.ones((4, 4), complex), 1, 10)

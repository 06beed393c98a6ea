import numpy as np
import pytest
import torch

from blocks.neural.subspace_split import noise_projector, subspace_split
from blocks.subspace.esprit import esprit


def hermitian(seed, n=5, batch=2):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, n, 3 * n, 2)).view(np.complex128)[..., 0]
    return torch.from_numpy(x @ x.conj().swapaxes(-1, -2) / (3 * n))


def parts(matrix):
    """Real coordinates of Hermitian matrices, so that finite differences stay among them."""
    return torch.cat([matrix.real.flatten(1), matrix.imag.flatten(1)], dim=1)


def of_parts(values, n):
    real, imag = values.reshape(len(values), 2, n, n).unbind(1)
    z = torch.complex(real, imag)
    return (z + z.mH) / 2


def test_splits_as_numpy_does():
    r = hermitian(0)
    values, vectors = subspace_split(r, torch.tensor([1, 2]))
    expected = np.linalg.eigvalsh(r.numpy())[:, ::-1]
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-10)
    rebuilt = vectors @ torch.diag_embed(values).to(vectors.dtype) @ vectors.mH
    np.testing.assert_allclose(rebuilt.numpy(), r.numpy(), atol=1e-12)


@pytest.mark.parametrize("n_sources", [(1, 3), (2, 4)])
def test_gradient_of_a_projector_is_that_of_finite_differences(n_sources):
    m = torch.tensor(n_sources)
    weight = hermitian(9)

    def cost(flat):
        _, vectors = subspace_split(of_parts(flat, 5), m)
        return (noise_projector(vectors, m) * weight.conj()).sum((-1, -2)).real

    assert torch.autograd.gradcheck(cost, parts(hermitian(1)).requires_grad_(), atol=1e-6)


def test_gradient_of_eigenvalues_is_that_of_finite_differences():
    m = torch.tensor([2, 2])

    def cost(flat):
        values, _ = subspace_split(of_parts(flat, 5), m)
        return values.log() @ torch.arange(5.0, dtype=torch.float64)

    assert torch.autograd.gradcheck(cost, parts(hermitian(2)).requires_grad_(), atol=1e-6)


def test_gradient_reaches_through_esprit():
    m = torch.tensor([2, 2])

    def cost(flat):
        _, vectors = subspace_split(of_parts(flat, 5), m)
        return esprit(vectors[..., :2], "ls").phase_rad

    assert torch.autograd.gradcheck(cost, parts(hermitian(3)).requires_grad_(), atol=1e-5)


def test_equal_eigenvalues_inside_a_subspace_leave_the_gradient_finite_and_right():
    rng = np.random.default_rng(4)
    q = np.linalg.qr(rng.standard_normal((5, 5, 2)).view(np.complex128)[..., 0])[0]
    r = torch.from_numpy(q @ np.diag([3.0, 3.0, 1.0, 1.0, 1.0]) @ q.conj().T)[None]
    m, weight = torch.tensor([2]), hermitian(5, batch=1)

    def cost(flat):
        _, vectors = subspace_split(of_parts(flat, 5), m)
        return (noise_projector(vectors, m) * weight.conj()).sum((-1, -2)).real

    assert torch.autograd.gradcheck(cost, parts(r).requires_grad_(), atol=1e-6)
    (ours,) = torch.autograd.grad(cost(flat := parts(r).requires_grad_()), flat)
    _, vectors = torch.linalg.eigh(of_parts(flat, 5))
    noise = vectors[..., :3]
    (general,) = torch.autograd.grad((noise @ noise.mH * weight.conj()).sum().real, flat)
    assert not torch.allclose(general, ours, atol=1e-3), "the general gradient would do: this function is not needed"


def test_equal_eigenvalues_across_the_split_leave_the_gradient_finite():
    r = torch.eye(5, dtype=torch.complex128)[None].requires_grad_()
    values, vectors = subspace_split(r, torch.tensor([2]))
    (noise_projector(vectors, torch.tensor([2])).real.sum() + values.sum()).backward()
    assert torch.isfinite(r.grad).all()

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blocks.tracking.inverse_point import inverse_point, inverse_point_jacobian

POINTS = arrays(np.float64, 3, elements=st.floats(-100, 100)).filter(lambda x: np.linalg.norm(x) > 0.5)


@given(POINTS)
def test_is_its_own_inverse(x):
    origin = np.zeros(3)
    assert inverse_point(inverse_point(x, origin), origin) == pytest.approx(x, rel=1e-9, abs=1e-9)


@given(POINTS)
def test_jacobian_is_the_automatic_derivative(x):
    origin = np.array([0.1, -0.2, 0.05])
    autodiff = torch.autograd.functional.jacobian(
        lambda p: inverse_point(p, torch.from_numpy(origin)), torch.from_numpy(x)
    )
    np.testing.assert_allclose(inverse_point_jacobian(x, origin), autodiff.numpy(), rtol=1e-8, atol=1e-12)


def test_batches_and_torch_agree_with_numpy():
    rng = np.random.default_rng(2)
    x, origin = rng.uniform(1, 9, (4, 2, 3)), np.zeros(3)
    u = inverse_point(x, origin)
    assert np.linalg.norm(u, axis=-1) == pytest.approx(1 / np.linalg.norm(x, axis=-1))
    got = inverse_point_jacobian(torch.from_numpy(x), torch.from_numpy(origin))
    np.testing.assert_allclose(got.numpy(), inverse_point_jacobian(x, origin), rtol=1e-14)

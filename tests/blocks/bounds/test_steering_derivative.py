"""Analytic derivatives against automatic differentiation of hil.wavefront, and in the limit of a plane wave."""

import numpy as np
import pytest

from blocks.bounds.steering_derivative import steering_derivatives
from hil.array import ArrayGeometry
from hil.wavefront import direction_vector, path_difference

LAMBDA = 0.06
POSITION = ArrayGeometry.from_positions(np.random.default_rng(0).normal(size=(7, 3)) * 0.4).position_m


@pytest.mark.parametrize("amplitude", [False, True])
def test_against_autodiff(amplitude):
    torch = pytest.importorskip("torch")

    def parts(az, el, k):
        path, gain = path_difference(POSITION, direction_vector(az, el), k)
        a = (gain if amplitude else torch.ones_like(gain)) * torch.exp(-2j * np.pi / LAMBDA * path)
        return torch.view_as_real(a)

    rng = np.random.default_rng(1)
    for az, el, k in [*rng.uniform([-1.4, -1.2, 0.0], [1.4, 1.2, 0.5], size=(20, 3)), (0.3, 0.2, 0.0)]:
        point = tuple(torch.tensor(v, dtype=torch.float64) for v in (az, el, k))
        expected = torch.autograd.functional.jacobian(parts, point)
        ours = steering_derivatives(POSITION, np.array(az), np.array(el), np.array(k), LAMBDA, amplitude=amplitude)
        np.testing.assert_allclose(ours.a, torch.view_as_complex(parts(*point)).numpy(), rtol=0, atol=1e-12)
        for analytic, automatic in zip(ours[1:], expected, strict=True):
            # derivatives reach 2 pi / lambda * 1 m = 100
            np.testing.assert_allclose(analytic, torch.view_as_complex(automatic).numpy(), rtol=0, atol=1e-9)


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    arguments = [np.array([0.1, -0.4]), np.array([0.0, 0.3]), np.array([0.2, 0.0])]
    ours = steering_derivatives(POSITION, *arguments, LAMBDA)
    tensors = steering_derivatives(torch.tensor(POSITION), *map(torch.tensor, arguments), LAMBDA)
    for a, b in zip(ours, tensors, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-11)

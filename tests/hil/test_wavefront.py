"""Steering vectors against loops of the standard library, each approximation against the exact wavefront, and torch."""

import cmath
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance, fresnel_distance_oblique
from hil.errors import ParamError
from hil.wavefront import (
    SPEED_OF_LIGHT_M_S,
    direction_vector,
    path_difference,
    steering_vector,
    steering_vector_polar,
    steering_vector_wideband,
    wavelength_m,
)

LAMBDA = 0.06
ARRAYS = {
    "ula": ArrayGeometry.ula(64, LAMBDA / 2),
    "ura": ArrayGeometry.ura(8, 6, LAMBDA / 2),
    "uca": ArrayGeometry.uca(12, 0.3),
    "any": ArrayGeometry.from_positions(np.random.default_rng(0).normal(size=(9, 3)) * 0.3),
}


def loop(position, source, wavelength, amplitude):
    """The definition, element by element."""
    r = math.hypot(*source)
    out = []
    for p in position.tolist():
        r_m = math.dist(p, source)
        out.append((r / r_m if amplitude else 1.0) * cmath.exp(-2j * math.pi * (r_m - r) / wavelength))
    return out


@pytest.mark.parametrize("amplitude", [False, True])
@pytest.mark.parametrize("name", ARRAYS)
def test_exact_is_the_definition(name, amplitude):
    rng = np.random.default_rng(1)
    source = rng.normal(size=(2, 5, 3)) * 8
    a = steering_vector(ARRAYS[name].position_m, source, LAMBDA, amplitude=amplitude)
    for i, j in np.ndindex(2, 5):
        expected = loop(ARRAYS[name].position_m, source[i, j].tolist(), LAMBDA, amplitude)
        # r_m - r by subtraction loses digits: 1e-15 * 20 m * 2 pi / 0.06 m
        np.testing.assert_allclose(a[i, j], expected, rtol=0, atol=1e-11)


@given(st.floats(-1.5, 1.5), st.floats(1.0, 1e6))
def test_polar_on_a_line_is_the_law_of_cosines(azimuth, range_m):
    d = ARRAYS["ula"].position_m[:, 0]
    r_n = np.sqrt(range_m**2 + d**2 - 2 * range_m * d * math.sin(azimuth))
    expected = np.exp(-2j * np.pi * (r_n - range_m) / LAMBDA)
    a = steering_vector_polar(ARRAYS["ula"].position_m, azimuth, range_m, LAMBDA)
    np.testing.assert_allclose(a, expected, rtol=0, atol=2e-13 * range_m + 1e-10)


def test_plane_wave_sign_and_infinite_range():
    d, azimuth = ARRAYS["ula"].position_m[:, 0], 0.3
    expected = np.exp(2j * np.pi * d * math.sin(azimuth) / LAMBDA)
    for model in ("exact", "fresnel", "plane"):
        a = steering_vector_polar(ARRAYS["ula"].position_m, azimuth, np.inf, LAMBDA, model=model, amplitude=True)
        np.testing.assert_allclose(a, expected, rtol=0, atol=1e-12)


def test_direction_vector_axes():
    np.testing.assert_allclose(direction_vector(0.0, 0.0), [0, 1, 0], atol=1e-16)
    np.testing.assert_allclose(direction_vector(math.pi / 2, 0.0), [1, 0, 0], atol=1e-16)
    np.testing.assert_allclose(direction_vector(1.0, math.pi / 2), [0, 0, 1], atol=1e-16)


def largest_phase_error(array, model, range_m, azimuth_rad):
    """Of ``model`` against exact, rad, largest over the elements (after no alignment: about the centre)."""
    u = direction_vector(np.asarray(azimuth_rad), 0.0)
    k = np.full(u.shape[:-1], 1 / range_m)
    exact, _ = path_difference(array.position_m, u, k)
    other, _ = path_difference(array.position_m, u, k, model=model)
    return float(2 * np.pi / LAMBDA * np.abs(exact - other).max())


def test_fresnel_holds_to_pi_over_8_where_it_says():
    array = ARRAYS["ula"]
    limit = math.pi / 8
    broadside, oblique = (f(array.aperture_m, LAMBDA) for f in (fresnel_distance, fresnel_distance_oblique))
    # each limit keeps the first term that Fresnel drops at pi/8; the term after it adds a few per cent
    assert largest_phase_error(array, "fresnel", broadside, 0.0) == pytest.approx(limit, rel=0.1)
    worst = math.asin(1 / math.sqrt(3))
    assert largest_phase_error(array, "fresnel", oblique, worst) == pytest.approx(limit, rel=0.1)
    everywhere = np.linspace(-1.5, 1.5, 301)
    assert largest_phase_error(array, "fresnel", oblique, everywhere) < 1.1 * limit
    assert largest_phase_error(array, "fresnel", broadside, everywhere) > 4 * limit
    assert largest_phase_error(array, "fresnel", fraunhofer_distance(array.aperture_m, LAMBDA), everywhere) < 1e-2


def test_plane_wave_holds_to_pi_over_8_beyond_fraunhofer():
    array = ARRAYS["ula"]
    far = fraunhofer_distance(array.aperture_m, LAMBDA)
    assert largest_phase_error(array, "plane", far, 0.0) == pytest.approx(math.pi / 8, rel=1e-3)
    assert largest_phase_error(array, "plane", far, np.linspace(-1.5, 1.5, 301)) < 1.001 * math.pi / 8
    assert largest_phase_error(array, "plane", far / 2, 0.0) > 1.9 * math.pi / 8


def test_wideband_is_one_narrowband_vector_a_subcarrier():
    rng = np.random.default_rng(2)
    source = rng.normal(size=(3, 3)) * 10
    f = np.linspace(4.8e9, 5.2e9, 5)
    for common in (False, True):
        a = steering_vector_wideband(ARRAYS["any"].position_m, source, f, amplitude=True, common_delay=common)
        assert a.shape == (3, 9, 5)
        for i, j in np.ndindex(3, 5):
            expected = np.array(loop(ARRAYS["any"].position_m, source[i].tolist(), SPEED_OF_LIGHT_M_S / f[j], True))
            if common:
                expected *= cmath.exp(-2j * math.pi * f[j] * math.hypot(*source[i]) / SPEED_OF_LIGHT_M_S)
            np.testing.assert_allclose(a[i, :, j], expected, rtol=0, atol=1e-10)


def test_range_far_away_keeps_its_digits():
    """At 1e7 m the curvature is 4e-8 m of path: subtraction of distances would round it to 1e-9."""
    p = np.array([[0.9, 0.0, 0.0]])
    path, _ = path_difference(p, np.array([0.0, 1.0, 0.0]), np.array(1e-7))
    assert float(path[0]) == pytest.approx(0.9**2 * 1e-7 / 2, rel=1e-12)


def test_single_precision_stays_single_and_close():
    source = np.array([[3.0, 12.0, 1.0]])
    single = steering_vector(ARRAYS["ula"].position_m, source.astype(np.float32), LAMBDA)
    assert single.dtype == np.complex64
    # path up to 1 m of 1e-7 relative error is 1e-7 / 0.06 turns
    np.testing.assert_allclose(single, steering_vector(ARRAYS["ula"].position_m, source, LAMBDA), atol=1e-4)


def test_refusals():
    with pytest.raises(ParamError, match="expected model 'exact', 'fresnel' or 'plane', got 'round'"):
        path_difference(np.zeros((1, 3)), np.array([0.0, 1.0, 0.0]), np.array(0.1), model="round")
    with pytest.raises(ParamError, match="frequency_hz > 0, got 0"):
        wavelength_m(0)


class TestTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        self.torch = pytest.importorskip("torch")

    @pytest.mark.parametrize("model", ["exact", "fresnel", "plane"])
    def test_same_values_as_numpy(self, model):
        source = np.random.default_rng(3).normal(size=(2, 4, 3)) * 9
        f = np.linspace(4.9e9, 5.1e9, 3)
        ours = steering_vector(ARRAYS["any"].position_m, self.torch.tensor(source), LAMBDA, model=model, amplitude=True)
        reference = steering_vector(ARRAYS["any"].position_m, source, LAMBDA, model=model, amplitude=True)
        np.testing.assert_allclose(ours.numpy(), reference, rtol=0, atol=1e-12)
        ours = steering_vector_wideband(ARRAYS["any"].position_m, self.torch.tensor(source), f, model=model)
        reference = steering_vector_wideband(ARRAYS["any"].position_m, source, f, model=model)
        np.testing.assert_allclose(ours.numpy(), reference, rtol=0, atol=1e-10)

    def test_gradient_is_the_finite_difference(self):
        source = self.torch.tensor([[2.0, 7.0, 0.5], [-3.0, 4.0, 1.0]], dtype=self.torch.float64, requires_grad=True)
        position = ARRAYS["ura"].position_m

        def real_and_imaginary(s):
            a = steering_vector(position, s, LAMBDA, amplitude=True)
            return self.torch.view_as_real(a)

        assert self.torch.autograd.gradcheck(real_and_imaginary, (source,))

    def test_no_nan_gradient_at_a_plane_wave_on_a_sensor_and_at_a_centre_element(self):
        torch = self.torch
        position = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])  # an element at the reference itself
        u = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
        k = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        path, gain = path_difference(position, u, k)
        (path.sum() + gain.sum()).backward()
        # d(r_m - r)/dk at k = 0 is (q - s^2) / 2, d(r / r_m)/dk is s = 0 here
        np.testing.assert_allclose(k.grad.numpy(), [0.5**2 / 2])
        for place in ([0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]):
            source = torch.tensor(place, dtype=torch.float64, requires_grad=True)
            a = steering_vector(position, source, LAMBDA, amplitude=True)
            (a.real + a.imag).sum().backward()
            assert bool(torch.isfinite(source.grad).all()), place

    def test_float32_tensor_gives_complex64(self):
        a = steering_vector(ARRAYS["ula"].position_m, self.torch.ones(2, 3), LAMBDA)
        assert a.dtype == self.torch.complex64

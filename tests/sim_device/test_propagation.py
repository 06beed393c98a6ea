import cmath
import math
import random

import numpy as np

from hil.wavefront import SPEED_OF_LIGHT_M_S
from sim_device.propagation import channel_matrix, field_at_elements


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def test_channel_is_the_exact_spherical_wavefront_by_stdlib_loops():
    rng = random.Random(4)
    elements = [[rng.uniform(-1, 1) for _ in range(3)] for _ in range(7)]
    sources = [[rng.uniform(-3, 3), rng.uniform(2, 50), rng.uniform(-3, 3)] for _ in range(4)]
    wavelength = SPEED_OF_LIGHT_M_S / 5e9
    expected = [
        [
            distance(s, (0, 0, 0))
            / distance(s, e)
            * cmath.exp(-2j * math.pi * (distance(s, e) - distance(s, (0, 0, 0))) / wavelength)
            for s in sources
        ]
        for e in elements
    ]
    got = channel_matrix(np.array(elements), np.array(sources), 5e9)
    # atol: the loop cancels two paths of up to 50 m (7e-15 m) over 0.06 m of wavelength: 1e-12 rad
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


def test_field_is_the_sum_over_sources_by_loops():
    rng = np.random.default_rng(0)
    channel, envelope = (rng.standard_normal(s) + 1j * rng.standard_normal(s) for s in ((3, 2), (2, 5)))
    weight = np.array([0.5, 2j])
    expected = [[sum(channel[m, k] * weight[k] * envelope[k, t] for k in range(2)) for t in range(5)] for m in range(3)]
    got = field_at_elements(channel, weight, envelope)
    assert got.dtype == np.complex64
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)  # float32: 1.2e-7 times terms of up to 20

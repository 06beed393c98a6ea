"""Signal-subspace form against the noise-subspace form of [NF] Eq. (10), and local maxima against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blocks.subspace.signal_subspace import split_subspaces
from blocks.subspace.spectrum import local_maxima, music_spectrum
from hil.array import ArrayGeometry
from hil.wavefront import steering_vector_polar
from tests.blocks.subspace.scene import LAMBDA, snapshots

ULA = ArrayGeometry.ula(12, LAMBDA / 2)


def subspaces():
    x = snapshots(ULA, [0.2, -0.5], [1.0, 2.0], 10, 80, np.random.default_rng(0)).x
    return split_subspaces(x @ x.conj().T / 80, 2)


def vectors():
    azimuth, range_m = np.meshgrid(np.linspace(-1, 1, 21), [0.5, 1.0, 2.0, 8.0], indexing="ij")
    return steering_vector_polar(ULA.position_m, azimuth.ravel(), range_m.ravel(), LAMBDA)


def test_is_one_over_the_noise_part():
    split, a = subspaces(), vectors()
    expected = [1 / sum(abs(np.vdot(split.noise[:, i], v)) ** 2 for i in range(10)) for v in a]
    spectrum = music_spectrum(a.conj() / np.sqrt(12), split.signal)
    np.testing.assert_allclose(spectrum / 12, expected, rtol=1e-9)


def test_torch_gives_the_same_and_a_gradient():
    torch = pytest.importorskip("torch")
    split, a = subspaces(), vectors()
    signal = torch.tensor(split.signal.copy(), requires_grad=True)
    spectrum = music_spectrum(torch.tensor(a.conj() / np.sqrt(12)), signal)
    np.testing.assert_allclose(spectrum.detach().numpy(), music_spectrum(a.conj() / np.sqrt(12), split.signal))
    spectrum.sum().backward()
    assert bool(torch.isfinite(torch.view_as_real(signal.grad)).all())


@given(
    arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 5).map(float)), st.booleans()
)
def test_local_maxima_against_loops(values, wraps):
    rows, columns = values.shape
    expected = set()
    for i, j in np.ndindex(rows, columns):
        around = []
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                ni = (i + di) % rows if wraps else i + di
                if 0 <= ni < rows and 0 <= j + dj < columns:
                    around.append(values[ni, j + dj])
        if values[i, j] >= max(around):
            expected.add(i * columns + j)
    found = local_maxima(values, wraps=wraps)
    assert set(found.tolist()) == expected
    assert (np.diff(values.ravel()[found]) <= 0).all()

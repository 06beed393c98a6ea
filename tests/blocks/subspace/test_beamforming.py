"""Bartlett and Capon against their definitions point by point."""

import numpy as np
import pytest

from blocks.subspace.beamforming import (
    BeamSpectrum,
    bartlett_spectrum,
    bartlett_spectrum_of_samples,
    capon_spectrum,
)
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.subspace.scene import FREQUENCY_HZ, LAMBDA, snapshots


def data(n=8, t=60):
    array = ArrayGeometry.ula(n, LAMBDA / 2)
    x = snapshots(array, [-0.3, 0.5], [np.inf, np.inf], 10, t, np.random.default_rng(0)).x
    angles = np.linspace(-1.2, 1.2, 25)
    a = np.exp(2j * np.pi / LAMBDA * np.sin(angles)[:, None] * array.position_m[:, 0])
    return x, x @ x.conj().T / t, a


def test_against_the_definition():
    x, r, a = data()
    unit = a.conj() / np.sqrt(8)
    bartlett = [(w.conj() @ r @ w).real for w in a / 8]  # w = a / |a|^2
    np.testing.assert_allclose(bartlett_spectrum(r, unit), bartlett, rtol=1e-12)
    np.testing.assert_allclose(bartlett_spectrum_of_samples(x, unit), bartlett, rtol=1e-12)
    capon = [1 / (v.conj() @ np.linalg.inv(r) @ v).real for v in a]
    np.testing.assert_allclose(capon_spectrum(r, unit, loading=0), capon, rtol=1e-10)
    loaded = r + 0.1 * np.trace(r).real / 8 * np.eye(8)
    capon = [1 / (v.conj() @ np.linalg.inv(loaded) @ v).real for v in a]
    np.testing.assert_allclose(capon_spectrum(r, unit, loading=0.1), capon, rtol=1e-10)


def test_one_source_without_noise_has_its_power():
    _, _, a = data()
    r = 4 * np.outer(a[10], a[10].conj())
    spectrum = bartlett_spectrum(r, a.conj() / np.sqrt(8))
    assert spectrum.argmax() == 10
    assert spectrum[10] == pytest.approx(4)


def test_batched_and_in_torch():
    torch = pytest.importorskip("torch")
    _, r, a = data()
    unit, both = a.conj() / np.sqrt(8), np.stack([r, 2 * r])
    for function in (bartlett_spectrum, capon_spectrum):
        expected = function(r, unit)
        np.testing.assert_allclose(function(both, unit), [expected, 2 * expected], rtol=1e-10)
        np.testing.assert_allclose(function(torch.tensor(both), torch.tensor(unit)).numpy()[0], expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["bartlett", "capon"])
@pytest.mark.parametrize("near_field", [False, True])
def test_block(method, near_field):
    _, r, _ = data()
    block = BeamSpectrum("beam", method=method, near_field=near_field, frequency_hz=FREQUENCY_HZ)
    block.feed("covariance", descriptor_frame(Header("c", 0), ArrayGeometry.ula(8, LAMBDA / 2)))
    frame = Frame.of(Header("c", 0), covariance=(r, "sensor sensor", "FS^2"), n_snapshots=(np.array(60), "", ""))
    ((_, out),) = block.feed("covariance", frame)
    spectrum = out["spectrum_db"]
    assert spectrum.shape == (len(out["azimuth_rad"]), len(out["range_m"]))
    peak = out["azimuth_rad"][spectrum.max(axis=1).argmax()]
    assert min(abs(peak + 0.3), abs(peak - 0.5)) < 0.15
    if method == "bartlett":  # Capon takes a source between grid points for interference
        assert spectrum.max() == pytest.approx(10, abs=1.5)  # dB of the source


def test_refusals():
    _, r, a = data(8, 4)
    with pytest.raises(EstimationError, match="not positive definite with loading 0"):
        capon_spectrum(r - 1e-3 * np.eye(8), a.conj(), loading=0)
    with pytest.raises(ParamError, match="loading >= 0, got -1"):
        capon_spectrum(r, a.conj(), loading=-1)
    torch = pytest.importorskip("torch")
    with pytest.raises(EstimationError, match="not positive definite"):
        capon_spectrum(torch.tensor(r - 1e-3 * np.eye(8)), torch.tensor(a.conj()), loading=0)

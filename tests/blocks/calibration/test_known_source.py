import math

import numpy as np
import pytest

from blocks.calibration.known_source import expected_response, gain_phase_by_frequency, subband_covariance
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from sim_device.device import XlArrayDevice

LINE = ArrayGeometry.ula(6, 0.03)
SOURCE_M = np.array([0.5, 2.0, 0.1])


def test_the_expected_response_is_that_of_a_sphere():
    got = expected_response(LINE.position_m, SOURCE_M, 5e9)
    for m, position in enumerate(LINE.position_m):
        r_m, r = math.dist(position, SOURCE_M), math.dist((0, 0, 0), SOURCE_M)
        turn = -2 * math.pi * (r_m - r) * 5e9 / 299792458.0
        assert math.remainder(got.phase_rad[m] - turn, 2 * math.pi) == pytest.approx(0, abs=1e-9)
        assert got.gain_db[m] == pytest.approx(20 * math.log10(r / r_m))
        assert got.delay_s[m] == pytest.approx((r_m - r) / 299792458.0, abs=1e-20)


def test_branches_of_a_simulated_array_are_found_at_each_frequency():
    """The simulator draws the mismatch; the estimator sees samples and the place of one source."""
    device = XlArrayDevice(
        array={"kind": "ula", "n": 6, "spacing_m": 0.03},
        sources=[{"id": 1, "motion": {"kind": "stand", "position_m": SOURCE_M.tolist()}, "power_db": -10.0}],
        noise_power_db=-50.0,
        mismatch={"gain_std_db": 1.0, "phase_std_rad": 1.0},
        sample_rate_hz=1e6,  # the simulated wavefront is that of the carrier
        real_time=False,
        seed=4,
    )
    truth = device.descriptors()[1].header.meta["sim"]
    branch = np.array(truth["response_real"]) + 1j * np.array(truth["response_imag"])
    covariance, frequency_hz = subband_covariance(device.samples(0, 8192), 8, 5e9, 1e6)
    assert frequency_hz.tolist() == [5e9 + 125e3 * k for k in range(-4, 4)]
    found = gain_phase_by_frequency(covariance, frequency_hz, LINE.position_m, SOURCE_M)
    expected_db = 20 * np.log10(np.abs(branch))
    np.testing.assert_allclose(found.gain_db, np.tile(expected_db - expected_db.mean(), (8, 1)), atol=0.05)
    turned = np.exp(1j * found.offset_rad) * branch.conj() / np.abs(branch)
    turned *= np.exp(-1j * np.angle(turned.sum(-1, keepdims=True)))
    # -40 dB of noise over 1024 snapshots a band: 3e-4 rad; five times that
    assert np.abs(np.angle(turned)).max() < 2e-3


def test_a_delay_is_a_phase_that_falls_with_frequency():
    rng = np.random.default_rng(3)
    s = np.fft.fft(rng.standard_normal((4096, 2)) @ [1, 1j])
    late = np.fft.ifft(s * np.exp(-2j * np.pi * np.fft.fftfreq(4096) * 0.4))
    x = np.stack([np.fft.ifft(s), late])
    covariance, frequency_hz = subband_covariance(x, 16, 1e9, 1e6)
    far = np.array([0.0, 1e8, 0.0])
    found = gain_phase_by_frequency(covariance, frequency_hz, np.array([[-0.1, 0, 0], [0.1, 0, 0]]), far)
    phase = np.unwrap(found.offset_rad[:, 1] - found.offset_rad[:, 0])
    inner = slice(3, -2)  # the outermost bands hold both ends of the spectrum, where a delay has no phase
    slope = np.polyfit(frequency_hz[inner] - 1e9, phase[inner], 1)[0]
    assert -slope / (2 * np.pi) * 1e6 == pytest.approx(0.4, abs=0.02)


def test_refuses_what_is_too_short_and_what_holds_no_source():
    with pytest.raises(ParamError, match="8 bands need 16 snapshots, got 10"):
        subband_covariance(np.ones((2, 10)), 8, 1e9, 1e6)
    with pytest.raises(EstimationError, match="no emitter stands above the noise"):
        gain_phase_by_frequency(np.eye(6)[None] + 0j, np.array([5e9]), LINE.position_m, SOURCE_M)

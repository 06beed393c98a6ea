import numpy as np
import pytest
from scipy.signal import firwin, lfilter

from blocks.calibration.channel_alignment import measure_alignment
from hil.errors import EstimationError, ParamError

PHASE = np.array([0.0, 1.2, -2.9, 0.4, 3.0])
GAIN_DB = np.array([0.0, 2.0, -1.0, 0.5, -3.0])


def delayed(delay, n, rng, bandwidth):
    """Band-limited noise as sums of complex lines at known frequencies: a delay is exact, by another route than FFT."""
    n_lines = 300
    f = rng.uniform(-bandwidth / 2, bandwidth / 2, n_lines)
    a = rng.standard_normal(n_lines) + 1j * rng.standard_normal(n_lines)
    lines = np.exp(2j * np.pi * f[:, None] * np.arange(n))
    return np.stack([(a * np.exp(-2j * np.pi * f * d)) @ lines for d in delay]) / n_lines**0.5


def heard(delay, n=2048, noise=0.0, seed=1, bandwidth=0.8):
    rng = np.random.default_rng(seed)
    x = delayed(delay, n, rng, bandwidth) * (10 ** (GAIN_DB / 20) * np.exp(1j * PHASE))[: len(delay), None]
    return x + noise * (rng.standard_normal((*x.shape, 2)) @ [1, 1j])


def angle_between(a, b):
    return np.abs(np.angle(np.exp(1j * (np.asarray(a) - b))))


@pytest.mark.parametrize(
    "delay",
    [(0, 0, 0, 0, 0), (0, 3, -7, 100, -250), (0, 0.5, -0.5, 0.25, 0.1), (0, 12.3, -40.71, 0.02, 299.5)],
)
def test_delay_phase_and_gain_come_back(delay):
    found = measure_alignment(heard(delay, noise=1e-3), max_delay_samples=300)
    # bounds: five of the deviations that the noise of -54 dB gives, and what the ends of the record do to a fraction
    np.testing.assert_allclose(found.delay_samples, delay, atol=2e-3)
    assert angle_between(found.phase_rad, PHASE).max() < 2e-3
    np.testing.assert_allclose(found.gain_db, GAIN_DB - GAIN_DB.mean(), atol=0.02)
    assert found.coherence.min() > 0.999


def test_deviations_are_what_many_trials_scatter():
    delay, noise = (0.0, 4.3, -2.6), 1.0
    found = [measure_alignment(heard(delay, 1024, noise, seed), max_delay_samples=16) for seed in range(60)]
    for name, error in (
        ("delay_std_samples", np.array([f.delay_samples for f in found]) - delay),
        ("phase_std_rad", np.array([angle_between(f.phase_rad, PHASE[:3]) for f in found])),
    ):
        said = np.median([getattr(f, name) for f in found], axis=0)[1:]
        rms = np.sqrt((error[:, 1:] ** 2).mean(0))
        # Hann's window costs a factor of sqrt(1.94) in deviation, and the eigenvector gains some: within a factor of 2
        assert (rms / said < 2).all(), (name, rms, said)
        assert (rms / said > 0.5).all(), (name, rms, said)


def test_a_tone_tells_phases_but_no_delays():
    t = np.arange(4096)
    rng = np.random.default_rng(3)
    x = np.exp(2j * np.pi * 0.1 * t) * np.exp(1j * PHASE)[:, None]
    x = x + 0.01 * (rng.standard_normal((*x.shape, 2)) @ [1, 1j])
    assert angle_between(measure_alignment(x).phase_rad, PHASE).max() < 2e-3
    with pytest.raises(EstimationError, match="too narrow or too weak"):
        measure_alignment(x, max_delay_samples=100)


def test_another_reference_gives_the_same_differences():
    x = heard((0, 3.5, -7, 10, 2), noise=1e-3)
    a, b = measure_alignment(x, max_delay_samples=32), measure_alignment(x, reference=3, max_delay_samples=32)
    np.testing.assert_allclose(b.delay_samples, a.delay_samples - a.delay_samples[3], atol=2e-3)
    assert angle_between(b.phase_rad, a.phase_rad - a.phase_rad[3]).max() < 2e-3
    assert (b.delay_samples[3], b.phase_rad[3]) == (0, 0)


def test_noise_that_nothing_shares_is_refused():
    rng = np.random.default_rng(4)
    with pytest.raises(EstimationError, match="too narrow or too weak"):
        measure_alignment(rng.standard_normal((3, 1024, 2)) @ [1, 1j], max_delay_samples=50)


def test_a_silent_channel_and_one_that_hears_nothing_are_named():
    x = heard((0, 0, 0), noise=1e-6)
    x[1] = 0
    with pytest.raises(EstimationError, match="channel 1 is silent"):
        measure_alignment(x)
    x[1] = 1e-6
    with pytest.raises(EstimationError, match="channel 1 does not hear"):
        measure_alignment(x)


def test_refuses_records_that_are_too_short():
    with pytest.raises(ParamError, match="at least 400 snapshots, got 0 and 100"):
        measure_alignment(np.ones((2, 100)), max_delay_samples=100)
    with pytest.raises(ParamError, match="reference below 2"):
        measure_alignment(np.ones((2, 100)), reference=2)


def test_filtered_noise_as_a_receiver_gives_it():
    """A whole delay and a low-pass of ordinary design, by scipy."""
    rng = np.random.default_rng(6)
    s = lfilter(firwin(65, 0.5), 1, rng.standard_normal((9000, 2)) @ [1, 1j])
    x = np.stack([s[400 : 400 + 8192], s[400 - 37 : 400 - 37 + 8192] * np.exp(0.5j)])
    x = x + 1e-3 * (rng.standard_normal((*x.shape, 2)) @ [1, 1j])
    found = measure_alignment(x, max_delay_samples=64)
    assert found.delay_samples[1] == pytest.approx(37, abs=2e-3)
    assert found.phase_rad[1] == pytest.approx(0.5, abs=2e-3)

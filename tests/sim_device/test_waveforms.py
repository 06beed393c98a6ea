import cmath
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import ParamError
from hil.params import Params, convert_params
from sim_device.draws import Draw
from sim_device.waveforms import Gaussian, Pilot, Qpsk, Tone, Waveform, envelope, zadoff_chu

WAVEFORMS = [Tone(frequency_hz=1234.5, phase_rad=0.3), Gaussian(), Qpsk(samples_per_symbol=3), Pilot(length=31, root=5)]


class Holder(Params, frozen=True):
    waveform: Waveform


def of(waveform, tick, n, seed=1, key=0, draw=Draw.WAVEFORM):
    return envelope(waveform, tick, n, sample_rate_hz=1e5, seed=seed, draw=draw, key=key)


@pytest.mark.parametrize("waveform", WAVEFORMS)
@given(tick=st.integers(0, 10_000), n=st.integers(1, 300), cut=st.integers(0, 300))
def test_the_same_ticks_give_the_same_samples_however_they_are_cut(waveform, tick, n, cut):
    cut = min(cut, n - 1)
    whole = of(waveform, tick, n)
    later = of(waveform, tick + cut, n - cut)
    np.testing.assert_array_equal(whole[cut:], later)


@pytest.mark.parametrize("waveform", WAVEFORMS)
def test_mean_power_is_one(waveform):
    n = 40_000
    # Gaussian power is exponential: its mean over n has standard deviation 1 / sqrt(n) = 0.005
    assert np.mean(np.abs(of(waveform, 0, n)) ** 2) == pytest.approx(1.0, abs=0.02)


def test_tone_is_the_stdlib_exponential():
    got = of(WAVEFORMS[0], 700, 5)
    expected = [cmath.exp(1j * (2 * math.pi * 1234.5 * t / 1e5 + 0.3)) for t in range(700, 705)]
    # atol: the phase at tick 700 is 54 rad, so 1e-14 rad of rounding
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_zadoff_chu_is_its_formula_and_has_no_sidelobes():
    s = zadoff_chu(31, 5)
    expected = [cmath.exp(-1j * math.pi * 5 * n * (n + 1) / 31) for n in range(31)]
    np.testing.assert_allclose(s, expected, rtol=0, atol=1e-11)
    for lag in range(1, 31):
        assert abs(np.vdot(s, np.roll(s, lag))) < 1e-10
    np.testing.assert_array_equal(of(WAVEFORMS[3], 31 * 7 + 4, 20), np.tile(s, 2)[4:24])


def test_qpsk_holds_a_symbol_and_takes_four_phases():
    x = of(Qpsk(samples_per_symbol=3), 0, 3000)
    np.testing.assert_array_equal(x[0::3], x[2::3])
    quadrants, counts = np.unique(np.round((np.angle(x[::3]) / math.pi - 0.25) * 2).astype(int) % 4, return_counts=True)
    assert quadrants.tolist() == [0, 1, 2, 3]
    assert counts.min() > 190  # of 1000, expected 250, sd 13.7: 4 sd


def test_gaussian_is_circular_and_white():
    x = of(Gaussian(), 0, 20_000)
    sd = 1 / math.sqrt(20_000)
    assert abs(np.mean(x * x)) < 5 * sd
    assert abs(np.mean(x[1:] * x[:-1].conj())) < 5 * sd


@pytest.mark.parametrize("waveform", [Gaussian(), Qpsk()])
def test_seed_key_and_kind_of_draw_each_change_the_draw(waveform):
    reference = of(waveform, 0, 64)
    for other in (
        of(waveform, 0, 64, seed=2),
        of(waveform, 0, 64, key=1),
        of(waveform, 0, 64, draw=Draw.GROUP_WAVEFORM),
    ):
        assert np.mean(reference == other) < 0.6  # QPSK agrees by chance in a quarter


@pytest.mark.parametrize(("length", "root"), [(64, 1), (63, 63), (63, 3)])
def test_a_pilot_that_is_no_zadoff_chu_is_refused(length, root):
    with pytest.raises(
        ParamError, match=rf"odd length and a root .* got length {length}, root {root} - at `\$.waveform`"
    ):
        convert_params(Holder, {"waveform": {"kind": "pilot", "length": length, "root": root}}, "test")

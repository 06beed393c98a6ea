"""From SRS symbols to responses: least squares, ports told apart, delays, denoising."""

from __future__ import annotations

import cmath

import numpy as np
import pytest

from blocks.cfr.delay_window import delay_window, denoise, strongest_delay_s
from blocks.cfr.srs_estimate import correlation, demodulate, estimate_responses, least_squares
from hil.errors import ParamError
from hil.formats.srs import Srs, fft_bins, srs_symbol
from tests.blocks.cfr.channels import C128, nmse_db, noise, of_carrier, small

WINDOW = {"before_s": 0.2e-6, "after_s": 1.0e-6}
PATHS = [(1.0 + 0j, 0.15e-6, 0.4), (0.5j, 0.45e-6, -0.7)]


def received(srs: Srs, responses: list[C128], noise_power: float, seed: int = 1) -> C128:
    """Subcarriers of one symbol in which each port sends through its own response."""
    out = noise(responses[0].shape, noise_power, seed)
    for port, h in enumerate(responses):
        sent = srs_symbol(srs, 0, 0, 0, port)
        out[:, sent.subcarrier] += h[:, sent.subcarrier] * sent.value
    return out


def test_demodulation_is_the_fourier_sum() -> None:
    srs = small(n_rb=4, n_fft=128, c_srs=0)
    samples = noise((2, 128), 1.0, 3)
    got = demodulate(samples, srs)
    for place in (0, 5, 47):
        k = int(fft_bins(srs)[place])
        total = sum(complex(samples[1, n]) * cmath.exp(-2j * cmath.pi * k * n / 128) for n in range(128))
        assert got[1, place] == pytest.approx(total / 128**0.5, abs=1e-9)


@pytest.mark.parametrize("comb", [2, 4])
def test_least_squares_without_noise_is_the_response_at_the_pilots(comb: int) -> None:
    srs = small(comb=comb, comb_offset=1, cyclic_shift=3)
    h, sent = of_carrier(srs, PATHS), srs_symbol(srs, 0, 0)
    np.testing.assert_allclose(least_squares(received(srs, [h], 0.0), sent), h[:, sent.subcarrier], atol=1e-9, rtol=0)


@pytest.mark.parametrize(("comb", "n_ports"), [(2, 1), (2, 2), (2, 4), (4, 1), (4, 2)])
def test_ports_are_estimated_on_all_subcarriers(comb: int, n_ports: int) -> None:
    """Ports that share pilots have paths of their own; at 20 dB the error is below the noise, at the edges too."""
    srs = small(comb=comb, n_ports=n_ports)
    # the window must be narrower than the ports' distance in delay
    width_s = min(1.2e-6, 0.8 / (comb * srs.scs_hz * n_ports))
    window = {"before_s": 0.25 * width_s, "after_s": 0.75 * width_s}
    responses = [of_carrier(srs, [(1.0, 0.1e-6, 0.3 * port), (0.4j, 0.3e-6, -0.5)]) for port in range(n_ports)]
    sent = tuple(srs_symbol(srs, 0, 0, 0, port) for port in range(n_ports))
    found = estimate_responses(received(srs, responses, 0.01), srs, sent, **window)
    assert len(found) == n_ports
    for estimate, h in zip(found, responses, strict=True):
        assert estimate.cfr.shape == h.shape and list(estimate.subcarrier) == list(range(288))
        assert nmse_db(estimate.cfr, h) < -20
        assert nmse_db(estimate.cfr[:, :8], h[:, :8]) < -12
        assert estimate.noise_power == pytest.approx(0.01, rel=0.25)
        assert estimate.delay_s == pytest.approx(0.1e-6, abs=0.03e-6)


def test_denoising_gains_what_the_window_leaves_out() -> None:
    """At 0 dB: 24 functions describe 1.2 us on 8.6 MHz of 144 pilots, 8 dB of the noise are gone with the others."""
    srs = small()
    h, sent = of_carrier(srs, PATHS), srs_symbol(srs, 0, 0)
    y = received(srs, [h], 1.25)
    plain = least_squares(y, sent)
    (clean,) = estimate_responses(y, srs, (sent,), **WINDOW)
    gain_db = nmse_db(plain, h[:, sent.subcarrier]) - nmse_db(clean.cfr[:, sent.subcarrier], h[:, sent.subcarrier])
    assert 6 < gain_db < 12


def test_a_window_that_the_comb_cannot_hold_is_refused() -> None:
    with pytest.raises(ParamError, match=r"1 of 4 subcarriers of 2 ports cannot be told apart; got 5e-06 s"):
        delay_window(288, 4, 0, 30e3, 5e-6, (0.0, 0.5))


@pytest.mark.parametrize("delay_s", [-1.3e-6, 0.0, 0.77e-6, 4.1e-6])
def test_the_strongest_delay_between_the_grid(delay_s: float) -> None:
    k = np.arange(144) * 60e3
    h = np.exp(-2j * np.pi * k * delay_s) * np.array([[1.0], [1j]])
    assert strongest_delay_s(h, 60e3) == pytest.approx(delay_s, abs=2e-9)


def test_what_lies_in_the_window_passes_unchanged_at_the_edges_too() -> None:
    """An inverse FFT with a rectangular window leaks there, as the response does not go on periodically."""
    k = np.arange(288) * 30e3
    h = np.exp(-2j * np.pi * k * 0.123e-6)[None]
    clean = denoise(h[:, ::2], delay_window(288, 2, 0, 30e3, 1.2e-6), 30e3, 0.1e-6)
    assert np.max(np.abs(clean.cfr[0] - h)) < 1e-3
    cut = np.fft.ifft(h[:, ::2])
    cut[:, 20:-4] = 0
    assert np.max(np.abs(np.fft.fft(cut)[0] - h[0, ::2])) > 0.05


def test_correlation_is_the_normalized_inner_product() -> None:
    symbol, samples = noise((32,), 1.0, 1), noise((2, 80), 0.1, 2)
    samples[:, 20:52] += np.array([[2.0], [1j]]) * symbol
    got = correlation(samples, symbol)
    assert got.shape == (49,) and int(np.argmax(got)) == 20
    for place in (0, 20, 48):
        part = samples[:, place : place + 32]
        hit = sum(abs(sum(x * s.conjugate() for x, s in zip(row, symbol, strict=True))) ** 2 for row in part)
        energy = np.sum(np.abs(part) ** 2) * np.sum(np.abs(symbol) ** 2)
        assert got[place] == pytest.approx(hit / energy, rel=1e-9)

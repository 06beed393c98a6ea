"""From received SRS symbols to channel frequency responses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.cfr.delay_window import delay_window, denoise, strongest_delay_s
from hil.formats.srs import Srs, SrsSymbol, fft_bins

Complex = npt.NDArray[np.complexfloating[Any, Any]]
C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def demodulate(samples: Complex, srs: Srs) -> C128:
    """Subcarriers of one OFDM symbol, unitary: noise keeps its power.

    Args:
        samples: ``[..., n_fft]``, the symbol behind its prefix.

    Returns:
        ``[..., subcarrier]``.
    """
    spectrum = np.fft.fft(np.asarray(samples, np.complex128), axis=-1) / np.sqrt(srs.n_fft)
    return spectrum[..., fft_bins(srs)]


def least_squares(subcarriers: Complex, sent: SrsSymbol) -> C128:
    """``Y r*`` on the pilots, ``[..., pilot]``, from ``[..., subcarrier]``: r has unit modulus."""
    return np.asarray(subcarriers[..., sent.subcarrier] * np.conj(sent.value), np.complex128)


class SrsEstimate(NamedTuple):
    """Response of one port in one symbol.

    Attributes:
        cfr: ``[sensor, subcarrier]`` on all subcarriers of the sounded band.
        subcarrier: Their numbers in the carrier, ``[subcarrier]``.
        delay_s: Of the strongest path.
        noise_power: Of a subcarrier, mean over sensors.
    """

    cfr: C128
    subcarrier: I64
    delay_s: float
    noise_power: float


def estimate_responses(
    subcarriers: Complex, srs: Srs, sent: tuple[SrsSymbol, ...], *, before_s: float, after_s: float
) -> list[SrsEstimate]:
    """Least squares on the pilots, then the window of delays about the strongest path, interpolated over the comb.

    Ports that share their subcarriers differ in cyclic shift, a delay: they are estimated together. The window must be
    narrower than their distance, ``1 / (comb spacing ports)``.

    Args:
        subcarriers: ``[sensor, subcarrier]`` of :func:`demodulate`.
        srs: The resource.
        sent: What each port sent.
        before_s: The window begins so long before the strongest path ...
        after_s: ... and ends so long after it.
    """
    out: dict[int, SrsEstimate] = {}
    for first in sorted({int(s.subcarrier[0]) for s in sent}):
        ports = [p for p, s in enumerate(sent) if int(s.subcarrier[0]) == first]
        lead = sent[ports[0]]
        measured = least_squares(subcarriers, lead)
        # how each port's sequence turns against the first one's, from pilot to pilot
        shifts = tuple(
            float(np.angle(sent[p].value[1] * np.conj(lead.value[1])) / (2 * np.pi)) if p != ports[0] else 0.0
            for p in ports
        )
        delay_s = _nearest_delay_s(measured, srs, len(ports))
        n = len(lead.subcarrier) * srs.comb
        offset = first % srs.comb
        window = delay_window(n, srs.comb, offset, srs.scs_hz, before_s + after_s, tuple(round(s, 12) for s in shifts))
        clean = denoise(measured, window, srs.scs_hz, delay_s + (after_s - before_s) / 2)
        band = first - offset + np.arange(n)
        for port, cfr in zip(ports, clean.cfr, strict=True):
            out[port] = SrsEstimate(cfr, band, delay_s, float(clean.noise_power.mean()))
    return [out[port] for port in range(len(sent))]


def _nearest_delay_s(measured: C128, srs: Srs, n_ports: int) -> float:
    """The strongest delay within the span that is the first port's own: the others' responses lie outside it."""
    if n_ports == 1:
        return strongest_delay_s(measured, srs.comb * srs.scs_hz)
    n = measured.shape[-1]
    lag = np.arange(n)
    half = n // (2 * n_ports)
    own = np.where((lag < half) | (lag >= n - half), np.fft.ifft(measured, axis=-1), 0)
    return strongest_delay_s(np.fft.fft(own, axis=-1), srs.comb * srs.scs_hz)


def correlation(samples: Complex, symbol: Complex) -> F64:
    r"""How like a known symbol the samples are from each place on: :math:`\sum_m |\langle x_m, s\rangle|^2 /
    (\|s\|^2 \sum_m \|x_m\|^2)`, 0 .. 1.

    Args:
        samples: ``[sensor, sample]``.
        symbol: ``[n_fft]``.

    Returns:
        ``[sample - n_fft + 1]``.
    """
    n, length = len(symbol), samples.shape[-1]
    size = 1 << int(np.ceil(np.log2(length)))
    spectrum = np.fft.fft(samples, size, axis=-1) * np.conj(np.fft.fft(symbol, size))
    hit = np.sum(np.abs(np.fft.ifft(spectrum, axis=-1)[:, : length - n + 1]) ** 2, axis=0)
    energy = np.concatenate([[0.0], np.cumsum(np.sum(np.abs(samples) ** 2, axis=0))])
    within = energy[n:] - energy[:-n]
    scale = float(np.sum(np.abs(symbol) ** 2))
    return np.asarray(hit / np.maximum(within * scale, np.finfo(float).tiny), np.float64)

"""Sounding reference signals in the time domain: what a radio at the array's place would have captured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hil.formats.srs import Srs, fft_bins, slot_samples, srs_symbol, symbol_start

C128 = npt.NDArray[np.complex128]


def srs_slot(srs: Srs, frame: int, slot: int, response: C128) -> C128:
    """Samples of one SRS slot at the array, without noise, ``[sensor, sample]`` complex128.

    OFDM as in TS 38.211 section 5.3.1, with a unitary transform: a subcarrier of power P has power P there too. The
    channel acts on each symbol with its prefix, which is exact while its delays lie within the prefix; before and
    after the SRS symbols there is nothing. The phase that section 5.4 adds symbol by symbol is left out: it is common
    to all antennas and subcarriers.

    Args:
        srs: The resource.
        frame: System frame number.
        slot: In the frame.
        response: ``[port, sensor, subcarrier]`` of the channel.
    """
    n_sensors = response.shape[1]
    bins, n_fft = fft_bins(srs), srs.n_fft
    out = np.zeros((n_sensors, slot_samples(srs, slot)), np.complex128)
    for which in range(srs.n_symbols):
        spectrum = np.zeros((n_sensors, n_fft), np.complex128)
        for port in range(srs.n_ports):
            sent = srs_symbol(srs, frame, slot, which, port)
            spectrum[:, bins[sent.subcarrier]] += response[port][:, sent.subcarrier] * sent.value
        symbol = np.fft.ifft(spectrum, axis=-1) * np.sqrt(n_fft)
        start = symbol_start(srs, slot, srs.start_symbol + which)
        last = symbol_start(srs, slot, srs.start_symbol + which - 1) + n_fft if srs.start_symbol + which else 0
        before = start - last  # the prefix
        out[:, start - before : start] = symbol[:, n_fft - before :]
        out[:, start : start + n_fft] = symbol
    return out

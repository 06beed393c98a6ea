"""One occasion: what the antennas receive, and what the base station makes of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.formats.srs import Srs, SrsSymbol
from sim_device.draws import Draw, generator

C128 = npt.NDArray[np.complex128]
C64 = npt.NDArray[np.complex64]
I16 = npt.NDArray[np.int16]


class Reception(NamedTuple):
    """What came on the pilots of one symbol.

    Attributes:
        sent: What each port sent.
        pilots: Each port's own subcarriers, ``[port, sensor, pilot]``; ports that share them are in it together.
    """

    sent: tuple[SrsSymbol, ...]
    pilots: C128


def receive(response: C128, sent: tuple[SrsSymbol, ...], noise_amplitude: float, seed: int, *key: int) -> Reception:
    """Pilots with noise.

    Args:
        response: ``[port, sensor, subcarrier]``.
        sent: What each port sends, each on unit-power subcarriers.
        noise_amplitude: Root of the noise power of a subcarrier.
        seed: Of the device.
        key: Tells this occasion from all others.
    """
    n_ports, n_sensors, n_subcarriers = response.shape
    pairs = generator(seed, Draw.SRS_NOISE, *key).standard_normal((n_sensors, n_subcarriers, 2), np.float32)
    field = (np.float32(noise_amplitude * np.sqrt(0.5)) * pairs).view(np.complex64)[..., 0].astype(np.complex128)
    for port in range(n_ports):
        field[:, sent[port].subcarrier] += response[port][:, sent[port].subcarrier] * sent[port].value
    return Reception(sent, np.stack([field[:, port.subcarrier] for port in sent]))


def least_squares(reception: Reception) -> C128:
    """``Y r*`` at the pilots of each port, ``[port, sensor, pilot]``; the other ports are still in it, turned."""
    return np.stack([y * np.conj(s.value) for y, s in zip(reception.pilots, reception.sent, strict=True)])


def separate_ports(srs: Srs, estimate: C128) -> C128:
    """Keep of each port's estimate what lies within half a spacing of the cyclic shifts, as a base station must.

    By a rectangular window over delay, so that the band's edges leak; with one port nothing is done.
    """
    if srs.n_ports == 1:
        return estimate
    n = estimate.shape[-1]
    delay = np.fft.ifft(estimate, axis=-1)
    half = n // (2 * srs.n_ports)
    lag = np.arange(n)
    return np.fft.fft(np.where((lag < half) | (lag >= n - half), delay, 0), axis=-1)


def interpolate(estimate: C128, sent: SrsSymbol, n_subcarriers: int) -> C128:
    """Over the comb by straight lines, ``[sensor, subcarrier]``; zero outside the sounded band."""
    first, last = int(sent.subcarrier[0]), int(sent.subcarrier[-1])
    comb = int(sent.subcarrier[1]) - first
    band = np.arange(first - first % comb, last - last % comb + comb)
    out = np.zeros((len(estimate), n_subcarriers), np.complex128)
    place = np.clip((band - first) / comb, 0, estimate.shape[-1] - 1)
    left = np.minimum(place.astype(np.int64), estimate.shape[-1] - 2)
    weight = place - left
    out[:, band] = (1 - weight) * estimate[:, left] + weight * estimate[:, left + 1]
    return out


def arrival_time_s(estimate: C128, spacing_hz: float) -> npt.NDArray[np.float64]:
    """When the strongest path came, ``[sensor]`` s, to 1/4096 of the unambiguous span, in half of it either way."""
    n = 4096
    peak = np.argmax(np.abs(np.fft.ifft(estimate, n, axis=-1)), axis=-1)
    return ((peak + n // 2) % n - n // 2) / (n * spacing_hz)


def to_counts(estimate: C128, scale: float) -> I16:
    """``[..., component]`` int16: in-phase and quadrature times ``scale``, saturated."""
    parts = estimate.astype(np.complex64)[..., None].view(np.float32) * np.float32(scale)
    return np.clip(np.rint(parts), -32768, 32767).astype(np.int16)

"""What the sources send: narrowband complex envelopes of unit mean power, as functions of the tick.

A tick is one sample period; tick 0 is the first sample of the device. Every function gives the same samples for the
same ticks, however they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.params import Count, Params, Radians
from sim_device.draws import TICK_BLOCK, Draw, generator

C128 = npt.NDArray[np.complex128]


class Tone(Params, frozen=True, tag_field="kind", tag="tone"):
    """A line at an offset from the centre frequency: ``exp(j (2 pi f t + phase))``."""

    frequency_hz: Annotated[float, Meta(description="offset from the centre frequency, Hz")] = 0.0
    phase_rad: Radians = 0.0


class Gaussian(Params, frozen=True, tag_field="kind", tag="gaussian"):
    """Circular complex Gaussian, white: independent from snapshot to snapshot."""


class Qpsk(Params, frozen=True, tag_field="kind", tag="qpsk"):
    """Independent equiprobable QPSK symbols, rectangular pulses."""

    samples_per_symbol: Annotated[Count, Meta(description="ticks that one symbol lasts")] = 1


class Pilot(Params, frozen=True, tag_field="kind", tag="pilot"):
    """A known sequence, repeated: Zadoff-Chu of odd ``length``. It begins anew at every multiple of it in ticks."""

    length: Annotated[int, Meta(ge=3, le=100_001, description="odd number of samples")] = 63
    root: Annotated[int, Meta(ge=1, description="below the length and prime to it")] = 1

    def __post_init__(self) -> None:
        if self.length % 2 == 0 or self.root >= self.length or math.gcd(self.root, self.length) != 1:
            raise ValueError(
                f"a pilot needs an odd length and a root below it that is prime to it, "
                f"got length {self.length}, root {self.root}"
            )


Waveform: TypeAlias = Tone | Gaussian | Qpsk | Pilot


def zadoff_chu(length: int, root: int) -> C128:
    r"""Zadoff-Chu sequence ``exp(-j pi root n (n + 1) / length)``, ``n = 0 .. length - 1``.

    Chu, Polyphase codes with good periodic correlation properties, IEEE Trans. Inf. Theory 18(4), 1972, for odd
    lengths. Unit modulus; its periodic autocorrelation is zero at every lag but 0.

    Returns:
        ``[length]`` complex128.
    """
    n = np.arange(length, dtype=np.int64)
    # the exponent's integer part of turns is dropped exactly, before it can cost digits
    half_turns = (root * n * (n + 1)) % (2 * length)
    return np.exp(-1j * np.pi * half_turns / length)


def envelope(waveform: Waveform, tick: int, n: int, *, sample_rate_hz: float, seed: int, draw: Draw, key: int) -> C128:
    """Samples of one waveform at ticks ``tick .. tick + n - 1``.

    Args:
        waveform: Which.
        tick: First tick, from 0.
        n: Number of ticks.
        sample_rate_hz: Ticks per second; only a tone depends on it.
        seed: Seed of the device.
        draw: ``WAVEFORM`` with the source's id as ``key``, or ``GROUP_WAVEFORM`` with the coherent group's number.
        key: See ``draw``.

    Returns:
        ``[n]`` complex128, unit mean power.
    """
    ticks = tick + np.arange(n, dtype=np.int64)
    match waveform:
        case Tone():
            turns = np.mod(ticks * (waveform.frequency_hz / sample_rate_hz), 1.0)
            return np.exp(1j * (2 * np.pi * turns + waveform.phase_rad))
        case Pilot():
            return zadoff_chu(waveform.length, waveform.root)[ticks % waveform.length]
        case Gaussian():
            return _by_block(ticks, lambda block: _gaussian_block(seed, draw, key, block))
        case Qpsk():
            return _by_block(ticks // waveform.samples_per_symbol, lambda block: _qpsk_block(seed, draw, key, block))


def _by_block(index: npt.NDArray[np.int64], draw_block: Callable[[int], C128]) -> C128:
    """Take elements ``index`` (not falling) of an endless sequence that is drawn in blocks of ``TICK_BLOCK``."""
    first, last = int(index[0]) // TICK_BLOCK, int(index[-1]) // TICK_BLOCK
    drawn = np.concatenate([draw_block(block) for block in range(first, last + 1)])
    return drawn[index - first * TICK_BLOCK]


def _gaussian_block(seed: int, draw: Draw, key: int, block: int) -> C128:
    pairs = generator(seed, draw, key, block).standard_normal((TICK_BLOCK, 2))
    return pairs.view(np.complex128)[:, 0] * math.sqrt(0.5)


def _qpsk_block(seed: int, draw: Draw, key: int, block: int) -> C128:
    quadrant = generator(seed, draw, key, block).integers(4, size=TICK_BLOCK)
    return np.exp(1j * np.pi * (0.25 + 0.5 * quadrant))

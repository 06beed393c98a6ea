"""The five tuners of the unit: they start and retune with delays and phases of their own, which it then measures with
its noise source and corrects.

What the antennas receive is the array's own samples. Before the correction each channel has a delay and a phase that
are drawn anew at each start and retune; while the noise source is on all channels hear that, and no antenna. After the
correction the samples are the array's own, bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim_device.draws import Draw, generator
from sim_device.servers.sample_feed import SampleFeed

C64 = npt.NDArray[np.complex64]

#: Greatest delay of a channel before the correction, samples.
MAX_DELAY = 16
#: Power of the noise source at each channel, dBFS.
NOISE_SOURCE_DB = -12.0
#: When the steps of a calibration begin, as parts of its length.
_STEPS = (0.2, 0.5, 0.8, 1.0)
#: Noise is drawn by so many ticks.
_BLOCK = 4096


class Step(NamedTuple):
    """What the unit is doing.

    Attributes:
        number: 0 waits for the tuners, 1 measures delays, 2 phases, 3 verifies, 4 is done.
        noise_source: On.
        delays_corrected: ...
        phases_corrected: ...
    """

    number: int
    noise_source: bool
    delays_corrected: bool
    phases_corrected: bool


class Receiver:
    """Samples of the channels as the unit gives them.

    Args:
        feed: What the antennas receive.
        calibration_s: How long a calibration takes, device time; 0: done at once.
        corrects: Whether the unit applies what it measured; otherwise that is left to whoever reads it.
        period: Ticks after which the antennas' samples repeat themselves.
    """

    def __init__(self, feed: SampleFeed, calibration_s: float, corrects: bool, period: int | None = None) -> None:
        self.feed, self.calibration_s, self.corrects, self.period = feed, calibration_s, corrects, period
        self.n_tunes = 0
        self.since_tick = 0
        self.frequency_hz, self.gain_db = feed.frequency_hz, feed.gain_db
        self._draw()

    def follow(self, tick: int, n: int) -> None:
        """Take over what commands have changed by the end of ticks ``tick .. tick + n - 1``: a frame in which something
        changes tells of it. Another frequency begins a calibration."""
        state = self.feed.device.state
        if state.tick >= tick + n:
            return
        self.gain_db = state.gain_db
        if state.frequency_hz != self.frequency_hz:
            self.frequency_hz = state.frequency_hz
            self.n_tunes += 1
            self.since_tick = tick
            self._draw()

    def overdriven(self, samples: C64) -> int:
        """One bit for each channel of ``[channel, n]`` that reaches full scale."""
        if self.period is not None:
            return 0  # it costs as much as sending, and a loop is there for speed
        peaks = np.abs(samples.view(np.float32)).max(axis=1)
        return sum(1 << c for c, peak in enumerate(peaks) if peak >= 1)

    def recalibrate(self, tick: int) -> None:
        """Begin a calibration at ``tick``."""
        self.since_tick = tick

    def step(self, tick: int) -> Step:
        """What the unit does at ``tick``."""
        length = self.calibration_s * self.feed.sample_rate_hz
        passed = (tick - self.since_tick) / length if length else 1.0
        number = sum(passed >= begin for begin in _STEPS)
        return Step(number, 1 <= number <= 3, self.corrects and number >= 2, self.corrects and number >= 3)

    def samples(self, tick: int, n: int) -> C64:
        """What comes out at ticks ``tick .. tick + n - 1``, ``[channel, n]``, all in the state of the first."""
        step = self.step(tick)
        longer = n if step.delays_corrected else n + MAX_DELAY
        x = self._noise(tick, longer) if step.noise_source else self.feed.samples(tick, longer)
        if not step.delays_corrected:
            x = np.stack([row[d : d + n] for row, d in zip(x, self.delay.tolist(), strict=True)])
        return x if step.phases_corrected else x * self.phase[:, None]

    def _draw(self) -> None:
        """Delays and phases of the tuners after a start or a retune, relative to the first."""
        n, seed = self.feed.n_channels, self.feed.device.params.seed
        rng = generator(seed, Draw.TUNER, self.n_tunes)
        self.delay = rng.integers(0, MAX_DELAY + 1, n)
        self.phase = np.exp(2j * np.pi * rng.uniform(size=n)).astype(np.complex64)
        self.phase[0] = 1

    def _noise(self, tick: int, n: int) -> C64:
        """The noise source, the same in all channels, and noise of each, ``[channel, n]``."""
        p = self.feed.device.params
        first, last = tick // _BLOCK, (tick + n - 1) // _BLOCK
        blocks = []
        for block in range(first, last + 1):
            rng = generator(p.seed, Draw.NOISE_SOURCE, block)
            parts = rng.standard_normal((1 + self.feed.n_channels, 2 * _BLOCK), dtype=np.float32).view(np.complex64)
            own = np.float32(10 ** ((p.noise_power_db + self.gain_db) / 20) / np.sqrt(2))
            blocks.append(parts[:1] * np.float32(10 ** (NOISE_SOURCE_DB / 20) / np.sqrt(2)) + parts[1:] * own)
        start = tick - first * _BLOCK
        noise: C64 = np.concatenate(blocks, axis=1)[:, start : start + n]
        return noise

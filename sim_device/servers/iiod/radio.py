"""What is between antenna and converter: gains and their modes, analogue bandwidth, one local oscillator a chip.

The simulated array has one gain, one frequency and no filter. What a transceiver does on top is done here, to its
samples: channels with more gain than the lowest, chips tuned apart, a band narrower than the sample rate. Where there
is none of that, the counts are those of the one sample function, bit for bit.
"""

from __future__ import annotations

import errno
import threading
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve, firwin

from hil.errors import HilError
from sim_device.servers.iiod.context import fail
from sim_device.servers.quantise import C64, I16, quantise
from sim_device.servers.sample_feed import SampleFeed

GainMode = Literal["manual", "fast_attack", "slow_attack", "hybrid"]
GAIN_MODES: tuple[GainMode, ...] = get_args(GainMode)
#: An automatic gain control holds the power of a channel here, dBFS, and leaves it alone within the tolerance.
AGC_TARGET_DB, AGC_TOLERANCE_DB = -12.0, 2.0
#: Taps of the analogue filter's stand-in; it delays by half of them, as any causal filter does.
_FILTER_TAPS = 65


class Limits(NamedTuple):
    """Lowest, step, highest: as the kernel's ``*_available`` files have them."""

    low: float
    step: float
    high: float

    def check(self, value: float, what: str) -> float:
        """Return ``value``.

        Raises:
            OSError: EINVAL where it is beyond a limit.
        """
        if not self.low <= value <= self.high:
            raise fail(errno.EINVAL, f"{what} {value:g} is not in {self.low:g} .. {self.high:g}")
        return value

    def __str__(self) -> str:
        return f"[{self.low:.15g} {self.step:.15g} {self.high:.15g}]"


class RadioLimits(NamedTuple):
    frequency_hz: Limits
    sample_rate_hz: Limits
    bandwidth_hz: Limits
    gain_db: Limits


class Radio:
    """The receivers of one device. Any thread may call.

    Args:
        feed: Samples, time, and the device's verbs.
        n_chips: Chips, each with a local oscillator and a filter; the channels are shared out evenly.
        bits: Of the converters.
        limits: Of what can be set.
        bandwidth_hz: At first, of all chips.
        loop_ticks: Of the feed: the samples repeat, and gains, oscillators and filters stand still in them.
    """

    def __init__(
        self,
        feed: SampleFeed,
        n_chips: int,
        bits: int,
        limits: RadioLimits,
        bandwidth_hz: float,
        loop_ticks: int | None = None,
    ) -> None:
        self.feed, self.bits, self.limits, self.loop_ticks = feed, bits, limits, loop_ticks
        self._lock = threading.RLock()
        self.channels_per_chip = feed.n_channels // n_chips
        self._extra_db = np.zeros(feed.n_channels)
        self.mode: list[GainMode] = ["manual"] * feed.n_channels
        self.bandwidth_hz = [bandwidth_hz] * n_chips
        self._lo_offset_hz = [0.0] * n_chips

    # -- local oscillators -----------------------------------------------------------------------------------------

    def frequency_hz(self, chip: int = 0) -> float:
        return self.feed.frequency_hz + self._lo_offset_hz[chip]

    def tune(self, frequency_hz: float, chip: int = 0) -> None:
        """Set a local oscillator; that of chip 0 is the device's, the others stay where they are."""
        self.limits.frequency_hz.check(frequency_hz, "frequency")
        with self._lock:
            if chip == 0:
                moved_hz = frequency_hz - self.feed.frequency_hz
                self._command("tune", frequency_hz=frequency_hz)
                self._lo_offset_hz[1:] = [offset - moved_hz for offset in self._lo_offset_hz[1:]]
            else:
                self._lo_offset_hz[chip] = frequency_hz - self.feed.frequency_hz

    # -- rate and bandwidth ----------------------------------------------------------------------------------------

    def set_sample_rate(self, sample_rate_hz: float) -> None:
        self.limits.sample_rate_hz.check(sample_rate_hz, "sample rate")
        if sample_rate_hz != self.feed.sample_rate_hz:
            self._command("set_sample_rate", sample_rate_hz=sample_rate_hz)

    def set_bandwidth(self, bandwidth_hz: float, chip: int = 0) -> None:
        self.bandwidth_hz[chip] = self.limits.bandwidth_hz.check(bandwidth_hz, "bandwidth")

    # -- gain ------------------------------------------------------------------------------------------------------

    def gain_db(self, channel: int) -> float:
        return float(self.feed.gain_db + self._extra_db[channel])

    def set_gain(self, gain_db: float, *channels: int) -> None:
        """Set the gain of channels.

        Raises:
            OSError: EOPNOTSUPP where an automatic gain control has it; EINVAL beyond the limits.
        """
        for channel in channels:
            if self.mode[channel] != "manual":
                raise fail(errno.EOPNOTSUPP, f"gain of channel {channel} is set in mode manual only")
        self._put_gains(dict.fromkeys(channels, self.limits.gain_db.check(gain_db, "gain")))

    def set_mode(self, mode: str, *channels: int) -> None:
        for known in GAIN_MODES:
            if mode == known:
                for channel in channels:
                    self.mode[channel] = known
                return
        raise fail(errno.EINVAL, f"gain mode {mode!r} is none of {' '.join(GAIN_MODES)}")

    # -- samples ---------------------------------------------------------------------------------------------------

    @property
    def neutral(self) -> bool:
        """Nothing is done to the samples."""
        return self.loop_ticks is not None or not (
            self._extra_db.any()
            or any(self._lo_offset_hz)
            or any(mode != "manual" for mode in self.mode)
            or any(b < self.feed.sample_rate_hz for b in self.bandwidth_hz)
        )

    def counts(self, tick: int, n: int) -> I16:
        """What the converters give for ticks ``tick .. tick + n - 1``, ``[channel, n, component]``."""
        if self.neutral:
            return self.feed.counts(tick, n, self.bits)
        with self._lock:
            extra = (10 ** (self._extra_db / 20)).astype(np.float32)[:, None]
            bandwidth, offset = list(self.bandwidth_hz), list(self._lo_offset_hz)
        history = min(tick, _FILTER_TAPS - 1)
        samples = self.feed.samples(tick - history, n + history) * extra
        out = np.empty((len(samples), n), np.complex64)
        for chip, (band_hz, offset_hz) in enumerate(zip(bandwidth, offset, strict=True)):
            part = slice(chip * self.channels_per_chip, (chip + 1) * self.channels_per_chip)
            mixed = _shift(samples[part], tick - history, offset_hz / self.feed.sample_rate_hz)
            out[part] = _band_limit(mixed, history, band_hz / self.feed.sample_rate_hz)
        self._control_gain(out)
        return quantise(out, self.bits)

    def _control_gain(self, samples: C64) -> None:
        """One step of the automatic gain controls, from the power of the samples that were just taken."""
        power_db = 10 * np.log10(np.mean(np.abs(samples) ** 2, axis=1) + 1e-30)
        wanted: dict[int, float] = {}
        for channel, mode in enumerate(self.mode):
            away_db = AGC_TARGET_DB - power_db[channel]
            if mode != "manual" and abs(away_db) > AGC_TOLERANCE_DB:
                low, step, high = self.limits.gain_db
                gain_db = step * round((self.gain_db(channel) + away_db) / step)
                wanted[channel] = min(max(gain_db, low), high)
        if wanted:
            self._put_gains(wanted)

    def _put_gains(self, gains_db: dict[int, float]) -> None:
        """Set gains: the lowest of all is the device's, so that the device clips no sample that is not clipped here."""
        with self._lock:
            gains = self.feed.gain_db + self._extra_db
            for channel, gain_db in gains_db.items():
                gains[channel] = gain_db
            lowest = float(gains.min())
            if lowest != self.feed.gain_db:
                self._command("set_gain", gain_db=lowest)
            self._extra_db = gains - lowest

    def _command(self, verb: str, **args: float) -> None:
        try:
            self.feed.command(verb, args)
        except HilError as error:
            raise fail(errno.EINVAL, str(error)) from error


def _shift(samples: C64, tick: int, turns_per_tick: float) -> C64:
    """What an oscillator that is higher by ``turns_per_tick`` sample rates makes of the samples."""
    if turns_per_tick == 0:
        return samples
    turns = np.mod((tick + np.arange(samples.shape[1])) * turns_per_tick, 1.0)
    return samples * np.exp(-2j * np.pi * turns).astype(np.complex64)


def _band_limit(samples: C64, history: int, width: float) -> C64:
    """Drop ``history`` samples, after a low-pass over them where the band (in sample rates) is narrower than 1."""
    if width >= 1:
        return samples[:, history:]
    padded = np.pad(samples, ((0, 0), (_FILTER_TAPS - 1 - history, 0)))
    filtered: C64 = fftconvolve(padded, _low_pass(width)[None, :], mode="valid", axes=1).astype(np.complex64)
    return filtered


@lru_cache(maxsize=8)
def _low_pass(width: float) -> npt.NDArray[np.float32]:
    taps: npt.NDArray[np.float32] = firwin(_FILTER_TAPS, max(width, 0.01)).astype(np.float32)
    return taps

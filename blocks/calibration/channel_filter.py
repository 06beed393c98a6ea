"""Take delay, phase and gain of each channel out of a stream of samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import oaconvolve

from blocks.calibration.gain_phase import correction

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
C64 = npt.NDArray[np.complex64]

#: Taps on each side of a fractional delay, and the shape of its window: below -70 dB of error to 0.8 of the band.
HALF_LENGTH = 24
_KAISER_BETA = 8.0
#: A delay nearer to a whole number of samples than this is one: its error is below -80 dB anywhere in the band.
_WHOLE = 3e-5


class Aligned(NamedTuple):
    """Samples that came out.

    Attributes:
        samples: ``[sensor, snapshot]``; may be none.
        first: Their first one's place, counted from the first sample of the chunk that went in; may be negative.
    """

    samples: C64
    first: int


def fractional_delay(fraction: float, half_length: int = HALF_LENGTH) -> F64:
    """Taps ``h[k]`` with ``sum_k h[k] x[n + k - half_length] = x(n + fraction)``: a sinc under a Kaiser window.

    Args:
        fraction: Samples, -0.5 .. 0.5.
        half_length: Taps on each side.
    """
    k = np.arange(-half_length, half_length + 1) - fraction
    inside = np.clip(1 - (k / (half_length + 0.5)) ** 2, 0, None)
    taps: F64 = np.sinc(k) * np.i0(_KAISER_BETA * np.sqrt(inside)) / np.i0(_KAISER_BETA)
    return taps


class ChannelFilter:
    """Undoes delays, phases and gains of channels: the samples that come out left the source together.

    Sample ``i`` that comes out is of the time of sample ``i`` of a channel without delay. The first and the last
    samples of a stretch, whose partners have not come, do not come out: :attr:`lead` and :attr:`lag` of them.

    Args:
        delay_samples: How much later each channel is, ``[sensor]``.
        phase_rad: Phase that each adds, ``[sensor]``.
        gain_db: Gain that each adds, ``[sensor]``.
    """

    def __init__(self, delay_samples: F64, phase_rad: F64, gain_db: F64) -> None:
        factors = correction(gain_db, phase_rad)
        self._whole: I64 = np.rint(delay_samples).astype(np.int64)
        fraction = delay_samples - self._whole
        half = HALF_LENGTH if np.abs(fraction).max(initial=0.0) > _WHOLE else 0
        taps = np.stack([fractional_delay(f, half) for f in fraction]) if half else np.ones((len(factors), 1))
        self._taps: C64 = (factors[:, None] * taps).astype(np.complex64)
        #: Samples at the start of a stretch that do not come out.
        self.lead = max(0, half - int(self._whole.min(initial=0)))
        #: ... and at its end.
        self.lag = max(0, half + int(self._whole.max(initial=0)))
        self._half = half
        self._kept: C64 = np.empty((len(factors), 0), np.complex64)

    def reset(self) -> None:
        """What comes next does not follow what came before."""
        self._kept = self._kept[:, :0]

    def push(self, x: C64) -> Aligned:
        """Take the next samples ``[sensor, snapshot]``; return what they complete."""
        if not self.lead and not self.lag:
            return Aligned(x * self._taps, 0)
        before = self._kept.shape[1]
        x = np.concatenate([self._kept, x], axis=1)
        n_out = max(0, x.shape[1] - self.lead - self.lag)
        starts = self.lead + self._whole - self._half
        self._kept = x[:, n_out:].copy()
        if not n_out:
            return Aligned(x[:, :0], 0)
        width = n_out + 2 * self._half
        rows = np.stack([row[s : s + width] for row, s in zip(x, starts, strict=True)])
        if self._half:
            out = oaconvolve(rows, self._taps[:, ::-1], mode="valid", axes=-1).astype(np.complex64, copy=False)
        else:
            out = rows * self._taps
        return Aligned(out, self.lead - before)

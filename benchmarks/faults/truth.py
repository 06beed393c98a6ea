"""What was really lost and damaged, seen from the samples themselves and not from what a driver says of them.

The samples of a simulated device repeat after ``period`` ticks and are noise, so that a few neighbours tell which
ticks they are. Occasions of terminals have numbers of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hil.formats.srs import FRAMES_PER_CYCLE
from hil.frame import AnyArray, Frame, Header
from sim_device.device import XlArrayDevice
from sim_device.servers.heimdall.version2 import to_bytes
from sim_device.servers.quantise import quantise

U64 = npt.NDArray[np.uint64]

#: How a protocol gives a sample; the number is the converter's bits.
Form = Literal["complex64", "int16", "int12", "uint8"]
#: Neighbours that tell a place, and where in a frame they are looked for.
_NEIGHBOURS = 8
_LOOKS = (0.0, 0.5, 0.9)
#: A frame is given so much later than its last sample was there, by more only where it was kept.
_KEPT_S = 0.1
#: Integers of one channel's sample by its bytes.
_WORDS = {8: np.uint64, 4: np.uint32, 2: np.uint16}


class Seen(NamedTuple):
    """A frame as it arrived.

    Attributes:
        at_s: Monotonic clock.
        header: As the driver gave it.
        key: What its place counts for: frames of other keys are counted apart.
        place: Of its first sample (in the period), or occasion; ``None``: found nowhere.
        n: Samples, 1 for an occasion.
        n_wrong: Samples (or occasions) that are not the device's own.
    """

    at_s: float
    header: Header
    key: tuple[int, ...] = ()
    place: int | None = None
    n: int = 0
    n_wrong: int = 0


class Truth(Protocol):
    """Finds frames in what the device gave."""

    def look(self, at_s: float, frame: Frame) -> Seen:
        """See which samples a data frame has."""

    def forget(self) -> None:
        """The device is started again, and may give other values."""

    def lost(self, seen: Sequence[Seen], restarts_s: Sequence[float]) -> int:
        """How much is missing between frames in the order of arrival, but for where the device was started again."""


def _pairs(seen: Iterable[Seen], restarts_s: Sequence[float]) -> Iterator[tuple[Seen, Seen]]:
    """Neighbours of one key, of one life of the device."""
    last: dict[tuple[int, ...], Seen] = {}
    for now in seen:
        if now.place is None:
            continue
        before = last.get(now.key)
        if before is not None and not any(before.at_s < at <= now.at_s for at in restarts_s):
            yield before, now
        last[now.key] = now


class SampleTruth:
    """Samples that repeat.

    Args:
        device: Parameters of the simulated array.
        period: Ticks after which its samples repeat.
        form: How the protocol gives them.
    """

    def __init__(self, device: dict[str, Any], period: int, form: Form) -> None:
        samples = XlArrayDevice("truth", **device).samples(0, period)
        self.period, self.rate_hz = period, float(device["sample_rate_hz"])
        if form == "complex64":
            self._ticks = _words(samples, "sensor snapshot")
        else:
            counts = to_bytes(samples) if form == "uint8" else quantise(samples, int(form[3:]))
            self._ticks = _words(counts, "sensor snapshot component")
        rng = np.random.default_rng(0)
        self._factor = rng.integers(1, 1 << 63, (_NEIGHBOURS, self._ticks.shape[1]), dtype=np.uint64)
        hashes = self._hashes(np.concatenate([self._ticks, self._ticks[: _NEIGHBOURS - 1]]))
        self._order = np.argsort(hashes)
        self._sorted = hashes[self._order]

    def look(self, at_s: float, frame: Frame) -> Seen:
        words = _words(frame.arrays["iq"], " ".join(frame.header.arrays[0].axes))
        n = len(words)
        best: tuple[int, int | None] = (n, None)
        for part in _LOOKS:
            at = min(int(part * n), n - _NEIGHBOURS)
            if at < 0 or (tick := self._tick_of(words[at : at + _NEIGHBOURS])) is None:
                continue
            first = (tick - at) % self.period
            wrong = int(np.any(words != self._ticks.take(np.arange(first, first + n), 0, mode="wrap"), axis=1).sum())
            best = min(best, (wrong, first), key=lambda b: b[0])
            if wrong == 0:
                break
        return Seen(at_s, frame.header, (), best[1], n, best[0])

    def forget(self) -> None:
        """Its samples are the same again."""

    def lost(self, seen: Sequence[Seen], restarts_s: Sequence[float]) -> int:
        total, there_s = 0, float("inf")
        for before, now in _pairs(seen, restarts_s):
            assert before.place is not None
            assert now.place is not None
            # a frame that was kept somewhere came later than its samples were there
            before_s = min(before.at_s, there_s)
            gap = (now.place - before.place - before.n) % self.period
            if gap == 0:  # that it is just a period is not likely
                there_s = before_s + now.n / self.rate_hz + _KEPT_S
                continue
            # how often the samples went round meanwhile, by the clock
            about = (now.at_s - before_s) * self.rate_hz - now.n
            total += gap + self.period * max(0, round((about - gap) / self.period))
            there_s = float("inf")
        return total

    def _hashes(self, words: U64) -> U64:
        n = len(words) - _NEIGHBOURS + 1
        out = np.zeros(n, np.uint64)
        for k in range(_NEIGHBOURS):
            out += (words[k : k + n] * self._factor[k]).sum(axis=1, dtype=np.uint64)
        return out

    def _tick_of(self, words: U64) -> int | None:
        wanted = self._hashes(words)[0]
        place = int(np.searchsorted(self._sorted, wanted))
        return int(self._order[place]) if place < self.period and self._sorted[place] == wanted else None


class TickTruth:
    """Samples that do not repeat, by the ticks that the driver claims: each is compared with the device's own."""

    def __init__(self, device: dict[str, Any]) -> None:
        self._device = XlArrayDevice("truth", **device)

    def look(self, at_s: float, frame: Frame) -> Seen:
        samples, tick = frame.arrays["iq"], frame.header.sample_start
        n = samples.shape[1]
        if tick is None:
            return Seen(at_s, frame.header, (), None, n, n)
        wrong = int(np.any(samples != self._device.samples(tick, n), axis=0).sum())
        return Seen(at_s, frame.header, (), tick, n, wrong)

    def forget(self) -> None:
        """Its samples are the same again."""

    def lost(self, seen: Sequence[Seen], restarts_s: Sequence[float]) -> int:
        total = 0
        for before, now in _pairs(seen, restarts_s):
            assert before.place is not None
            assert now.place is not None
            total += now.place - before.place - before.n
        return total


class OccasionTruth:
    """Channel estimates: an occasion each period, the same values each time (``loop_occasions=1``).

    Args:
        period: Frames between occasions of a terminal.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        self._known: dict[tuple[int, ...], AnyArray] = {}

    def look(self, at_s: float, frame: Frame) -> Seen:
        key = int(frame.arrays["rnti"]), int(frame.header.meta["port"])
        values = self._known.setdefault(key, frame.arrays["cfr"])
        wrong = not np.array_equal(values, frame.arrays["cfr"])
        return Seen(at_s, frame.header, key, int(frame.header.meta["frame"]), 1, int(wrong))

    def forget(self) -> None:
        """Other noise."""
        self._known.clear()

    def lost(self, seen: Sequence[Seen], restarts_s: Sequence[float]) -> int:
        total = 0
        for before, now in _pairs(seen, restarts_s):
            assert before.place is not None
            assert now.place is not None
            total += (now.place - before.place) % FRAMES_PER_CYCLE // self._period - 1
        return total


def _words(samples: AnyArray, axes: str) -> U64:
    """Samples as integers ``[tick, channel]``."""
    if "component" in axes:
        if axes.startswith("sensor"):
            samples = samples.transpose(1, 0, 2)
        samples = np.ascontiguousarray(samples)
        samples = samples.view(_WORDS[2 * samples.itemsize])[..., 0]
    else:
        samples = np.ascontiguousarray(samples.T).view(np.uint64)
    return samples.astype(np.uint64)

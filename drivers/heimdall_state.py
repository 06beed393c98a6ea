"""What frames of heimdall say beside their samples: epochs, what is missing, what may be used for estimation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from drivers.ledger import Ledger
from drivers.pace import Pace
from hil.formats import heimdall
from hil.formats.heimdall import HeaderV1, HeaderV2
from hil.frame import NO_LOSS, Frame, Loss

_NS_PER_S = 1_000_000_000


class FrameState(NamedTuple):
    """What goes before and into a frame.

    Attributes:
        events: Event and descriptor frames to give before it.
        tick: Its first sample.
        time_ns: Time of that.
        lost: Before it.
        meta: Of its header.
    """

    events: list[Frame]
    tick: int
    time_ns: int
    lost: Loss
    meta: dict[str, Any]


class _State:
    """What both versions tell: noise source, and whether channels are synchronized.

    Args:
        require_sync: Frames of channels that are not are not usable.

    Attributes:
        gain_tenth_db: Of each channel, as the last frame said.
        n_not_usable: Frames so far.
    """

    def __init__(self, require_sync: bool) -> None:
        self._require_sync = require_sync
        self.gain_tenth_db: tuple[int, ...] = ()
        self.n_not_usable = 0
        self._noise_source: bool | None = None
        self._synchronized: bool | None = None
        self._reconnected = False

    def disconnected(self) -> None:
        """The connection is gone; what comes next is of another."""
        self._reconnected = True

    def _follow(self, ledger: Ledger, noise_source: bool, synchronized: bool) -> list[Frame]:
        out: list[Frame] = []
        if noise_source != self._noise_source and (noise_source or self._noise_source is not None):
            out.append(ledger.event("noise_source", on=noise_source))
        if (
            self._synchronized is False and synchronized
        ):  # other corrections from here on: another phase of each channel
            out += ledger.new_epoch("synchronized", ticks_go_on=True)
        if self._synchronized is True and not synchronized:
            out.append(ledger.event("sync_lost"))
        self._noise_source, self._synchronized = noise_source, synchronized
        return out

    def _new_gain(self, ledger: Ledger, gain_tenth_db: tuple[int, ...]) -> list[Frame]:
        before, self.gain_tenth_db = self.gain_tenth_db, gain_tenth_db
        if not before or before == gain_tenth_db:
            return []
        return ledger.new_epoch("gain", ticks_go_on=True, gain_db=[g / 10 for g in gain_tenth_db])

    def _meta(self, noise_source: bool, reasons: Sequence[str], **more: Any) -> dict[str, Any]:
        why = next(iter(reasons), "")
        self.n_not_usable += bool(why)
        told = {"noise_source": noise_source, "usable": not why, **more}
        return {**told, "why": why} if why else told


def _new_frequency(ledger: Ledger, frequency_hz: float) -> list[Frame]:
    ledger.frequency_hz = frequency_hz
    return ledger.new_epoch("retune", ticks_go_on=True, frequency_hz=frequency_hz)


class StateV1(_State):
    """Of version 1. Frames are numbered by their index, which is continued through a lost connection."""

    def __init__(self, *, require_sync: bool, clock_jump_s: float) -> None:
        super().__init__(require_sync)
        self._clock_jump_s = clock_jump_s
        self._next_cpi: int | None = None
        self._next_tick = 0
        self._next_time_ns: int | None = None
        self._overdrive = 0

    def next(self, h: HeaderV1, ledger: Ledger) -> FrameState:
        """Take the next header; ``ledger`` gets its epochs."""
        events: list[Frame] = []
        lost = NO_LOSS
        if self._next_cpi is None:
            self._next_tick = h.cpi * h.n_samples
        elif h.cpi < self._next_cpi or (self._reconnected and not self._goes_on(h, ledger)):  # the unit counts anew
            self._next_tick, self._next_time_ns = h.cpi * h.n_samples, None
            if not self._reconnected:
                events += ledger.new_epoch("restart")
            events.append(ledger.event("gap", samples=None, frames=None, why="the device was restarted"))
        else:
            missing = h.cpi - self._next_cpi
            lost = Loss(frames=missing, samples=missing * h.n_samples)
            self._next_tick += lost.samples
        self._reconnected = False
        events += self._changes(h, ledger)
        time_ns = h.time_ms * 1_000_000
        events += self._clock(h, ledger, time_ns, lost.samples)
        tick = self._next_tick
        self._next_cpi, self._next_tick = h.cpi + 1, tick + h.n_samples
        synchronized = bool(h.delay_sync and h.iq_sync)
        reasons = [
            *(["the noise source is on"] if h.noise_source else []),
            *([f"a frame of type {heimdall.FRAME_TYPES[h.frame_type]}"] if h.frame_type != heimdall.DATA else []),
            *(["channels are not synchronized"] if self._require_sync and not synchronized else []),
        ]
        overdriven = {"overdriven": _channels(h.overdrive)} if h.overdrive else {}
        return FrameState(events, tick, time_ns, lost, self._meta(bool(h.noise_source), reasons, **overdriven))

    def _goes_on(self, h: HeaderV1, ledger: Ledger) -> bool:
        """Whether the index went on with the clock; that of a unit that was started anew does not."""
        if self._next_time_ns is None or self._next_cpi is None:
            return True
        missing_s = (h.cpi - self._next_cpi) * h.n_samples / (ledger.sample_rate_hz or 1.0)
        return abs((h.time_ms * 1_000_000 - self._next_time_ns) / _NS_PER_S - missing_s) <= self._clock_jump_s

    def _changes(self, h: HeaderV1, ledger: Ledger) -> list[Frame]:
        out: list[Frame] = []
        if h.frequency_hz != ledger.frequency_hz:
            out += _new_frequency(ledger, float(h.frequency_hz))
        if h.n_samples and h.sample_rate_hz != ledger.sample_rate_hz:
            ledger.sample_rate_hz, self._next_time_ns = float(h.sample_rate_hz), None
            out += ledger.new_epoch("sample_rate", ticks_go_on=True, sample_rate_hz=ledger.sample_rate_hz)
        out += self._new_gain(ledger, h.gain_tenth_db[: h.n_channels])
        out += self._follow(ledger, bool(h.noise_source), bool(h.delay_sync and h.iq_sync))
        if h.overdrive & ~self._overdrive:
            out.append(ledger.event("overdrive", channels=_channels(h.overdrive)))
        self._overdrive = h.overdrive
        return out

    def _clock(self, h: HeaderV1, ledger: Ledger, time_ns: int, lost_samples: int) -> list[Frame]:
        out: list[Frame] = []
        rate_hz = ledger.sample_rate_hz or 1.0
        if self._next_time_ns is not None:
            off_s = (time_ns - self._next_time_ns) / _NS_PER_S - lost_samples / rate_hz
            if abs(off_s) > self._clock_jump_s:
                out.append(ledger.event("clock_jump", seconds=off_s))
        self._next_time_ns = time_ns + round(h.n_samples / rate_hz * _NS_PER_S)
        return out


class StateV2(_State):
    """Of version 2. Nothing is numbered; ``tick`` counts the samples that came."""

    def __init__(self, *, require_sync: bool, sample_rate_hz: float, settle_s: float, noise_settle_s: float) -> None:
        super().__init__(require_sync)
        self._rate_hz = sample_rate_hz
        self._settle = {"a retune": settle_s, "the noise source went off": noise_settle_s}
        self._settled_at: dict[str, int] = {}
        self._tick = 0
        self._pace = Pace()
        self._changes_seen: int | None = None
        self._retuning = False

    def disconnected(self) -> None:
        super().disconnected()
        self._pace = Pace()

    def next(self, h: HeaderV2, ledger: Ledger, skipped: int) -> FrameState:
        """Take the next header; ``skipped`` bytes before it were of no packet."""
        events, lost = self._resynchronized(h, ledger, skipped)
        self._reconnected = False
        frequency_hz = float(h.frequency_hz[0])
        moved = ledger.frequency_hz is None or abs(frequency_hz - ledger.frequency_hz) > 1.0
        counted = self._changes_seen not in (None, h.frequency_changes)
        if moved or counted or (h.retuning and not self._retuning):
            events += _new_frequency(ledger, frequency_hz)
            self._settles("a retune")
        elif self._retuning and h.retuning:
            self._settles("a retune")
        self._retuning, self._changes_seen = bool(h.retuning), h.frequency_changes
        events += self._new_gain(ledger, tuple(round(10 * g) for g in h.gain_db))
        was_on = self._noise_source
        events += self._follow(ledger, bool(h.noise_source), h.phase_state == heimdall.CONVERGED)
        if was_on and not h.noise_source:
            self._settles("the noise source went off")
        tick = self._tick
        self._tick += h.n_samples
        missing_s = self._pace.missing_s(self._tick / self._rate_hz, time.monotonic())
        if missing_s is not None:
            events.append(ledger.unnumbered_gap(missing_s))
        reasons = [
            *(["the noise source is on"] if h.noise_source else []),
            *(["it is being retuned"] if h.retuning else []),
            *([f"phases: {_phase_name(h.phase_state)}"] if self._require_sync and not self._synchronized else []),
            *(f"data settle after {what}" for what, at in self._settled_at.items() if tick < at),
        ]
        # the host's clock when the last sample was there
        time_ns = time.time_ns() - round(h.n_samples / self._rate_hz * _NS_PER_S)
        return FrameState(events, tick, time_ns, lost, self._meta(bool(h.noise_source), reasons))

    def _settles(self, what: str) -> None:
        self._settled_at[what] = self._tick + round(self._settle[what] * self._rate_hz)

    def _resynchronized(self, h: HeaderV2, ledger: Ledger, skipped: int) -> tuple[list[Frame], Loss]:
        """Bytes that were of no packet: damaged packets, counted where they are whole ones."""
        if not skipped:
            return [], NO_LOSS
        n, rest = divmod(skipped, h.header_bytes + h.payload_bytes)
        whole = n > 0 and rest == 0
        lost = Loss(frames=n, samples=n * h.n_samples) if whole else NO_LOSS
        self._tick += lost.samples
        events = [ledger.event("resync", bytes=skipped, samples=lost.samples if whole else None)]
        return events, lost


def _channels(bits: int) -> list[int]:
    return [c for c in range(bits.bit_length()) if bits >> c & 1]


def _phase_name(state: int) -> str:
    known = state < len(heimdall.PHASE_STATES)
    return heimdall.PHASE_STATES[state] if known else f"state {state}"

"""From events of the T tracer to frames: one channel estimate a terminal, port, symbol and occasion."""

from __future__ import annotations

import time
from collections import deque
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from drivers.ledger import Ledger
from drivers.srs_occasions import CLOCK_TOLERANCE_S, FrameClock, Occasions, same_antennas
from hil.errors import WireError
from hil.formats.srs import FRAME_S, FRAMES_PER_CYCLE, SUBCARRIERS_PER_RB
from hil.formats.t_tracer import EventFormat, Record, buffer_reader
from hil.frame import Frame, Loss
from hil.params import Count, Hz, Index, Params

I16 = npt.NDArray[np.int16]

ARRIVAL = "GNB_PHY_UL_SRS_TOA_NS"
EVENTS = {"interpolated": "GNB_PHY_UL_FREQ_CHANNEL_ESTIMATE", "least_squares": "GNB_PHY_SRS_LS_ESTIMATE"}
#: In place of a number that older events have not.
_ABSENT = -1
#: Terminals whose occasion may be incomplete at a time; beyond it the oldest is given up.
_MOST_OPEN = 64
#: Frames of a base station that runs on agree with its clock to so many; one that was started anew does by chance only.
_SAME_FRAMES = 3
#: An incomplete occasion is given up after so long.
_OPEN_S = 0.5


class TracerSrs(Params, frozen=True, kw_only=True):
    """What the T tracer does not tell: where the carrier is, and what of the FFT's bins is sounded."""

    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre of the carrier, which the feed does not tell")] = (
        3.5e9
    )
    scs_khz: Annotated[Literal[15, 30, 60, 120], Meta(description="subcarrier spacing")] = 30
    n_rb: Annotated[Count, Meta(le=275, description="resource blocks of the carrier")] = 273
    estimate: Annotated[
        Literal["interpolated", "least_squares"], Meta(description="over the comb, or on the pilots as measured")
    ] = "interpolated"
    first_subcarrier: Annotated[Index, Meta(description="of the sounded band, or the first pilot")] = 0
    n_subcarriers: Annotated[Count, Meta(description="of the sounded band; 272 blocks have 3264")] = 3264
    step: Annotated[Count, Meta(le=12, description="take every so many: the comb, for least_squares")] = 1
    bin_order: Annotated[
        Literal["fft", "centred"], Meta(description="centre frequency in bin 0, or in the middle bin")
    ] = "fft"
    n_symbols: Annotated[Literal[1, 2, 4], Meta(description="SRS symbols of an occasion")] = 1
    arrival: Annotated[bool, Meta(description="wait for the time of arrival, where the base station gives it")] = True
    n_antennas: Annotated[
        Annotated[int, Meta(ge=1, le=4096)] | None, Meta(description="absent: as many as the first occasions have")
    ] = None
    srs_period_frames: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="between occasions of a terminal; absent: learnt from what comes"),
    ] = None

    def __post_init__(self) -> None:
        if self.first_subcarrier + self.n_subcarriers > SUBCARRIERS_PER_RB * self.n_rb:
            raise ValueError(
                f"{self.n_subcarriers} subcarriers from {self.first_subcarrier} on do not fit {self.n_rb} blocks"
            )


class _Open:
    """An occasion that antennas are still missing of."""

    __slots__ = ("began_s", "came", "frame", "iq", "n_came", "slot", "time_ns")

    def __init__(self, n_symbols: int, n_antennas: int, n: int, frame: int, slot: int, time_ns: int) -> None:
        self.iq: I16 = np.empty((n_symbols, n_antennas, n, 2), np.int16)
        self.came = [False] * n_antennas
        self.n_came = 0
        self.frame, self.slot, self.time_ns, self.began_s = frame, slot, time_ns, time.monotonic()


class _Whole(NamedTuple):
    key: tuple[int, int]
    occasion: _Open


class TracerFrames:
    """Gathers antennas.

    Args:
        params: What the feed does not tell.
        formats: Events of the base station.
        ledger: Numbers the frames.
        n_antennas: That make an occasion.
        live: Whether records come as they are made; else their own times tell how much of it went by.
        before: What read the connection before: where the base station turns out to be the same, still running, what
            was missed between the two is counted.
    """

    def __init__(
        self,
        params: TracerSrs,
        formats: dict[str, EventFormat],
        ledger: Ledger,
        n_antennas: int,
        *,
        live: bool,
        before: TracerFrames | None = None,
    ) -> None:
        self.params, self.ledger, self.n_antennas, self._live = params, ledger, n_antennas, live
        self._event = formats[EVENTS[params.estimate]]
        self._arrival = formats.get(ARRIVAL) if params.arrival else None
        self._read = buffer_reader(self._event, ("rnti", "port", "frame", "slot", "antenna"), _ABSENT)
        self._read_arrival = None if self._arrival is None else buffer_reader(self._arrival, ("rnti",), _ABSENT)
        self._offset_hz = subcarrier_hz(params)
        self._n = len(self._offset_hz)
        self._n_fft: int | None = None
        self._places: tuple[int, tuple[tuple[slice, slice], ...]] | None = None
        self._open: dict[tuple[int, int], _Open] = {}
        self._whole: deque[_Whole] = deque()
        self._clock = FrameClock(FRAMES_PER_CYCLE, FRAME_S)
        self._occasions = Occasions(params.srs_period_frames)
        self._wall: tuple[int, int] | None = None
        self._before = before
        self._same: list[list[int]] = []
        self._lost = 0

    @property
    def enabled(self) -> set[int]:
        """Numbers of the events to turn on."""
        return {e.number for e in (self._event, self._arrival) if e is not None}

    def take(self, record: Record) -> list[Frame]:
        """Return the frames that ``record`` completes, and events before them."""
        if record.type == self._event.number:
            return self._estimate(record)
        if (
            self._arrival is not None
            and self._read_arrival is not None
            and record.type == self._arrival.number
            and self._whole
        ):
            try:
                (rnti,), buffer = self._read_arrival(record.payload)
                toa_ns = np.frombuffer(buffer, "<i2").tolist()
            except (WireError, ValueError) as error:
                return [self.ledger.event("corrupt", why=str(error))]
            return self._give(rnti, toa_ns)
        return []

    def idle(self) -> list[Frame]:
        """Nothing came for a while: what is whole is given, what is long incomplete is lost."""
        out = self._give_all()
        old_s = time.monotonic() - _OPEN_S
        for key in [k for k, o in self._open.items() if o.began_s < old_s]:
            out += self._give_up(key)
        return out

    def finish(self) -> list[Frame]:
        """The end of a file."""
        out = self._give_all()
        for key in list(self._open):
            out += self._give_up(key)
        return out

    # -- inside ----------------------------------------------------------------------------------------------------

    def _estimate(self, record: Record) -> list[Frame]:
        try:
            (rnti, port, frame, slot, antenna), buffer = self._read(record.payload)
        except WireError as error:
            return [self.ledger.event("corrupt", why=str(error))]
        key = rnti, 0 if port == _ABSENT else port
        if not (0 <= antenna < self.n_antennas and 0 <= frame < FRAMES_PER_CYCLE):
            why = f"antenna {antenna} of {self.n_antennas}, frame {frame} of rnti {key[0]}"
            return [self.ledger.event("corrupt", why=why)]
        out: list[Frame] = []
        if self._whole and self._whole[0].key[0] != key[0]:
            out += self._give_all()  # the time of arrival did not come
        occasion = self._open.get(key)
        if occasion is not None and (occasion.frame != frame or occasion.slot != slot or occasion.came[antenna]):
            out += self._give_up(key)
            occasion = None
        if occasion is None:
            if len(self._open) >= _MOST_OPEN:
                out += self._give_up(next(iter(self._open)))
            occasion = _Open(self.params.n_symbols, self.n_antennas, self._n, frame, slot, record.time_ns)
            self._open[key] = occasion
        if why := self._unpack(buffer, occasion.iq[:, antenna]):
            return [*out, self.ledger.event("short_read", rnti=key[0], frame=frame, antenna=antenna, why=why)]
        occasion.came[antenna] = True
        occasion.n_came += 1
        if occasion.n_came == self.n_antennas:
            del self._open[key]
            self._whole.append(_Whole(key, occasion))
            if self._arrival is None:
                out += self._give_all()
        return out

    def _unpack(self, buffer: memoryview, into: I16) -> str:
        """Write the sounded bins ``[symbol, subcarrier, component]``; what is wrong with the buffer, if anything is."""
        p = self.params
        n_fft = len(buffer) // (4 * p.n_symbols)
        if self._n_fft is None and n_fft * 4 * p.n_symbols == len(buffer) and n_fft >= SUBCARRIERS_PER_RB * p.n_rb:
            self._n_fft = n_fft
        if self._n_fft is None or len(buffer) != 4 * p.n_symbols * self._n_fft:
            expected = self._n_fft or f"at least {SUBCARRIERS_PER_RB * p.n_rb}"
            return f"{len(buffer)} bytes are {n_fft} bins of {p.n_symbols} symbols, expected {expected}"
        bins = np.frombuffer(buffer, "<i2").reshape(p.n_symbols, self._n_fft, 2)
        for to, of in self._pieces(self._n_fft):
            into[:, to] = bins[:, of]
        return ""

    def _pieces(self, n_fft: int) -> tuple[tuple[slice, slice], ...]:
        """Where in the frame the sounded bins go, and where in the FFT they are."""
        if self._places is not None and self._places[0] == n_fft:
            return self._places[1]
        p = self.params
        first = p.first_subcarrier - SUBCARRIERS_PER_RB * p.n_rb // 2 + (n_fft // 2 if p.bin_order == "centred" else 0)
        end = first + p.n_subcarriers
        pieces: tuple[tuple[slice, slice], ...]
        if first < 0 < end:  # it wraps
            n_below = -(first // p.step)  # those below the centre
            rest = slice(first + n_below * p.step, end, p.step)
            pieces = ((slice(0, n_below), slice(first, None, p.step)), (slice(n_below, None), rest))
        else:
            start = first % n_fft
            pieces = ((slice(None), slice(start, start + p.n_subcarriers, p.step)),)
        self._places = n_fft, pieces
        return pieces

    def _give(self, rnti: int, toa_ns: list[int]) -> list[Frame]:
        """Give what waits, with the times of arrival of ``rnti``."""
        out: list[Frame] = []
        while self._whole:
            whole = self._whole.popleft()
            out += self._data(whole, toa_ns if whole.key[0] == rnti else None)
        return out

    def _give_all(self) -> list[Frame]:
        return self._give(-1, [])

    def _give_up(self, key: tuple[int, int]) -> list[Frame]:
        occasion = self._open.pop(key)
        missing = [a for a, came in enumerate(occasion.came) if not came]
        n = self.params.n_symbols
        self._lost += n
        self._go_on(occasion)
        count = self._clock.unwrap(occasion.frame, self._now_s(occasion.time_ns))
        # it was there, though not whole: it is counted here and not again by its number
        self._lost += n * self._occasions.missed(key[0], count) if key[1] == 0 else 0
        told = {"rnti": key[0], "port": key[1], "frame": occasion.frame, "antennas": missing}
        return [self.ledger.event("incomplete", **told)]

    def _data(self, whole: _Whole, toa_ns: list[int] | None) -> list[Frame]:
        (rnti, port), occasion = whole
        self._go_on(occasion)
        count = self._clock.unwrap(occasion.frame, self._now_s(occasion.time_ns))
        out = self._clock_event(count, occasion.time_ns)
        missed = self._occasions.missed(rnti, count) if port == 0 else 0
        lost, self._lost = self._lost + missed * self.params.n_symbols, 0
        for symbol, iq in enumerate(occasion.iq):
            meta: dict[str, Any] = {"frame": occasion.frame, "port": port, "symbol": symbol}
            if occasion.slot != _ABSENT:
                meta["slot"] = occasion.slot
            if toa_ns is not None:
                meta["toa_ns"] = toa_ns
            same = same_antennas(iq)
            if same:
                meta["duplicate_antennas"] = same
            if same != self._same:
                self._same = same
                out.append(self.ledger.event("duplicate_antennas", antennas=same))
            out += self.ledger.data(
                tick=None,
                n_samples=0,
                time_ns=occasion.time_ns,
                timebase="utc",
                lost=Loss(frames=lost if symbol == 0 else 0),
                meta=meta,
                cfr=(iq, "sensor subcarrier component", "count"),
                subcarrier_hz=(self._offset_hz, "subcarrier", "Hz"),
                rnti=(np.array(rnti, np.int64), "", ""),
            )
        return out

    def _go_on(self, first: _Open) -> None:
        """Take over the accounts of the connection before, where frames went on with the base station's clock."""
        before, self._before = self._before, None
        if before is None or before._wall is None:
            return
        count, time_ns = before._wall
        ahead = first.frame - count - (first.time_ns - time_ns) / 1e9 / FRAME_S
        if abs((ahead + FRAMES_PER_CYCLE / 2) % FRAMES_PER_CYCLE - FRAMES_PER_CYCLE / 2) <= _SAME_FRAMES:
            self._clock, self._occasions = before._clock, before._occasions
            self._lost += before._lost

    def _now_s(self, time_ns: int) -> float:
        return time.monotonic() if self._live else time_ns / 1e9

    def _clock_event(self, count: int, time_ns: int) -> list[Frame]:
        """An event where the base station's clock went on otherwise than its frames did."""
        before, self._wall = self._wall, (count, time_ns)
        if before is None:
            return []
        off_s = (time_ns - before[1]) / 1e9 - (count - before[0]) * FRAME_S
        return [self.ledger.event("clock_jump", seconds=off_s)] if abs(off_s) > CLOCK_TOLERANCE_S else []


def subcarrier_hz(params: TracerSrs) -> npt.NDArray[np.float64]:
    """Frequency of each subcarrier that is given, less the centre frequency, ``[subcarrier]``."""
    number = params.first_subcarrier + np.arange(0, params.n_subcarriers, params.step).astype(np.float64)
    return (number - SUBCARRIERS_PER_RB * params.n_rb // 2) * (params.scs_khz * 1e3)

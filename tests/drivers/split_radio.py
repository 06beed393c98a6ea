"""A radio that reads some channels of a simulated array, and goes wrong when it is told to."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from drivers.base import Capabilities, Driver
from drivers.ledger import Ledger
from hil.array_params import build_array
from hil.errors import DriverError
from hil.frame import Loss, Timebase
from hil.params import Params
from hil.source import Reading
from hil.streams import IQ, RAW_IQ_INTERLEAVED, port_of
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise


class SplitRadioParams(Params, frozen=True):
    device: dict[str, Any]
    first: int = 0
    last: int = 4
    start: int = 0  # tick of the array at which this radio begins
    own_count: bool = False  # it counts from 0, whatever the tick
    timebase: Timebase = "device"
    clock_s: float = 0.0  # its clock is ahead by this
    n: int = 500
    n_frames: int = 20
    raw: bool = False
    sample_rate_hz: float | None = None  # claims to have this one
    lose: dict[int, int] = {}  # before frame i so many samples
    unknown_loss: dict[int, int] = {}  # ... and it does not know that
    retune: tuple[int, ...] = ()  # before frames i
    away: dict[int, float] = {}  # before frame i it is gone for so many seconds
    skip: dict[int, int] = {}  # before frame i it takes so many no samples, by design
    fail_at: int = -1
    fail_open: bool = False
    hang_open_s: float = 0.0
    noise_at: tuple[int, ...] = ()
    wait_s: float = 0.0


class SplitRadio(Driver):
    params: SplitRadioParams
    outputs = {"iq": port_of(IQ)}
    finite = True
    verbs = ("tune", "add")

    def open(self) -> None:
        p = self.params
        time.sleep(p.hang_open_s)
        if p.fail_open:
            raise self.failure("no radio answers", "it is off", "switch it on")
        self._device = XlArrayDevice(**p.device)
        if p.raw:
            self.outputs = {"iq": port_of(RAW_IQ_INTERLEAVED)}  # type: ignore[misc]
        extra = {"raw": {"full_scale": 32768.0}} if p.raw else {}
        self._ledger = Ledger(f"{self.name}.iq", build_array(None, p.last - p.first, 5e9), extra)
        self._ledger.frequency_hz = self._device.params.frequency_hz
        self._ledger.sample_rate_hz = p.sample_rate_hz or self._device.params.sample_rate_hz
        self._i, self._tick, self._gone_until = 0, p.start, -1.0
        self._retuned_by_verb = False

    def capabilities(self) -> Capabilities:
        return Capabilities(channels=self.params.last - self.params.first, tune_hz=(1e9, 6e9), sync=True)

    def tune(self, frequency_hz: float) -> float:
        """Tune."""
        self._ledger.frequency_hz = frequency_hz
        self._retuned_by_verb = True
        return frequency_hz

    def add(self, a: int, b: int) -> int:
        """Add."""
        return a + b

    def read(self, timeout_s: float) -> Reading:
        p, i, ledger = self.params, self._i, self._ledger
        if i >= p.n_frames:
            return None
        time.sleep(p.wait_s)
        out = list(ledger.descriptor_due())
        if i in p.away and self._gone_until < 0:
            self._gone_until = time.monotonic() + p.away[i]
            return [("iq", ledger.event("disconnected", why="unplugged", seconds=0.0))]
        if self._gone_until > 0:
            if time.monotonic() < self._gone_until:
                time.sleep(0.01)
                return []
            self._gone_until = -1.0
            p.away.pop(i)
            out += ledger.new_epoch("reconnect", seconds=p.away.get(i, 0.0))
        if p.fail_at == i:
            raise DriverError("SplitRadio: it burns: why not; use another")
        if i in p.retune or self._retuned_by_verb:
            self._retuned_by_verb = False
            out += ledger.new_epoch("retune", ticks_go_on=True, frequency_hz=ledger.frequency_hz)
        if i in p.unknown_loss:
            self._tick += p.unknown_loss[i]
            out.append(ledger.event("overflow", samples=None))
        if i in p.skip:
            self._tick += p.skip[i]
            ledger.next_tick = None
        lost = Loss(samples=p.lose.get(i, 0))
        self._tick += lost.samples
        x = self._device.samples(self._tick, p.n)[p.first : p.last]
        iq: Any = (x, "sensor snapshot", "FS")
        if p.raw:
            iq = (np.ascontiguousarray(quantise(x).swapaxes(0, 1)), "snapshot sensor component", "count")
        count = (
            self._tick - p.start - sum(n for k, n in p.unknown_loss.items() if k <= i) if p.own_count else self._tick
        )
        out += ledger.data(
            tick=count,
            n_samples=p.n,
            time_ns=self._device.time_ns(self._tick) + round(p.clock_s * 1e9),
            timebase=p.timebase,
            lost=lost,
            meta={"noise_source": i in p.noise_at} if p.noise_at else {},
            iq=iq,
        )
        self._tick += p.n
        self._i += 1
        return [("iq", f) for f in out]

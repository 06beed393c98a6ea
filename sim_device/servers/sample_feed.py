"""The simulated array as a stream of ticks, for servers whose clients come and go on threads of their own.

All of them read the one sample function, so that the sample of a tick and a channel is the same whatever the protocol.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError
from hil.runtime.control import call_verb
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import I16, quantise

C64 = npt.NDArray[np.complex64]

_NS_PER_S = 1_000_000_000
#: Commands about what is received: a period that repeats is computed anew.
_SCENE_VERBS = ("move_source", "add_source", "remove_source", "set_power", "inject_fault", "clear_fault")


class SampleFeed:
    """Samples of a device by tick, a clock, and the device's verbs. Any thread may call.

    In real time tick 0 is when the feed was made, and a tick that has not come yet can be waited for. Otherwise time
    goes on as samples are read: any tick is there at once.

    Args:
        device: What is sampled. It is changed through :meth:`command` only.
        loop_ticks: Compute so many ticks once and repeat them: for feeding a client faster than physics are computed.
            The scene, gain and frequency then stand still in the samples; a command that changes the scene has the
            period computed anew.

    Attributes:
        head: The tick after the furthest that was read.
        loop_version: Rises when the period is computed anew.
    """

    def __init__(self, device: XlArrayDevice, loop_ticks: int | None = None) -> None:
        self.device = device
        self.head = self.loop_version = 0
        self._lock = threading.RLock()
        self._origin_ns = time.monotonic_ns()
        self._utc_origin_ns = time.time_ns()
        self._jump_ns = 0
        self._loop: C64 | None = None
        self._wide: dict[int, I16] = {}
        if loop_ticks is not None:
            self._loop = device.samples(0, loop_ticks)

    @property
    def n_channels(self) -> int:
        return len(self.device.array.channel_map)

    @property
    def real_time(self) -> bool:
        return self.device.params.real_time

    @property
    def sample_rate_hz(self) -> float:
        return self.device.params.sample_rate_hz

    @property
    def frequency_hz(self) -> float:
        return self.device.params.frequency_hz

    @property
    def gain_db(self) -> float:
        return self.device.params.gain_db

    # -- samples ---------------------------------------------------------------------------------------------------

    def samples(self, tick: int, n: int) -> C64:
        """Samples of ticks ``tick .. tick + n - 1``, complex64 ``[channel, n]``, full scale 1. Waits for nothing."""
        with self._lock:
            self.head = max(self.head, tick + n)
            if self._loop is None:
                return self.device.samples(tick, n)
        return self._looped(self._loop, 1, tick, n)

    def counts(self, tick: int, n: int, bits: int = 16) -> I16:
        """The same as the counts of a converter of ``bits``, ``[channel, n, component]`` (in-phase, quadrature)."""
        if self._loop is None:
            return quantise(self.samples(tick, n), bits)
        with self._lock:
            self.head = max(self.head, tick + n)
            if bits not in self._wide:
                self._wide[bits] = quantise(self._loop, bits)
        return self._looped(self._wide[bits], 1, tick, n)

    @staticmethod
    def _looped(period: Any, axis: int, tick: int, n: int) -> Any:
        length = period.shape[axis]
        start = tick % length
        if start + n <= length:
            return period[:, start : start + n]
        return np.take(period, np.arange(start, start + n), axis=axis, mode="wrap")

    # -- time ------------------------------------------------------------------------------------------------------

    def now_tick(self) -> int:
        """The first tick that has not come yet. As fast as it can: the one after the furthest that was read."""
        if not self.real_time:
            return self.head
        return self._tick_at(time.monotonic_ns() - self._origin_ns)

    def wait_until(self, tick: int, timeout_s: float) -> bool:
        """Wait until all ticks before ``tick`` have come; false where they have not in time."""
        if not self.real_time:
            return True
        end = time.monotonic() + timeout_s
        while True:
            due_s = (self._origin_ns + self.device.time_ns(tick) - time.monotonic_ns()) / _NS_PER_S
            left_s = end - time.monotonic()
            if due_s <= 0:
                return True
            if left_s <= 0:
                return False
            time.sleep(min(due_s, left_s))

    def utc_ns(self, tick: int) -> int:
        """What the device's clock says at ``tick``, integer nanoseconds UTC; clock jumps included."""
        return self._utc_origin_ns + self._jump_ns + self.device.time_ns(tick)

    def jump(self, seconds: float) -> None:
        """Let the device's clock jump: what it says is off from now on, samples go on as they did."""
        self._jump_ns += round(seconds * _NS_PER_S)

    # -- commands --------------------------------------------------------------------------------------------------

    def command(self, verb: str, args: dict[str, Any] | None = None) -> Any:
        """Call a verb of the device, or ``set`` parameters; it holds from the first tick that nobody has read.

        Raises:
            ControlError: Refused; names path and limits.
        """
        with self._lock:
            device = self.device
            device.tick = max(self.head, self.now_tick(), device.tick)
            if verb == "set":
                device.set_params(**(args or {}))
                value: Any = None
            else:
                value = call_verb(device, device.verbs, verb, args or {})
            device.announcements()  # a hardware protocol has no place for them
            if self._loop is not None and (verb in _SCENE_VERBS or (verb == "set" and "sources" in (args or {}))):
                self._compute_loop(self._loop.shape[1])
            return value

    def _compute_loop(self, length: int) -> None:
        """Compute the period from the scene as it is now; tick ``t`` stays at place ``t`` modulo its length."""
        tick = self.device.tick
        self._loop = np.roll(self.device.samples(tick, length), tick % length, axis=1)
        self._wide = {}
        self.loop_version += 1

    def _tick_at(self, elapsed_ns: int) -> int:
        """The tick at a device time, by the newest state of the device."""
        with self._lock:
            state = self.device.state
        behind_ns = elapsed_ns - state.time_ns
        if behind_ns < 0:
            raise ParamError(f"device time {elapsed_ns} ns lies before the last command")
        return state.tick + int(behind_ns * state.sample_rate_hz / _NS_PER_S)

"""Runs under the interpreter that has UHD: opens USRPs, writes what they receive into shared memory, tells of it.

Started by :mod:`drivers.uhd_link`, as ``PYTHON uhd_child.py SOCKET RING PARENT``. It imports only the standard library,
NumPy (1.24 to 2.x) and uhd, so that it runs under an interpreter that has nothing else of this project, and it uses
no syntax that is newer than Python 3.9.

Messages in both directions are JSON behind a length of 4 bytes, little-endian. The parent sends what to open first,
then commands ``{"id", "verb", ...}``. The child tells ``ready`` or ``failed``, then ``data`` (a slot of the ring is
full), ``trouble``, ``answer``, and ``alive`` where there is nothing else to tell.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

import numpy as np

#: The ring: a page with the count of slots that the parent has emptied, then the slots.
HEADER_BYTES = 4096
RING_BYTES = 32 << 20
_ALIVE_S = 0.2
_LONGEST_RECV_S = 0.25
_FULL_S = 0.0005
_PULSE_S = 2.5
#: Times that boards are asked whether they agree on the time, before they do not.
_LOOKS = 10
_MOST_ERRORS = 20
_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """It cannot be opened. ``stage`` says what went wrong, for the parent's words."""

    def __init__(self, stage: str, why: str) -> None:
        super().__init__(why)
        self.stage = stage


class ParentGone(Exception):
    """Nobody listens any more."""


class Messages:
    """Length-prefixed JSON over a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = b""
        self._told_s = 0.0

    def send(self, **message: Any) -> None:
        data = json.dumps(message).encode()
        self.socket.sendall(struct.pack("<I", len(data)) + data)
        self._told_s = time.monotonic()

    def alive(self) -> None:
        if time.monotonic() - self._told_s > _ALIVE_S:
            self.send(kind="alive")

    def waiting(self, timeout_s: float) -> list[dict[str, Any]]:
        """What the parent has sent.

        Raises:
            ParentGone: It closed its end.
        """
        out: list[dict[str, Any]] = []
        while select.select([self.socket], [], [], 0.0 if out else timeout_s)[0]:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ParentGone
            self._buffer += data
            while len(self._buffer) >= 4:
                (length,) = struct.unpack_from("<I", self._buffer)
                if len(self._buffer) < 4 + length:
                    break
                out.append(json.loads(self._buffer[4 : 4 + length]))
                self._buffer = self._buffer[4 + length :]
        return out


class Usrp:
    """All boards as one receiver.

    Args:
        uhd: The module.
        config: What to open, see :class:`drivers.uhd.UhdParams`.
    """

    def __init__(self, uhd: Any, config: dict[str, Any]) -> None:
        self.uhd, self.config = uhd, config
        self.device = self._open(config["args"], time.monotonic() + config["timeout_s"])
        available = int(self.device.get_rx_num_channels())
        self.channels: list[int] = list(config["channels"] or range(available))
        if [c for c in self.channels if c >= available]:
            raise Failed("channels", f"there are channels 0 to {available - 1}, not {max(self.channels)}")
        self._set_sources()
        self.opened_rate_hz = float(self.device.get_rx_rate(self.channels[0]))
        self.rate_hz = self.set_rate(config["sample_rate_hz"])
        for antenna, channel in zip(config["antennas"] or [], self.channels):  # noqa: B905 - Python 3.9
            self._antenna(antenna, channel)
        if config["gain_db"] is not None:
            self.set_gain(config["gain_db"])
        self.synchronize()
        if config["frequency_hz"] is not None:
            self.tune(config["frequency_hz"])
        arguments = uhd.usrp.StreamArgs("sc16", "sc16")
        arguments.channels = self.channels
        self.stream = self.device.get_rx_stream(arguments)
        self.packet_samples = int(self.stream.get_max_num_samps())
        self.metadata = uhd.types.RXMetadata()
        self.running = False

    def describe(self) -> dict[str, Any]:
        """What was opened."""
        device, first = self.device, self.channels[0]
        frequencies, gains = device.get_rx_freq_range(first), device.get_rx_gain_range(first)
        rates = device.get_rx_rates(first)
        return {
            "n_channels": len(self.channels),
            "n_boards": int(device.get_num_mboards()),
            "sample_rate_hz": self.rate_hz,
            "frequency_hz": float(device.get_rx_freq(first)),
            "gain_db": float(device.get_rx_gain(first)),
            "tune_hz": [frequencies.start(), frequencies.stop()],
            "gain_range_db": [gains.start(), gains.stop()],
            "rates_hz": [rates.start(), rates.stop()],
            "name": str(device.get_mboard_name(0)),
        }

    # -- settings --------------------------------------------------------------------------------------------------

    def set_rate(self, rate_hz: float) -> float:
        rates = self.device.get_rx_rates(self.channels[0])
        self.device.set_rx_rate(rate_hz)
        actual = float(self.device.get_rx_rate(self.channels[0]))
        if abs(actual - rate_hz) > 1e-6 * rate_hz:
            raise Failed(
                "rate", f"{rate_hz:g} Hz cannot be had ({rates.start():g} to {rates.stop():g}), next is {actual:g}"
            )
        return actual

    def tune(self, frequency_hz: float) -> float:
        limits = self.device.get_rx_freq_range(self.channels[0])
        if not limits.start() <= frequency_hz <= limits.stop():
            raise Failed("frequency", f"{frequency_hz:g} Hz lies outside {limits.start():g} to {limits.stop():g}")
        # all channels at one time, on devices that can
        at = self.device.get_time_now().get_real_secs() + 0.05
        self.device.set_command_time(self.uhd.types.TimeSpec(at))
        try:
            for channel in self.channels:
                self.device.set_rx_freq(self.uhd.types.TuneRequest(frequency_hz), channel)
        finally:
            self.device.clear_command_time()
        while self.device.get_time_now().get_real_secs() < at:
            time.sleep(0.005)
        return float(self.device.get_rx_freq(self.channels[0]))

    def set_gain(self, gain_db: float) -> float:
        limits = self.device.get_rx_gain_range(self.channels[0])
        if not limits.start() <= gain_db <= limits.stop():
            raise Failed("gain", f"{gain_db:g} dB lies outside {limits.start():g} to {limits.stop():g}")
        for channel in self.channels:
            self.device.set_rx_gain(gain_db, channel)
        return float(self.device.get_rx_gain(self.channels[0]))

    def ticks(self) -> int:
        return int(self.device.get_time_now().to_ticks(self.rate_hz))

    def synchronize(self) -> None:
        """Give all boards one time: at the same pulse where there are several, or a source of pulses is chosen."""
        time_spec, device = self.uhd.types.TimeSpec, self.device
        utc = self.config["set_time"] == "utc"
        if device.get_num_mboards() == 1 and device.get_time_source(0) == "internal":
            device.set_time_now(time_spec(time.time() if utc else 0.0))
            return
        before, end = device.get_time_last_pps().get_real_secs(), time.monotonic() + _PULSE_S
        while device.get_time_last_pps().get_real_secs() == before:
            if time.monotonic() > end:
                raise Failed("pulse", f"no pulse a second came from time source {device.get_time_source(0)!r}")
            time.sleep(0.01)
        # the pulse was just now: all boards have the same second ahead of them
        device.set_time_next_pps(time_spec(float(round(time.time()) + 1) if utc else 0.0))
        time.sleep(1.05)
        # UHD asks one board after the other and allows 10 ms for that, which a busy host may need
        if not any(device.get_time_synchronized() for _ in range(_LOOKS)):
            raise Failed("time", "the boards do not agree on the time after a common pulse")

    def _set_sources(self) -> None:
        for what in ("clock_source", "time_source"):
            wanted = self.config[what] or ("external" if self.device.get_num_mboards() > 1 else None)
            if wanted is None:
                continue
            known = list(getattr(self.device, f"get_{what}s")(0))
            if wanted not in known:
                raise Failed(what, f"{wanted!r} is none of {', '.join(known)}")
            getattr(self.device, f"set_{what}")(wanted)

    def _antenna(self, antenna: str, channel: int) -> None:
        known = list(self.device.get_rx_antennas(channel))
        if antenna not in known:
            raise Failed("antenna", f"channel {channel} has {', '.join(known)}, not {antenna!r}")
        self.device.set_rx_antenna(antenna, channel)

    def _open(self, args: str, end: float) -> Any:
        for attempt in range(1000):
            try:
                return self.uhd.usrp.MultiUSRP(args)
            except RuntimeError as error:
                why = str(error)
                missed = "mgmt_addr" in why or "No devices found" in why or "timed out" in why
                # a claim ends by itself some seconds after its holder was killed; one lost datagram is no lost device
                again = "claim" in why or (missed and attempt == 0)
                if not again or time.monotonic() > end:
                    stage = (
                        "claimed" if "claim" in why else "find" if missed else "compat" if "ompat" in why else "open"
                    )
                    raise Failed(stage, why.strip().splitlines()[0]) from error
            time.sleep(0.3)
        raise AssertionError("unreachable")

    # -- the stream ------------------------------------------------------------------------------------------------

    def start(self, delay_s: float) -> None:
        """Let all channels start at one tick to come."""
        command = self.uhd.types.StreamCMD(self.uhd.types.StreamMode.start_cont)
        command.stream_now = False
        command.time_spec = self.uhd.types.TimeSpec(self.device.get_time_now().get_real_secs() + delay_s)
        self.stream.issue_stream_cmd(command)
        self.running = True

    def stop(self) -> None:
        """Let all channels stop, and take what was still on its way."""
        self.stream.issue_stream_cmd(self.uhd.types.StreamCMD(self.uhd.types.StreamMode.stop_cont))
        rest, end = np.empty((len(self.channels), 4096), np.int32), time.monotonic() + 1.0
        while time.monotonic() < end:
            n = self.stream.recv(rest, self.metadata, 0.1)
            if n == 0 and self.metadata.error_code == self.uhd.types.RXMetadataErrorCode.timeout:
                break
        self.running = False

    def receive(self, out: Any, timeout_s: float) -> int:
        """Receive into ``[channel, n]`` int32 (a pair of int16 each)."""
        return int(self.stream.recv(out, self.metadata, timeout_s))


class Ring:
    """Slots of ``[channel, n_samples]`` in shared memory.

    Args:
        fd: An empty file in memory.
    """

    def __init__(self, fd: int, n_channels: int, n_samples: int) -> None:
        slot_bytes = 4 * n_channels * n_samples
        self.n_slots = max(4, min(1024, RING_BYTES // slot_bytes))
        os.ftruncate(fd, HEADER_BYTES + self.n_slots * slot_bytes)
        memory = mmap.mmap(fd, 0)
        self._emptied = np.frombuffer(memory, np.uint64, 1)
        self.slots = np.frombuffer(memory, np.int32, offset=HEADER_BYTES).reshape(self.n_slots, n_channels, n_samples)
        self.n_filled = 0

    def free_slot(self) -> int | None:
        full = self.n_filled - int(self._emptied[0]) >= self.n_slots
        return None if full else self.n_filled % self.n_slots


class Child:
    """Reads the stream and obeys the parent, in turn."""

    def __init__(self, usrp: Usrp, ring: Ring, messages: Messages) -> None:
        self._usrp, self._ring, self._messages = usrp, ring, messages
        self._delay_s = float(usrp.config["start_delay_s"])
        self._filled = 0  # samples in the slot that is being filled
        self._tick = 0  # of its first sample
        self._next_tick: int | None = None  # of the sample after the last that came
        self._place = 0  # of that sample in its packet
        self._stale_rate = False
        self._n_errors = 0
        code = usrp.uhd.types.RXMetadataErrorCode
        self._none, self._timeout = code.none, code.timeout
        self._trouble = {
            code.late: "late",
            code.broken_chain: "broken_chain",
            code.overflow: "overflow",
            code.alignment: "alignment",
            code.bad_packet: "bad_packet",
        }

    def run(self) -> None:
        """Until the parent goes."""
        self._usrp.start(self._delay_s)
        while True:
            for request in self._messages.waiting(0.0 if self._usrp.running else _ALIVE_S):
                self._obey(request)
            self._messages.alive()
            if not self._usrp.running:
                continue
            slot = self._ring.free_slot()
            if slot is None:  # the parent is behind: what the device then loses it will report
                time.sleep(_FULL_S)
                continue
            try:
                self._receive(slot)
                self._n_errors = 0
            except (RuntimeError, ValueError) as error:
                self._n_errors += 1
                self._messages.send(kind="trouble", what="error", why=str(error))
                if self._n_errors > _MOST_ERRORS:
                    raise

    def _receive(self, slot: int) -> None:
        """Fill a slot; hand it over when it is full or something broke the stream."""
        usrp, out = self._usrp, self._ring.slots[slot]
        wanted = out.shape[1] - self._filled
        # a partly filled slot is no contiguous piece of memory, which UHD needs
        into = out if self._filled == 0 else np.empty((out.shape[0], wanted), np.int32)
        n = usrp.receive(into, min(_LONGEST_RECV_S, 0.05 + 2 * wanted / usrp.rate_hz))
        metadata = usrp.metadata
        if n:
            tick = self._tick_of_metadata()
            self._next_tick = tick + n
            self._place = (self._place + n) % usrp.packet_samples
            if self._filled and tick != self._tick + self._filled:
                self._hand_over()  # time jumped: what follows is another frame
                after = self._ring.free_slot()
                if after is None:
                    return  # it is lost, and the next tick tells so
                out = self._ring.slots[after]
                out[:, :n] = into[:, :n]
            elif self._filled:
                out[:, self._filled : self._filled + n] = into[:, :n]
            if self._filled == 0:
                self._tick = tick
            self._filled += n
            if self._filled == out.shape[1]:
                self._hand_over()
        if metadata.error_code in (self._none, self._timeout):
            return
        self._place = 0  # what comes next begins a packet
        what = self._trouble.get(metadata.error_code, str(metadata.error_code))
        if what == "overflow" and metadata.out_of_sequence:
            what = "sequence_error"
        self._hand_over()
        at = int(metadata.time_spec.to_ticks(usrp.rate_hz)) if metadata.has_time_spec else None
        self._messages.send(kind="trouble", what=what, tick=at)
        if what == "late":
            self._delay_s = min(2 * self._delay_s, 5.0)
            usrp.start(self._delay_s)

    def _tick_of_metadata(self) -> int:
        """Tick of the first sample that came.

        Where that lies inside a packet, UHD adds its place in the packet to the packet's time. On devices that have no
        decimator it does so at the rate that the device was opened with (UHD 4.3), whatever rate was set since.
        """
        usrp, metadata, expected = self._usrp, self._usrp.metadata, self._next_tick
        tick, place = int(metadata.time_spec.to_ticks(usrp.rate_hz)), self._place
        if not place or expected is None or tick == expected:
            return tick
        corrected = tick + place - round(place * usrp.rate_hz / usrp.opened_rate_hz)
        as_expected = abs(corrected - expected) <= 1
        self._stale_rate = self._stale_rate or as_expected
        if not self._stale_rate:
            return tick
        return expected if as_expected else corrected

    def _hand_over(self) -> None:
        if self._filled:
            slot = self._ring.n_filled % self._ring.n_slots
            self._ring.n_filled += 1
            n, self._filled = self._filled, 0
            self._messages.send(kind="data", slot=slot, tick=self._tick, n=n)

    # -- commands --------------------------------------------------------------------------------------------------

    def _obey(self, request: dict[str, Any]) -> None:
        usrp, verb, value = self._usrp, request["verb"], float(request["value"])
        answer: dict[str, Any] = {}
        try:
            before = usrp.ticks()
            if verb == "tune":
                answer["value"] = usrp.tune(value)
            elif verb == "set_gain":
                answer["value"] = usrp.set_gain(value)
            elif verb == "set_sample_rate":
                answer["value"] = self._set_rate(value)
            answer["from_tick"], answer["settled_tick"] = before, usrp.ticks()
        except (Failed, RuntimeError, ValueError) as error:
            answer["error"] = str(error)
        self._messages.send(kind="answer", id=request["id"], **answer)

    def _set_rate(self, rate_hz: float) -> float:
        usrp = self._usrp
        self._hand_over()
        usrp.stop()
        before_hz = usrp.rate_hz
        try:
            usrp.rate_hz = usrp.set_rate(rate_hz)
        except Failed:
            usrp.rate_hz = usrp.set_rate(before_hz)
            raise
        finally:
            usrp.synchronize()  # the boards' time counts in samples
            self._next_tick, self._place, self._stale_rate = None, 0, False
            usrp.start(self._delay_s)
        return usrp.rate_hz


def uhd_version() -> str:
    """Version of the library that is loaded."""
    with open("/proc/self/maps") as maps:
        names = [line.rpartition("libuhd.so.")[2].strip() for line in maps if "libuhd.so." in line]
    return names[0] if names else "unknown"


def import_uhd() -> Any:
    """Import UHD's module, not the driver of the same name beside this file."""
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.realpath(p or ".") != here]
    import uhd

    return uhd


def main(arguments: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    fd, ring_fd, parent = map(int, arguments)
    if os.getppid() != parent:
        return  # it died before this process could ask to be told
    messages = Messages(socket.socket(fileno=fd))
    (config,) = messages.waiting(10.0)[:1]
    try:
        usrp = Usrp(import_uhd(), config)
    except ImportError as error:
        messages.send(kind="failed", stage="import", why=str(error))
        return
    except Failed as error:
        messages.send(kind="failed", stage=error.stage, why=str(error))
        return
    except RuntimeError as error:
        messages.send(kind="failed", stage="open", why=(str(error).strip().splitlines() or ["it says nothing"])[0])
        return
    ring = Ring(ring_fd, len(usrp.channels), config["n_samples"])
    messages.send(kind="ready", n_slots=ring.n_slots, version=uhd_version(), **usrp.describe())
    try:
        Child(usrp, ring, messages).run()
    except (ParentGone, BrokenPipeError, ConnectionResetError):
        usrp.stop()  # and UHD lets go of the boards as the process ends


if __name__ == "__main__":
    main(sys.argv[1:])

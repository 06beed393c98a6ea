"""Version 2 of heimdall's protocol: packets of bytes to whoever is connected, without being asked, without a number."""

from __future__ import annotations

import json
import logging
import math
import socket
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from hil.errors import WireError
from hil.formats import heimdall
from hil.formats.heimdall import HeaderV2
from sim_device.servers.heimdall.receiver import Receiver
from sim_device.servers.heimdall.sending import pause, send_all
from sim_device.servers.heimdall.version1 import checked_frequency
from sim_device.servers.protocol_faults import FaultBoard
from sim_device.servers.protocol_server import TICK_S

log = logging.getLogger(__name__)

#: A client that takes nothing for so long is dropped, in real time.
_PATIENCE_S = 0.5
#: A unit that is behind the clock by so many packets loses them.
_MAX_BEHIND = 16
_PHASE_STATES = (
    heimdall.WAITING,
    heimdall.MEASURING,
    heimdall.APPLYING,
    heimdall.VERIFYING,
    heimdall.CONVERGED,
)


class Version2:
    """Sends packets to all clients and reads commands. Arguments as :class:`Version1`."""

    def __init__(
        self, receiver: Receiver, faults: FaultBoard, ending: threading.Event, n_samples: int, adc_rate_hz: float
    ) -> None:
        self._receiver, self._faults, self._ending = receiver, faults, ending
        self._n = n_samples
        self._clients: list[tuple[socket.socket, threading.Event]] = []
        self._lock = threading.Lock()
        self._tick = 0
        self._bytes: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}

    # -- data ------------------------------------------------------------------------------------------------------

    def serve_data(self, client: socket.socket) -> None:
        """Put a client on the list, and keep its connection until it is dropped."""
        dropped = threading.Event()
        with self._lock:
            self._clients.append((client, dropped))
        while not (self._ending.is_set() or dropped.wait(TICK_S)):
            pass

    def produce(self) -> None:
        """Send packet after packet."""
        feed = self._receiver.feed
        while not self._ending.is_set():
            with self._lock:
                clients = list(self._clients)
            if not clients:
                self._ending.wait(TICK_S / 5)
                continue
            if feed.real_time and feed.now_tick() - self._tick > _MAX_BEHIND * self._n:
                # what came while nobody listened, or for which there was no time, is lost: whole packets
                self._tick += (feed.now_tick() - self._tick) // self._n * self._n
            if feed.wait_until(self._tick + self._n, TICK_S):
                self._send_packet(clients)

    def _send_packet(self, clients: list[tuple[socket.socket, threading.Event]]) -> None:
        if (fault := self._faults.take("stall")) is not None:
            pause(5.0 if fault.amount is None else fault.amount, self._ending)
        if (fault := self._faults.take("lose_packets")) is not None:
            self._tick += self._n * max(1, round(fault.amount or 1))
        if (fault := self._faults.take("overrun")) is not None:
            self._tick += round(fault.amount or self._n)
        header, payload = self.packet(self._tick)
        self._tick += self._n
        parts: list[Any] = [bytearray(heimdall.encode_v2(header)), np.ascontiguousarray(payload).data.cast("B")]
        if (fault := self._faults.take("corrupt")) is not None:
            for place in range(max(1, round(fault.amount or 1))):
                parts[0][place % len(parts[0])] ^= 0xFF
        drop = self._faults.take("drop_connection") is not None
        if (fault := self._faults.take("short_read")) is not None:
            given = self._n // 2 if fault.amount is None else min(round(fault.amount), self._n)
            parts, drop = [parts[0], parts[1][: 2 * given]], True
        limit_s = _PATIENCE_S if self._receiver.feed.real_time else None
        for client, dropped in clients:
            try:
                sent = send_all(client, parts, self._ending, limit_s)
            except (ConnectionError, OSError) as error:
                log.info("heimdall 2: a client is gone: %s", error)
                sent = False
            if drop or not sent:
                with self._lock:
                    self._clients.remove((client, dropped))
                dropped.set()

    def packet(self, tick: int) -> tuple[HeaderV2, npt.NDArray[np.uint8]]:
        """Header and bytes ``[channel, n, component]`` of the packet that begins at ``tick``."""
        receiver, n_channels = self._receiver, self._receiver.feed.n_channels
        receiver.follow(tick, self._n)
        step = receiver.step(tick)
        header = HeaderV2(
            n_channels=n_channels,
            n_samples=self._n,
            phase_state=_PHASE_STATES[step.number if receiver.corrects or step.noise_source else 0],
            noise_source=int(step.noise_source),
            frequency_changes=receiver.n_tunes,
            retuning=int(step.number == 0 and receiver.n_tunes > 0),
            frequency_hz=(receiver.frequency_hz,) * n_channels,
            gain_db=(receiver.gain_db,) * n_channels,
        )
        period = receiver.period
        if period is None or step.number < 4:
            return header, to_bytes(receiver.samples(tick, self._n))
        key = (tick % period, self._n)
        if key not in self._bytes:
            if len(self._bytes) * self._n > 4 * period:
                self._bytes.clear()
            self._bytes[key] = to_bytes(receiver.samples(tick, self._n))
        return header, self._bytes[key]

    # -- commands --------------------------------------------------------------------------------------------------

    def next_command(self, waiting: bytes) -> tuple[bytes, bytes] | None:
        """The first whole command, and what comes after it."""
        line, newline, rest = waiting.partition(b"\n")
        return (line, rest) if newline else None

    def verbs_of(self, command: bytes) -> list[tuple[str, dict[str, Any]]]:
        """Verbs of the device that carry a command out.

        Raises:
            ControlError: The unit cannot.
        """
        name, values = heimdall.decode_control_v2(command)
        wanted = {"set_frequency": "frequency", "set_gain": "gain"}.get(name)
        if wanted is None:
            raise WireError(f"unknown command {name!r}: there are set_frequency and set_gain")
        value = values.get(wanted)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise WireError(f"{name}: expected a number {wanted!r}, got {value!r}")
        if name == "set_frequency":
            return [("tune", {"frequency_hz": float(checked_frequency(value))})]
        return [("set_gain", {"gain_db": heimdall.nearest_gain_tenth_db(float(value)) / 10})]

    def done(self) -> bytes:
        return json.dumps({"status": "ok", "time": time.time()}).encode() + b"\n"

    def refusal(self, why: str) -> bytes:
        return json.dumps({"status": "error", "message": why}).encode() + b"\n"


def to_bytes(samples: npt.NDArray[np.complex64]) -> npt.NDArray[np.uint8]:
    """Samples as an 8-bit converter without a middle level gives them: 127.5 is zero, 127.5 is full scale.

    Args:
        samples: ``[channel, n]``, full scale 1.

    Returns:
        ``[channel, n, component]``.
    """
    parts = np.ascontiguousarray(samples).view(np.float32).reshape(*samples.shape, 2)
    scaled = parts * np.float32(heimdall.FULL_SCALE) + np.float32(heimdall.OFFSET)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)

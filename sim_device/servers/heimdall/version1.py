"""Version 1 of heimdall's protocol: a client asks for each frame, a header of 1024 bytes comes before complex64."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hil.errors import ControlError, WireError
from hil.formats import heimdall
from hil.formats.heimdall import HeaderV1
from sim_device.servers.heimdall.receiver import Receiver
from sim_device.servers.heimdall.sending import pause, send_all
from sim_device.servers.protocol_faults import FaultBoard
from sim_device.servers.protocol_server import TICK_S

log = logging.getLogger(__name__)

#: Frames that the unit keeps for a client that is late.
_KEPT = 2
_SYNC_STATES = (
    heimdall.SYNC_INIT,
    heimdall.SYNC_SAMPLE,
    heimdall.SYNC_IQ,
    heimdall.SYNC_TRACK_LOCK,
    heimdall.SYNC_TRACK,
)


class Version1:
    """Serves frames and reads commands.

    Args:
        receiver: What the channels give.
        faults: What shall go wrong.
        ending: Set when the server ends.
        n_samples: A channel, in a frame.
        adc_rate_hz: Told in headers.
    """

    def __init__(
        self, receiver: Receiver, faults: FaultBoard, ending: threading.Event, n_samples: int, adc_rate_hz: float
    ) -> None:
        self._receiver, self._faults, self._ending = receiver, faults, ending
        self._n, self._adc_rate_hz = n_samples, round(adc_rate_hz)
        self._one_client = threading.Lock()
        self._cpi = -1

    # -- data ------------------------------------------------------------------------------------------------------

    def produce(self) -> None:
        """Frames are made when they are asked for."""

    def serve_data(self, client: socket.socket) -> None:
        """Serve one client; others wait, as with the real one."""
        while not self._one_client.acquire(timeout=TICK_S):
            if self._ending.is_set():
                return
        try:
            for request in self._requests(client):
                if request == heimdall.QUIT:
                    return
                if request not in (heimdall.START, heimdall.NEXT):
                    raise WireError(f"unknown request {request[:20]!r}")
                if not self._send_frame(client):
                    return
        finally:
            self._one_client.release()

    def _requests(self, client: socket.socket) -> Iterator[bytes]:
        while not self._ending.is_set():
            try:
                request = client.recv(1024)
            except TimeoutError:
                continue
            if not request:
                return
            yield request

    def _send_frame(self, client: socket.socket) -> bool:
        """Send the next frame; false: this client is done with."""
        if (fault := self._faults.take("stall")) is not None:
            pause(5.0 if fault.amount is None else fault.amount, self._ending)
        if self._faults.take("drop_connection") is not None:
            return False
        if (fault := self._faults.take("lose_packets")) is not None:
            self._cpi += max(1, round(fault.amount or 1))
        if (fault := self._faults.take("overrun")) is not None:
            self._cpi += -(-round(fault.amount or self._n) // self._n)
        if not self._next_cpi():
            return False
        header, samples = self.frame(self._cpi)
        data = bytearray(heimdall.encode_v1(header))
        if (fault := self._faults.take("corrupt")) is not None:
            for place in range(max(1, round(fault.amount or 1))):
                data[place % len(data)] ^= 0xFF
        rows = [np.ascontiguousarray(row).data.cast("B") for row in samples]
        if (fault := self._faults.take("short_read")) is not None:
            given = self._n // 2 if fault.amount is None else min(round(fault.amount), self._n)
            send_all(client, [data, rows[0][: 8 * given]], self._ending)
            return False
        return send_all(client, [data, *rows], self._ending)

    def _next_cpi(self) -> bool:
        """Go on to the next frame: the one after the last, or the oldest that is still kept. False at the end."""
        feed, wanted = self._receiver.feed, self._cpi + 1
        if feed.real_time:
            newest = feed.now_tick() // self._n - 1
            wanted = max(wanted, newest - _KEPT + 1, 0)
        while not feed.wait_until((wanted + 1) * self._n, TICK_S):
            if self._ending.is_set():
                return False
        self._cpi = wanted
        return True

    def frame(self, cpi: int) -> tuple[HeaderV1, npt.NDArray[np.complex64]]:
        """Header and samples ``[channel, n]`` of a frame."""
        receiver, feed, tick = self._receiver, self._receiver.feed, cpi * self._n
        receiver.follow(tick, self._n)
        step = receiver.step(tick)
        samples = receiver.samples(tick, self._n)
        gain = max(0, round(10 * receiver.gain_db))
        header = HeaderV1(
            frame_type=heimdall.CALIBRATION if step.noise_source else heimdall.DATA,
            hardware_id=b"KrakenSDR",
            n_channels=feed.n_channels,
            frequency_hz=round(receiver.frequency_hz),
            adc_rate_hz=self._adc_rate_hz,
            sample_rate_hz=round(feed.sample_rate_hz),
            n_samples=self._n,
            time_ms=feed.utc_ns(tick) // 1_000_000,
            block=cpi,
            cpi=cpi,
            overdrive=receiver.overdriven(samples),
            gain_tenth_db=(gain,) * feed.n_channels,
            delay_sync=int(step.delays_corrected),
            iq_sync=int(step.phases_corrected),
            sync_state=_SYNC_STATES[step.number if receiver.corrects or step.noise_source else 0],
            noise_source=int(step.noise_source),
        )
        return header, samples

    # -- commands --------------------------------------------------------------------------------------------------

    def next_command(self, waiting: bytes) -> tuple[bytes, bytes] | None:
        """The first whole command, and what comes after it."""
        n = heimdall.CONTROL_BYTES
        return (waiting[:n], waiting[n:]) if len(waiting) >= n else None

    def verbs_of(self, command: bytes) -> list[tuple[str, dict[str, Any]]]:
        """Verbs of the device that carry a command out.

        Raises:
            ControlError: The unit cannot.
        """
        name, values = heimdall.decode_control_v1(command, self._receiver.feed.n_channels)
        if name == "FREQ":
            return [("tune", {"frequency_hz": float(checked_frequency(values[0]))})]
        if name == "GAIN":
            unknown = [v for v in values if v not in heimdall.TUNER_GAINS_TENTH_DB]
            if unknown:
                raise ControlError(f"the tuners have no gain of {unknown[0]} tenths of dB")
            return [("set_gain", {"gain_db": min(values) / 10})]  # one gain for all channels
        return []

    def done(self) -> bytes:
        return heimdall.DONE.ljust(heimdall.CONTROL_BYTES, b"\0")

    def refusal(self, why: str) -> bytes:
        log.warning("heimdall 1: a command was refused: %s", why)
        return bytes(heimdall.CONTROL_BYTES)


def checked_frequency(frequency_hz: float) -> float:
    """``frequency_hz``, which the tuners can receive.

    Raises:
        ControlError: They cannot.
    """
    low, high = heimdall.TUNER_HZ
    if not low <= frequency_hz <= high:
        raise ControlError(f"frequency {frequency_hz} Hz: the tuners receive {low:g} to {high:g} Hz")
    return frequency_hz

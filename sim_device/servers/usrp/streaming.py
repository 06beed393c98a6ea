"""The radios of all boards at work: one thread that takes samples from the feed and sends them as CHDR packets."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from sim_device.servers.protocol_faults import FaultBoard
from sim_device.servers.sample_feed import SampleFeed
from sim_device.servers.usrp import chdr
from sim_device.servers.usrp.board import Board
from sim_device.servers.usrp.radio import ERROR_LATE, ERROR_OVERRUN, RX_HAS_TIME
from sim_device.servers.usrp.radio_clock import RadioClock
from sim_device.servers.usrp.send_many import ManySender

log = logging.getLogger(__name__)

I16 = npt.NDArray[np.int16]

#: Packets of a channel in one go, at most.
BATCH = 32
#: The thread sleeps so long where nothing is due.
_SHORT_S, _IDLE_S = 0.001, 0.05
#: A host that takes nothing for so long is told the counts again, in case packets were lost.
_RESYNC_S = 0.02
_BYTES_A_SAMPLE = 4


class _Stream:
    """A channel of a board at work.

    Attributes:
        tick: Of the next sample; ``None`` while idle.
        left: Samples until it stops by itself.
    """

    def __init__(self, board: Board, channel: int, row: int) -> None:
        self.board, self.channel, self.row = board, channel, row
        self.radio, self.endpoint = board.radio.channels[channel], board.endpoints[channel]
        self.tick: int | None = None
        self.left: int | None = None
        self.stopping = self.gone = False
        self.blocked_since: float | None = None
        self.n_to_lose = 0


class Streaming:
    """Sends what the hosts asked for, when it is due.

    Args:
        feed: Samples.
        clock: Now.
        boards: Whose channels are rows of the feed in order.
        faults: What to do wrong.
        fifo_s: A host that is behind by more has overrun the radio.
        ending: Set at the end.
    """

    def __init__(
        self,
        feed: SampleFeed,
        clock: RadioClock,
        boards: list[Board],
        faults: FaultBoard,
        fifo_s: float,
        ending: threading.Event,
    ) -> None:
        self._feed, self._clock, self._faults, self._fifo_s, self._ending = feed, clock, faults, fifo_s, ending
        self._streams: list[_Stream] = []
        for board in boards:
            for channel in range(len(board.radio.channels)):
                self._streams.append(_Stream(board, channel, len(self._streams)))
        self._wake = threading.Event()
        self._sender = ManySender()
        self._buffers: dict[int, npt.NDArray[np.uint64]] = {}
        self._block: tuple[int, int, I16] | None = None
        self._stalled_until = 0.0
        self.n_overruns = self.n_late = self.n_packets = 0

    def wake(self) -> None:
        """Something was commanded."""
        self._wake.set()

    def forget_hosts(self) -> None:
        """Let all streams end without a word."""
        for stream in self._streams:
            stream.gone = True
        self.wake()

    def run(self) -> None:
        """Work until the end."""
        while not self._ending.is_set():
            self._wake.clear()
            for stream in self._streams:
                if stream.gone:
                    stream.tick, stream.gone = None, False
                self._obey(stream)
            busy = [s for s in self._streams if s.tick is not None]
            if not busy:
                self._wake.wait(_IDLE_S)
                continue
            self._take_faults(busy)
            if time.monotonic() < self._stalled_until:
                time.sleep(_SHORT_S)
                continue
            now = self._clock.now()
            worked = [self._work(stream, now) for stream in busy if stream.tick is not None]
            if not any(worked):
                time.sleep(_SHORT_S)

    # -- commands --------------------------------------------------------------------------------------------------

    def _obey(self, stream: _Stream) -> None:
        """Take the next command where there is one, and it can be taken now."""
        commands = stream.radio.commands
        if not commands or (stream.tick is not None and commands[0] is not None):
            return
        _, command = stream.radio.take_command()
        log.debug("board %s, channel %d: %s, tick %s", stream.board.address, stream.channel, command, stream.tick)
        if command is None:
            stream.stopping = stream.tick is not None
            return
        now = self._clock.now()
        offset = stream.board.timekeeper.offset(now)
        start = now if command.board_tick is None else command.board_tick - offset
        if start < now:
            self.n_late += 1
            stream.board.report(stream.channel, ERROR_LATE, now + offset)
            return
        stream.tick, stream.left, stream.stopping, stream.blocked_since = start, command.n_samples, False, None

    # -- samples ---------------------------------------------------------------------------------------------------

    def _work(self, stream: _Stream, now: int) -> bool:
        """Send what is due of one channel. Return whether anything was."""
        assert stream.tick is not None
        real_time = self._feed.real_time
        behind = now - stream.tick
        if real_time and behind > self._fifo_s * self._feed.sample_rate_hz:
            self._overrun(stream)
            return True
        spp = stream.radio.samples_per_packet
        if stream.stopping:
            n_samples = min(spp, max(behind, 1) if real_time else spp, stream.left or spp)
            self._send(stream, n_samples, n_samples, last=True)
            stream.tick, stream.stopping = None, False
            return True
        if not real_time and stream.tick > now and stream.tick > self._feed.head:
            return False  # a timed start that lies ahead
        n = min(BATCH, stream.endpoint.room(2 * chdr.WORD + _BYTES_A_SAMPLE * spp))
        if real_time:
            n = min(n, behind // spp)
            if n == 0 and stream.left is not None and 0 < stream.left < spp and behind >= stream.left:
                n = 1
        if n <= 0:
            self._blocked(stream, behind >= spp or not real_time)
            return False
        stream.blocked_since = None
        n_samples = n * spp if stream.left is None else min(n * spp, stream.left)
        last = stream.left is not None and n_samples == stream.left
        whole = n_samples - n_samples % spp - (spp if last and n_samples % spp == 0 else 0)
        if whole:
            self._send(stream, whole, spp)
        if last:
            self._send(stream, n_samples - whole, n_samples - whole, last=True)
            stream.tick = None
        else:
            stream.endpoint.resync_if_due()
        if stream.left is not None:
            stream.left -= n_samples
        return True

    def _send(self, stream: _Stream, n_samples: int, spp: int, last: bool = False) -> None:
        """Send ``n_samples`` as packets of ``spp`` each."""
        assert stream.tick is not None
        n = n_samples // spp
        n_words = 2 + -(-spp // 2)
        length = 2 * chdr.WORD + _BYTES_A_SAMPLE * spp
        packets = self._buffers.setdefault(n_words, np.empty((BATCH, n_words), np.uint64))[:n]
        seq = stream.endpoint.take_seq(n, n * length)
        timed = bool(stream.radio.registers.get(RX_HAS_TIME, 1))
        kind = chdr.DATA_WITH_TIME if timed else chdr.DATA
        header = chdr.header_word(kind, stream.endpoint.dst_epid, 0, length, last)
        packets[:, 0] = header | (seq + np.arange(n, dtype=np.uint64) & 0xFFFF) << np.uint64(32)
        offset = stream.board.timekeeper.offset(stream.tick)
        packets[:, 1] = np.arange(n, dtype=np.uint64) * np.uint64(spp) + np.uint64(stream.tick + offset & (1 << 64) - 1)
        samples = self._samples(stream.tick, n_samples)[stream.row]
        payload = packets.view(np.int16)[:, 8:]
        payload[:, : 2 * spp] = samples.reshape(n, 2 * spp)
        stream.tick += n_samples
        self.n_packets += n
        self._transmit(stream, packets, length)

    def _transmit(self, stream: _Stream, rows: npt.NDArray[Any], length: int) -> None:
        host = stream.board.host_of(stream.endpoint.dst_epid)
        if host is None:
            return
        fault = self._faults.take("lose_packets", "corrupt")
        if fault is not None and fault.kind == "lose_packets":
            stream.n_to_lose += round(1 if fault.amount is None else fault.amount)
        elif fault is not None:
            rows = rows.copy()
            rows.view(np.uint8)[0, 2:4] = 0xFF  # it announces more than it has
        n_lost = min(stream.n_to_lose, len(rows))
        stream.n_to_lose -= n_lost
        rows = rows[n_lost:]
        try:
            self._sender.send(stream.board.socket, rows, host, length)
        except OSError as error:
            log.debug("board %s: to %s: %s", stream.board.address, host, error)

    def _samples(self, tick: int, n: int) -> I16:
        """Counts of all channels; boards that run alike share them."""
        if self._block is None or self._block[:2] != (tick, n):
            self._block = tick, n, self._feed.counts(tick, n)
        return self._block[2]

    # -- trouble ---------------------------------------------------------------------------------------------------

    def _overrun(self, stream: _Stream) -> None:
        """The radio lost samples: it says so and stops, and the host starts it again."""
        assert stream.tick is not None
        self.n_overruns += 1
        log.debug("board %s, channel %d: overrun at %d", stream.board.address, stream.channel, stream.tick)
        stream.board.report(stream.channel, ERROR_OVERRUN, stream.tick + stream.board.timekeeper.offset(stream.tick))
        stream.tick, stream.stopping = None, False

    def _blocked(self, stream: _Stream, by_host: bool) -> None:
        now_s = time.monotonic()
        if not by_host:
            stream.blocked_since = None
        elif stream.blocked_since is None:
            stream.blocked_since = now_s
        elif now_s - stream.blocked_since > _RESYNC_S:
            stream.endpoint.resync_if_due(force=True)
            stream.blocked_since = now_s

    def _take_faults(self, busy: list[_Stream]) -> None:
        fault = self._faults.take("stall", "overrun", "clock_jump")
        if fault is None:
            return
        if fault.kind == "stall":
            self._stalled_until = time.monotonic() + (1.0 if fault.amount is None else fault.amount)
        elif fault.kind == "overrun":
            self._overrun(busy[0])
        else:
            # from one tick on for all: none of them has sent it yet
            tick = max(s.tick for s in busy if s.tick is not None)
            ticks = round((1.0 if fault.amount is None else fault.amount) * self._feed.sample_rate_hz)
            for board in {s.board for s in busy}:
                board.timekeeper.jump(tick, ticks)

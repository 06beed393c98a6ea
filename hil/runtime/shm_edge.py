"""The shared-memory edge: payloads in slots, a ring of headers, two bells.

Beside the slots an edge has one control file that both sides map::

    u64 words, those that one side writes often in a cache line of their own:
        magic; head, untold; taken, done, abandoned; consumer_waits; producer_waits
    entries, each ENTRY bytes; after the last one the newest descriptor
        u64 slot, header bytes, header number; seq, sample_start, time_ns, host_time_ns; header

A header that differs from the one before only in the four numbers that count keeps its number, and only these are
written and read: packing, unpacking and checking the rest would take longer than copying the samples does.

``head`` entries were published, the consumer has begun ``taken`` of them and finished with ``done``. Each word has one
writer, and aligned words are written whole; the order of stores that this needs is what x86-64 gives, so other
machines use a socket instead (:func:`supported`). The bells are named pipes: a side that is about to sleep says so in
its word, and the other then writes one byte. A busy edge makes no system call at all. A bell missed because both
looked at the same instant costs one :data:`NAP_S`. To be woken takes longer than to copy a frame, so a consumer that
was woken at once last time looks for a moment before it sleeps again.

The file outlives either side: a worker that is restarted goes on where the one before died. The frame that a consumer
had begun is lost, and reported in the header of the next. What a producer had published is not; what still waited in
its memory for a place in the ring is counted in ``untold``, and reported by the producer that takes its place.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import struct
import time
from pathlib import Path

from hil.errors import WireError
from hil.frame import NO_LOSS, Frame, Header, Loss
from hil.runtime.queue import MAX_WINDOW, Item, Policy, SendQueue, loss_of
from hil.runtime.shm_pool import SHM_DIRECTORY, ShmPool, Slot, SlotReader, create_shared
from hil.wire import decode_header, encode_header

#: ``HIL`` and the version of this layout.
MAGIC = 0x0331_4C49_48
_MAGIC, _HEAD, _UNTOLD, _TAKEN, _DONE, _ABANDONED, _CONSUMER_WAITS, _PRODUCER_WAITS = 0, 8, 9, 16, 17, 18, 24, 32
_WORDS = 40
ENTRIES = 48
ENTRY = 64 * 1024
_SIZE = 4096 + (ENTRIES + 1) * ENTRY
#: Slot, header bytes, header number; seq, sample_start, time_ns, host_time_ns (0 where the header has none).
_HEAD_OF_ENTRY = struct.Struct("<QQQQQqq")
#: The entry, after those of the ring, that keeps the newest descriptor.
_DESCRIPTOR = ENTRIES
#: The longest that a side sleeps without looking again.
NAP_S = 0.02
#: A consumer for whom frames come faster than it could be woken looks for so long before it sleeps. Waking takes about
#: as long.
SPIN_NS = 100_000


def supported() -> bool:
    """Whether this machine has the memory order and the file system that the edge needs."""
    return platform.machine() in ("x86_64", "AMD64") and SHM_DIRECTORY.is_dir()


class Bell:
    """A named pipe to wake the other side by; its descriptor goes into a poller."""

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Both sides open it for both directions, so it never reads as closed.
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of rings that nobody heard: one more adds nothing
            os.write(self.fd, b"\0")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        os.close(self.fd)


class _Control:
    """The control file, mapped; made by whichever side comes first."""

    def __init__(self, name: str) -> None:
        path = SHM_DIRECTORY / f"{name}.ctl"
        if path.exists() and path.stat().st_size == _SIZE:
            with path.open("r+b") as file:
                self.memory = mmap.mmap(file.fileno(), _SIZE)
        else:
            self.memory = create_shared(path, _SIZE)
        self.view = memoryview(self.memory)
        self.words = self.view[: _WORDS * 8].cast("Q")
        if self.words[_MAGIC] not in (0, MAGIC):
            raise WireError(
                f"{path} is of another version ({self.words[_MAGIC]:x}, not {MAGIC:x}): start both sides anew"
            )
        self.words[_MAGIC] = MAGIC

    def close(self) -> None:
        self.words.release()
        self.view.release()
        self.memory.close()


class _HeaderWriter:
    """Writes headers into entries, those parts that an entry does not hold yet."""

    def __init__(self, control: _Control) -> None:
        self._view = control.view
        self._rest: tuple[object, ...] = ()
        # Numbers of headers are never used again, also not by a producer that takes the place of this one.
        self._number = int.from_bytes(os.urandom(8), "little") >> 1
        self._packed = b""
        self._held = [0] * (ENTRIES + 1)

    def write(self, index: int, slot: int, header: Header) -> None:
        """Write ``header`` into entry ``index``.

        Raises:
            WireError: It cannot be packed, or is too long for an entry.
        """
        stream, seq, kind, epoch, start, rate, frequency, time_ns, base, host_ns, *others = header
        rest = (stream, kind, epoch, rate, frequency, base, others, start is None, time_ns is None, host_ns is None)
        if header.meta or rest != self._rest:  # meta may be the same object with other values in it
            packed = encode_header(header)
            if len(packed) > ENTRY - _HEAD_OF_ENTRY.size:
                room = ENTRY - _HEAD_OF_ENTRY.size
                raise WireError(f"header of {stream!r} has {len(packed)} bytes, an edge carries {room}")
            self._number += 1
            self._packed, self._rest = packed, rest
        at = _entry_at(index)
        try:
            _HEAD_OF_ENTRY.pack_into(
                self._view, at, slot, len(self._packed), self._number, seq, start or 0, time_ns or 0, host_ns or 0
            )
        except struct.error as error:
            raise WireError(f"header of {stream!r}: seq {seq}, sample_start {start} or a time: {error}") from error
        if self._held[index] != self._number:
            at += _HEAD_OF_ENTRY.size
            self._view[at : at + len(self._packed)] = self._packed
            self._held[index] = self._number


class _HeaderReader:
    """Reads headers from entries; what is the same as before is not read again."""

    def __init__(self, control: _Control) -> None:
        self._view = control.view
        self._number = 0
        self._known = Header(stream="", seq=0)

    def holds(self, index: int) -> bool:
        """Whether a header was ever written into entry ``index``."""
        return bool(_HEAD_OF_ENTRY.unpack_from(self._view, _entry_at(index))[2])

    def read(self, index: int) -> tuple[int, Header]:
        """Return slot and header of entry ``index``.

        Raises:
            WireError: It holds none.
        """
        at = _entry_at(index)
        slot, n_bytes, number, seq, start, time_ns, host_ns = _HEAD_OF_ENTRY.unpack_from(self._view, at)
        if number != self._number:
            if n_bytes > ENTRY - _HEAD_OF_ENTRY.size:
                raise WireError(f"an entry of the ring says its header has {n_bytes} bytes, more than an entry holds")
            at += _HEAD_OF_ENTRY.size
            self._known = decode_header(self._view[at : at + n_bytes])
            self._number = number
        k = self._known
        header = Header(
            k.stream,
            seq,
            k.kind,
            k.epoch,
            None if k.sample_start is None else start,
            k.sample_rate_hz,
            k.frequency_hz,
            None if k.time_ns is None else time_ns,
            k.timebase,
            None if k.host_time_ns is None else host_ns,
            k.array_id,
            k.calibration_id,
            k.calibration,
            k.lost,
            k.arrays,
            k.meta,
        )
        return slot, header


class ShmSender:
    """The producing end of an edge.

    Args:
        name: Name of the edge, unique on this host.
        directory: Where the bells are.
        pool: The slots of this process.
    """

    def __init__(self, name: str, directory: Path, pool: ShmPool, *, capacity: int, policy: Policy, label: str) -> None:
        self.queue: SendQueue[Slot] = SendQueue(capacity, policy, label)
        self._pool = pool
        self._control = _Control(name)
        self._words = self._control.words
        self._headers = _HeaderWriter(self._control)
        self._bell = Bell(directory / f"{name}.bell")
        self._credit = Bell(directory / f"{name}.credit")
        self._base = self._words[_HEAD]  # what a producer before this one published is not ours to count
        self._acknowledged = 0
        self.queue.inherit(self._words[_UNTOLD])

    @property
    def queues(self) -> list[SendQueue[Slot]]:
        return [self.queue]

    @property
    def handles(self) -> list[int]:
        return [self._credit.fd]

    @property
    def inherited(self) -> bool:
        """Whether frames of a producer before this one still wait to be consumed."""
        return self._words[_DONE] < self._base

    @property
    def n_abandoned(self) -> int:
        """Frames that consumers had begun when they died."""
        return self._words[_ABANDONED]

    def offer(self, frame: Frame) -> bool:
        """Queue ``frame``, copying it; false where a ``block`` queue is full.

        Raises:
            EdgeOverflow: Full, and the policy is ``fail``.
        """
        queue = self.queue
        if queue.in_flight or queue.waiting:
            self.service()
        header = frame.header
        if not queue.has_room() and header.kind == "data":
            if queue.policy == "block":
                return False
            if queue.policy == "drop_newest":  # not worth a copy
                queue.offer(Item(header, _NO_SLOT))
                self._words[_UNTOLD] = queue.untold
                return True
        slot = self._pool.put(frame)
        for item in queue.offer(Item(header, slot)) or ():
            self._pool.release(item.payload)
        self._publish()
        return True

    def service(self) -> None:
        """Take back what the consumer has finished with, and publish what waits."""
        done = self._words[_DONE] - self._base
        if done > self._acknowledged:
            for item in self.queue.acknowledge(done - self._acknowledged):
                self._pool.release(item.payload)
            self._acknowledged = done
        if self.queue.waiting:
            # Also where nothing of ours was taken: what a producer before this one left may have made room.
            self._publish()

    def arm(self) -> bool:
        """About to sleep: ask for a bell if anything waits for credit. True: there is credit, do not sleep."""
        if self.queue.empty:
            return False
        self._words[_PRODUCER_WAITS] = 1
        return self._words[_DONE] - self._base > self._acknowledged

    def disarm(self) -> None:
        self._words[_PRODUCER_WAITS] = 0
        self._credit.clear()

    @property
    def drained(self) -> bool:
        return self.queue.empty

    def close(self) -> None:
        self._words.release()
        self._control.close()
        self._bell.close()
        self._credit.close()

    def _publish(self) -> None:
        words = self._words
        first = head = words[_HEAD]
        # Otherwise entries of producers before this one are still there.
        room = head - words[_DONE] <= ENTRIES - MAX_WINDOW
        while room and (item := self.queue.next_sendable()) is not None:
            self._headers.write(head % ENTRIES, item.payload.number, item.header)
            if item.header.kind == "descriptor":
                self._headers.write(_DESCRIPTOR, item.payload.number, item.header)
            head += 1
            words[_HEAD] = head
        if self.queue.waiting or words[_UNTOLD]:
            words[_UNTOLD] = self.queue.untold
        if head > first and words[_CONSUMER_WAITS]:
            words[_CONSUMER_WAITS] = 0
            self._bell.ring()


class ShmReceiver:
    """The consuming end of an edge."""

    def __init__(self, name: str, directory: Path, prefix: str) -> None:
        self._control = _Control(name)
        self._words = self._control.words
        self._bell = Bell(directory / f"{name}.bell")
        self._credit = Bell(directory / f"{name}.credit")
        self._headers = _HeaderReader(self._control)
        self._slots = SlotReader(prefix)
        self._holding = False
        self._spins = False
        self._asleep_since_ns = 0
        # One that takes the place of another has missed the descriptor.
        self._missed_descriptor = self._words[_TAKEN] > 0
        self._lost = self._abandoned()

    @property
    def handles(self) -> list[int]:
        return [self._bell.fd]

    def receive(self) -> Frame | None:
        """Return the next frame, as views that hold until the next call, or ``None``.

        Raises:
            WireError: What was published is no frame; the stream goes on with the next one.
        """
        self.release()
        if self._missed_descriptor:
            self._missed_descriptor = False
            if self._headers.holds(_DESCRIPTOR):
                return Frame(self._headers.read(_DESCRIPTOR)[1])
        words = self._words
        taken = words[_TAKEN]
        if words[_HEAD] <= taken:
            return None
        self._holding = True
        words[_TAKEN] = taken + 1
        number, header = self._headers.read(taken % ENTRIES)
        if self._lost != NO_LOSS and header.kind == "data":
            header = header._replace(lost=header.lost.plus(self._lost))
            self._lost = NO_LOSS
        return Frame(header, self._slots.arrays(number, header.arrays) if header.arrays else {})

    def release(self) -> None:
        """Finish with the frame received last: its slot may be written again."""
        if not self._holding:
            return
        self._holding = False
        words = self._words
        words[_DONE] = words[_TAKEN]
        if words[_PRODUCER_WAITS]:
            words[_PRODUCER_WAITS] = 0
            self._credit.ring()

    def arm(self) -> bool:
        """About to sleep: ask for a bell. True: a frame is there, do not sleep."""
        words = self._words
        now = time.perf_counter_ns()
        if self._spins:
            taken, end = words[_TAKEN], now + SPIN_NS
            while words[_HEAD] <= taken and now < end:
                now = time.perf_counter_ns()
            self._spins = now < end
            if self._spins:
                return True
        self._asleep_since_ns = now
        words[_CONSUMER_WAITS] = 1
        return words[_HEAD] > words[_TAKEN]

    def disarm(self) -> None:
        """Awake again."""
        if not self._words[_CONSUMER_WAITS] and self._spins:
            return  # it did not sleep
        self._words[_CONSUMER_WAITS] = 0
        self._bell.clear()
        if self._words[_HEAD] > self._words[_TAKEN] and time.perf_counter_ns() - self._asleep_since_ns < SPIN_NS:
            self._spins = True

    def close(self) -> None:
        self._words.release()
        self._slots.close()
        self._control.close()
        self._bell.close()
        self._credit.close()

    def _abandoned(self) -> Loss:
        """What a consumer before this one had begun when it died."""
        words = self._words
        done, taken = words[_DONE], words[_TAKEN]
        if taken == done:
            return NO_LOSS
        header = self._headers.read(done % ENTRIES)[1]
        if header.kind != "data":
            words[_TAKEN] = done  # what is no data is never lost: it is taken again
            return NO_LOSS
        words[_DONE] = taken
        words[_ABANDONED] += 1
        return loss_of(header)


def _entry_at(index: int) -> int:
    """Where entry ``index`` of the control file begins."""
    return 4096 + index * ENTRY


_NO_SLOT = Slot.__new__(Slot)

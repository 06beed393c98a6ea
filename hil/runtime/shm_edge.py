"""The shared-memory edge: payloads in slots, a ring of headers, two bells.

Beside the slots an edge has one control file that both sides map::

    u64 magic, head, taken, done, consumer_waits, producer_waits, abandoned, -   8 words
    entries, each ENTRY bytes: u64 slot, u64 header bytes, header; after the last one the newest descriptor

``head`` entries were published, the consumer has begun ``taken`` of them and finished with ``done``. Each word has one
writer, and aligned words are written whole; the order of stores that this needs is what x86-64 gives, so other
machines use a socket instead (:func:`supported`). The bells are named pipes: a side that is about to sleep says so in
its word, and the other then writes one byte. A busy edge makes no system call at all. A bell missed because both
looked at the same instant costs one :data:`NAP_S`.

The file outlives either side: a worker that is restarted goes on where the one before died. The frame that it had
begun is lost, and reported in the header of the next.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
from pathlib import Path

from hil.errors import WireError
from hil.frame import NO_LOSS, Frame, Loss
from hil.runtime.queue import MAX_WINDOW, Item, Policy, SendQueue, loss_of
from hil.runtime.shm_pool import SHM_DIRECTORY, ShmPool, Slot, SlotReader, create_shared
from hil.wire import decode_header, encode_header

MAGIC = 0x0131_4C49_48
_MAGIC, _HEAD, _TAKEN, _DONE, _CONSUMER_WAITS, _PRODUCER_WAITS, _ABANDONED = range(7)
_WORDS = 8
ENTRIES = 32
ENTRY = 64 * 1024
_SIZE = 4096 + (ENTRIES + 1) * ENTRY
#: The longest that a side sleeps without looking again.
NAP_S = 0.02


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
        self.words[_MAGIC] = MAGIC

    def entry(self, index: int) -> memoryview:
        start = 4096 + index % ENTRIES * ENTRY
        return self.view[start : start + ENTRY]

    @property
    def descriptor(self) -> memoryview:
        return self.view[_SIZE - ENTRY :]

    def close(self) -> None:
        self.words.release()
        self.view.release()
        self.memory.close()


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
        self._bell = Bell(directory / f"{name}.bell")
        self._credit = Bell(directory / f"{name}.credit")
        self._base = self._words[_HEAD]  # what a producer before this one published is not ours to count
        self._acknowledged = 0

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
        self.service()
        queue = self.queue
        header = frame.header
        if header.kind == "data" and not queue.has_room():
            if queue.policy == "block":
                return False
            if queue.policy == "drop_newest":  # not worth a copy
                queue.offer(Item(header, _NO_SLOT))
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
        if not self.queue.waiting or words[_HEAD] - words[_DONE] > ENTRIES - MAX_WINDOW:
            return  # the second: entries of producers before this one are still there
        published = False
        for item in self.queue.sendable():
            head = words[_HEAD]
            packed = encode_header(item.header)
            if len(packed) > ENTRY - 16:
                raise WireError(
                    f"header of {item.header.stream!r} has {len(packed)} bytes, an edge carries {ENTRY - 16}"
                )
            _write(self._control.entry(head), item.payload.number, packed)
            if item.header.kind == "descriptor":
                _write(self._control.descriptor, item.payload.number, packed)
            words[_HEAD] = head + 1
            published = True
        if published and words[_CONSUMER_WAITS]:
            words[_CONSUMER_WAITS] = 0
            self._bell.ring()


class ShmReceiver:
    """The consuming end of an edge."""

    def __init__(self, name: str, directory: Path, prefix: str) -> None:
        self._control = _Control(name)
        self._words = self._control.words
        self._bell = Bell(directory / f"{name}.bell")
        self._credit = Bell(directory / f"{name}.credit")
        self._slots = SlotReader(prefix)
        self._holding = False
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
            packed = _read(self._control.descriptor)[1]
            if packed:
                return Frame(decode_header(packed))
        words = self._words
        taken = words[_TAKEN]
        if words[_HEAD] <= taken:
            return None
        self._holding = True
        words[_TAKEN] = taken + 1
        number, packed = _read(self._control.entry(taken))
        header = decode_header(packed)
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
        self._words[_CONSUMER_WAITS] = 1
        return self._words[_HEAD] > self._words[_TAKEN]

    def disarm(self) -> None:
        self._words[_CONSUMER_WAITS] = 0
        self._bell.clear()

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
        header = decode_header(_read(self._control.entry(done))[1])
        words[_DONE] = taken
        if header.kind != "data":
            return NO_LOSS
        words[_ABANDONED] += 1
        return loss_of(header)


def _write(entry: memoryview, number: int, packed: bytes) -> None:
    entry[0:8] = number.to_bytes(8, "little")
    entry[8:16] = len(packed).to_bytes(8, "little")
    entry[16 : 16 + len(packed)] = packed


def _read(entry: memoryview) -> tuple[int, bytes]:
    n = int.from_bytes(entry[8:16], "little")
    if n > ENTRY - 16:
        raise WireError(f"an entry of the ring says its header has {n} bytes, it holds {ENTRY - 16}")
    return int.from_bytes(entry[0:8], "little"), bytes(entry[16 : 16 + n])


_NO_SLOT = Slot.__new__(Slot)

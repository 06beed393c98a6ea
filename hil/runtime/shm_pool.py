"""Slots of shared memory that hold the arrays of one frame each, reused while they are warm in the cache.

A slot is a file in ``/dev/shm``. The writer owns
slots and counts for each how many consumers still refer to it; a reader maps a slot when it first meets its number.
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from hil.errors import RunError, WireError
from hil.frame import AnyArray, ArraySpec, Frame

SHM_DIRECTORY = Path("/dev/shm")
#: Arrays begin at multiples of this: a cache line, and enough for AVX-512.
ALIGNMENT = 64
_SMALLEST = 4096


def aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


class Slot:
    """One slot of a writer."""

    __slots__ = ("arrays", "bytes", "memory", "number", "references", "size", "specs")

    def __init__(self, number: int, size: int, memory: mmap.mmap) -> None:
        self.number = number
        self.size = size
        self.memory = memory
        self.bytes: AnyArray = np.frombuffer(memory, np.uint8)
        self.references = 0
        self.specs: tuple[ArraySpec, ...] = ()
        self.arrays: list[AnyArray] = []

    def lay_out(self, specs: tuple[ArraySpec, ...]) -> None:
        """Make ``arrays`` views of the slot as ``specs`` describe."""
        self.specs, self.arrays = specs, list(views(self.bytes, specs).values())


class ShmPool:
    """Slots of one writer; several edges share a slot, so a frame is copied once for all of them."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._free: dict[int, list[Slot]] = defaultdict(list)
        self._slots: list[Slot] = []
        self._last: tuple[Frame | None, Slot] = None, Slot.__new__(Slot)
        self._specs: tuple[ArraySpec, ...] = ()
        self._size = _size_class(0)
        # The process id keeps the numbers of a restarted writer apart from those that readers still hold.
        self._next = os.getpid() << 32

    def put(self, frame: Frame) -> Slot:
        """Copy the arrays of ``frame`` into a slot, once for all edges it is sent on; the caller holds one reference.

        Raises:
            RunError: Shared memory is full.
            WireError: The header does not describe the arrays.
        """
        last, slot = self._last
        if last is not frame or slot.references == 0:
            specs = frame.header.arrays
            if specs != self._specs:
                self._specs, self._size = specs, _size_class(sum(aligned(s.n_bytes) for s in specs))
            slot = self._take(self._size)
            if slot.specs != specs:
                slot.lay_out(specs)
            for spec, target in zip(specs, slot.arrays, strict=True):
                array = frame[spec.name]
                if array.shape != target.shape or array.dtype != target.dtype:
                    self._free[slot.size].append(slot)
                    raise WireError(
                        f"frame of {frame.header.stream!r}: header says {spec}, the array is {array.dtype} "
                        f"{list(array.shape)}"
                    )
                target[...] = array
            self._last = frame, slot
        slot.references += 1
        return slot

    def release(self, slot: Slot) -> None:
        slot.references -= 1
        if slot.references == 0:
            self._free[slot.size].append(slot)  # last in, first out: the warmest is used next

    def close(self) -> None:
        """Let go of all slots. Those that consumers have not finished with stay, for them and for :meth:`sweep`."""
        self._last = None, Slot.__new__(Slot)
        for slot in self._slots:
            del slot.bytes, slot.arrays
            slot.memory.close()
            if slot.references == 0:
                slot_path(self.prefix, slot.number).unlink(missing_ok=True)
        self._slots.clear()
        self._free.clear()

    def sweep(self) -> None:
        """Remove the slots of a writer before this one, once nobody needs them any more."""
        own = {slot.number for slot in self._slots}
        for path in SHM_DIRECTORY.glob(f"{self.prefix}.*"):
            number = path.suffix[1:]
            if number != "ctl" and int(number, 16) not in own:
                path.unlink(missing_ok=True)

    def _take(self, size: int) -> Slot:
        free = self._free[size]
        if free:
            return free.pop()
        number = self._next
        self._next += 1
        slot = Slot(number, size, create_shared(slot_path(self.prefix, number), size))
        self._slots.append(slot)
        return slot


def _size_class(n_bytes: int) -> int:
    """The slot size for ``n_bytes``: eight sizes an octave, so at most an eighth is wasted."""
    step = max(_SMALLEST, (1 << max(n_bytes, 1).bit_length()) // 16)
    return max(_SMALLEST, -(-n_bytes // step) * step)


class SlotReader:
    """Maps the slots of a writer as they are met."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._maps: dict[int, AnyArray] = {}
        self._views: dict[int, tuple[tuple[ArraySpec, ...], dict[str, AnyArray]]] = {}
        self._writer = 0

    def arrays(self, number: int, specs: tuple[ArraySpec, ...]) -> dict[str, AnyArray]:
        """Return read-only views of the arrays in slot ``number``.

        Raises:
            WireError: The slot does not exist, or is smaller than the arrays.
        """
        known = self._views.get(number)
        if known is None or known[0] != specs:
            memory = self._maps.get(number)
            if memory is None:
                memory = self._map(number)
            known = self._views[number] = (specs, views(memory, specs, f"slot {number:x}"))
        return known[1].copy()

    def close(self) -> None:
        """Let go of all slots; a view that somebody kept keeps its mapping."""
        self._views.clear()
        self._maps.clear()

    def _map(self, number: int) -> AnyArray:
        if number >> 32 != self._writer:
            # Frames come in order: with the first of a writer that was restarted, those of the one before are over.
            self.close()
            self._writer = number >> 32
        try:
            with slot_path(self._prefix, number).open("rb") as file:
                memory: AnyArray = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
        except OSError as error:
            raise WireError(f"slot {number:x} of {self._prefix} cannot be mapped: {error}") from error
        self._maps[number] = memory
        return memory


def views(memory: AnyArray, specs: tuple[ArraySpec, ...], name: str = "slot") -> dict[str, AnyArray]:
    """Return views of ``memory`` that are the arrays of a slot by name.

    Raises:
        WireError: It is too small for them.
    """
    arrays: dict[str, AnyArray] = {}
    offset = 0
    for spec in specs:
        n = spec.n_bytes
        if offset + n > memory.size:
            raise WireError(f"{name} has {memory.size} bytes, {spec} ends at {offset + n}")
        arrays[spec.name] = memory[offset : offset + n].view(spec.dtype).reshape(spec.shape)
        offset += aligned(n)
    return arrays


def slot_path(prefix: str, number: int) -> Path:
    return SHM_DIRECTORY / f"{prefix}.{number:x}"


def create_shared(path: Path, size: int) -> mmap.mmap:
    """Make a file of ``size`` bytes in shared memory and map it.

    Raises:
        RunError: No room; says how much there is.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Unlike a truncation, this fails now and not with a bus error at the first write.
            os.posix_fallocate(fd, 0, size)
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)
    except OSError as error:
        path.unlink(missing_ok=True)
        free = os.statvfs(SHM_DIRECTORY)
        raise RunError(
            f"cannot take {size} bytes of shared memory at {path}: {error}; {free.f_bavail * free.f_frsize} bytes "
            "are free there: enlarge it (in a container: --shm-size), lower the edges' capacity, or connect with "
            "edge='tcp'"
        ) from error

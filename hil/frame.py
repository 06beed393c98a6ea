"""A frame: one header and named arrays. What every stream of a graph, every wire and every file carries.

The header keeps what is known and nothing else: a field that is not known is ``None``, never zero. Times are
integer nanoseconds and name their timebase. Headers are named tuples: immutable, so that a reference may be
shared by every block of a worker, and cheap, because one is made a frame and a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hil.errors import WireError

AnyArray = npt.NDArray[Any]

Kind = Literal["data", "descriptor", "event", "eof"]
Timebase = Literal["utc", "tai", "device", "host"]
CalibrationState = Literal["none", "valid", "stale"]

KINDS: tuple[Kind, ...] = ("data", "descriptor", "event", "eof")
TIMEBASES: tuple[Timebase, ...] = ("utc", "tai", "device", "host")
CALIBRATION_STATES: tuple[CalibrationState, ...] = ("none", "valid", "stale")

#: The stream of true positions that a simulated device or an annotated recording emits.
TRUTH_STREAM = "truth"


class ArraySpec(NamedTuple):
    """What one array of a frame is: NumPy dtype name, shape, one axis name a dimension, unit."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    unit: str = ""

    @property
    def n_bytes(self) -> int:
        n = np.dtype(self.dtype).itemsize
        for size in self.shape:
            n *= size
        return n

    def __str__(self) -> str:
        sizes = ", ".join(f"{a}={n}" for a, n in zip(self.axes, self.shape, strict=False))
        return f"{self.name}: {self.dtype} [{sizes}]" + (f" {self.unit}" if self.unit else "")


class Loss(NamedTuple):
    """What went missing on this stream since its previous frame: source frames, samples, clipped samples."""

    frames: int = 0
    samples: int = 0
    clipped: int = 0

    def plus(self, other: Loss) -> Loss:
        return Loss(self.frames + other.frames, self.samples + other.samples, self.clipped + other.clipped)


NO_LOSS = Loss()


class Header(NamedTuple):
    """Header of one frame.

    ``seq`` numbers the frames of the *source*: a block that makes one frame from one hands the number on, one that
    makes a frame from several gives the last, so a gap in ``seq`` at any place of a graph is what was not seen
    there, whatever was restarted in between.

    Attributes:
        stream: Name of the stream, ``"sim.iq"``.
        seq: Number of the source frame.
        kind: data, descriptor (what the array is), event (what happened), eof.
        epoch: Rises on retune, gain change, restart, reconnect and change of sample rate.
        sample_start: Index of the first sample since the device started.
        sample_rate_hz: Sample rate.
        frequency_hz: Centre frequency.
        time_ns: Time of the first sample, in ``timebase``.
        timebase: utc, tai, device (its own tick count) or host (stamped on arrival).
        host_time_ns: UTC time at which this host received the frame from the device.
        array_id: Which array, as the descriptor names it.
        calibration_id: Which calibration was applied.
        calibration: none, valid, or stale (applied, but made for another epoch).
        lost: What went missing since the last frame of this stream.
        arrays: What the arrays are, in the order in which they travel.
        meta: Small extra knowledge: numbers, text, lists and maps of these.
    """

    stream: str
    seq: int
    kind: Kind = "data"
    epoch: int = 0
    sample_start: int | None = None
    sample_rate_hz: float | None = None
    frequency_hz: float | None = None
    time_ns: int | None = None
    timebase: Timebase | None = None
    host_time_ns: int | None = None
    array_id: str | None = None
    calibration_id: str | None = None
    calibration: CalibrationState = "none"
    lost: Loss = NO_LOSS
    arrays: tuple[ArraySpec, ...] = ()
    meta: Mapping[str, Any] = {}

    def replace(self, **changes: Any) -> Self:
        return self._replace(**changes)


class Frame:
    """A header and its arrays by name. Arrays may be views of memory that is valid only while a block runs."""

    __slots__ = ("arrays", "header")

    def __init__(self, header: Header, arrays: Mapping[str, AnyArray] | None = None) -> None:
        self.header = header
        self.arrays: Mapping[str, AnyArray] = {} if arrays is None else arrays

    @classmethod
    def of(cls, header: Header, **arrays: tuple[AnyArray, str, str]) -> Frame:
        """Make a frame from ``name=(array, "axis names", unit)``.

        Raises:
            WireError: An array has another number of dimensions than axis names.
        """
        specs = tuple([spec_of(n, a, _split(axes), unit) for n, (a, axes, unit) in arrays.items()])
        return cls(header._replace(arrays=specs), {name: a for name, (a, _, _) in arrays.items()})

    def __getitem__(self, name: str) -> AnyArray:
        try:
            return self.arrays[name]
        except KeyError:
            has = ", ".join(self.arrays) or "no arrays"
            raise WireError(f"frame of {self.header.stream!r} has no array {name!r}: it has {has}") from None

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    @property
    def n_bytes(self) -> int:
        return sum(a.nbytes for a in self.arrays.values())

    def copy(self) -> Frame:
        """A frame that owns its memory, to keep beyond the call it was given to."""
        return Frame(self.header, {name: a.copy() for name, a in self.arrays.items()})

    def __repr__(self) -> str:
        h = self.header
        arrays = "; ".join(str(s) for s in h.arrays)
        return f"<Frame {h.stream} #{h.seq} {h.kind} epoch {h.epoch}: {arrays}>"


def spec_of(name: str, array: AnyArray, axes: tuple[str, ...], unit: str = "") -> ArraySpec:
    """Describe ``array``.

    Raises:
        WireError: The array has another number of dimensions than axis names.
    """
    if array.ndim != len(axes):
        raise WireError(
            f"array {name!r} has {array.ndim} dimensions {list(array.shape)}, "
            f"its axes are {len(axes)}: {' '.join(axes)!r}"
        )
    return ArraySpec(name, _name_of(array.dtype), array.shape, axes, unit)


# both cost as much as the rest of a frame, and there are a few of each
@lru_cache(maxsize=256)
def _split(axes: str) -> tuple[str, ...]:
    return tuple(axes.split())


@lru_cache(maxsize=256)
def _name_of(dtype: np.dtype[Any]) -> str:
    return dtype.name

"""What drivers of files share: pace, resumption, restamping, array descriptions given again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from drivers.base import Driver
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import HilError, ParamError
from hil.frame import NO_LOSS, Frame, Header
from hil.params import Params
from hil.source import Reading

#: A description of the array is given again after so long, for those that came late.
DESCRIPTOR_INTERVAL_S = 2.0


class PacedParams(Params, frozen=True):
    speed: Annotated[float, Meta(ge=0, le=1e6, description="1: as it was, 10: ten times as fast, 0: at once")] = 0.0
    array: Annotated[
        dict[str, Any] | None, Meta(description="ArrayGeometry.to_dict(), where the file describes no array")
    ] = None


class Paced(Driver):
    """Base of drivers that read frames from files.

    Frames keep number, epoch, samples, times, calibration and losses. ``host_time_ns`` is when a frame is given out,
    because age in a run is counted from it; when it was received first is in ``meta["recorded_host_time_ns"]``. What
    turns out to be wrong with a file comes as an event ``recording_problem``.
    """

    params: PacedParams
    finite: ClassVar[bool] = True

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._frames: Iterator[Frame] = iter(())
        self._resume_after: int | None = None
        self._descriptors: dict[str, Frame] = {}
        self._next_descriptor_s = 0.0
        self._due: deque[tuple[str, Frame]] = deque()
        self._origin: tuple[float, int] | None = None
        self._n_problems = 0
        self.n_frames = 0
        self._array: ArrayGeometry | None = None
        if self.params.array is not None:
            try:
                self._array = ArrayGeometry.from_dict(self.params.array)
            except (HilError, TypeError, ValueError) as error:
                raise ParamError(f"{type(self).__name__} {self.name!r}: array: {error}") from error

    # -- what a driver overrides -----------------------------------------------------------------------------------

    def open_frames(self) -> Iterator[Frame]:
        """Open the files and return what is in them, in order.

        Raises:
            DriverError: They cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} has no open_frames()")

    def port_of(self, header: Header) -> str | None:
        """The output that frames of ``header``'s stream go to, ``None`` for none."""
        raise NotImplementedError(f"{type(self).__name__} has no port_of()")

    def adapt(self, port: str, frame: Frame) -> Frame:
        """Turn ``frame`` into what ``port`` declares."""
        return frame

    def problems(self) -> list[str]:
        """What was found to be wrong so far, in words."""
        return []

    # -- what a runtime calls --------------------------------------------------------------------------------------

    def open(self) -> None:
        self._frames = self.open_frames()
        self._next_descriptor_s = time.monotonic() + DESCRIPTOR_INTERVAL_S
        if self._resume_after is not None:
            self._frames = _after(self._frames, self._resume_after)

    def resume(self, seq: int) -> None:
        self._resume_after = seq

    def read(self, timeout_s: float) -> Reading:
        """Return the next frame when it is due, with what stands before it."""
        if not self._due and not self._fetch():
            return None
        wait_s = self._wait_s(self._due[0][1].header)
        if wait_s > timeout_s:
            time.sleep(max(0.0, timeout_s))
            return []
        if wait_s > 0:
            time.sleep(wait_s)
        port, frame = self._due.popleft()
        self.n_frames += frame.header.kind == "data"
        return [*self._repeated_descriptors(), (port, self._restamped(port, frame))]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _fetch(self) -> bool:
        """Read on until a frame is due for some port; false at the end."""
        while not self._due:
            frame = next(self._frames, None)
            self._tell_problems(frame)
            if frame is None:
                return bool(self._due)
            port, kind = self.port_of(frame.header), frame.header.kind
            if port is None or kind == "eof":
                continue
            if kind == "descriptor":
                self._descriptors[port] = frame
            elif kind == "data" and self._array is not None and port not in self._descriptors:
                self._descriptors[port] = descriptor_frame(frame.header.replace(lost=NO_LOSS), self._array)
                self._due.append((port, self._descriptors[port]))
            self._due.append((port, self.adapt(port, frame) if kind == "data" else frame))
        return True

    def _wait_s(self, header: Header) -> float:
        """How long until a frame is due by the time of its first sample; 0 where there is none."""
        at_ns = header.time_ns if header.time_ns is not None else header.host_time_ns
        if self.params.speed == 0 or at_ns is None or header.kind != "data":
            return 0.0
        now_s = time.monotonic()
        if self._origin is None:
            self._origin = now_s, at_ns
        start_s, start_ns = self._origin
        return start_s + (at_ns - start_ns) / 1e9 / self.params.speed - now_s

    def _restamped(self, port: str, frame: Frame) -> Frame:
        header = frame.header
        meta = header.meta
        if header.host_time_ns is not None:
            meta = {**meta, "recorded_host_time_ns": header.host_time_ns}
        header = header.replace(stream=f"{self.name}.{port}", host_time_ns=time.time_ns(), meta=meta)
        if header.array_id is None and self._array is not None:
            header = header.replace(array_id=self._array.array_id)
        return Frame(header, frame.arrays)

    def _repeated_descriptors(self) -> list[tuple[str, Frame]]:
        now_s = time.monotonic()
        if now_s < self._next_descriptor_s:
            return []
        self._next_descriptor_s = now_s + DESCRIPTOR_INTERVAL_S
        return [(port, self._restamped(port, frame)) for port, frame in self._descriptors.items()]

    def _tell_problems(self, before: Frame | None) -> None:
        problems = self.problems()
        for problem in problems[self._n_problems :]:
            header = before.header if before is not None else Header(stream=self.name, seq=0)
            meta = {"event": "recording_problem", "problem": problem}
            event = Frame(header.replace(kind="event", arrays=(), lost=NO_LOSS, meta=meta))
            self._due.append((next(iter(self.outputs)), event))
        self._n_problems = len(problems)


def _after(frames: Iterator[Frame], seq: int) -> Iterator[Frame]:
    """Leave out what was delivered up to number ``seq``, but for the newest description of each array."""
    descriptors: dict[str, Frame] = {}
    reached = False
    for frame in frames:
        header = frame.header
        if header.kind == "descriptor":
            descriptors[header.stream] = frame
        elif header.kind == "data":
            if (reached and header.seq != seq) or header.seq > seq:
                yield from descriptors.values()
                yield frame
                break
            reached |= header.seq == seq
    yield from frames

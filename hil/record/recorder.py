"""A block that writes what comes to a file, while it comes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from hil.block import Block
from hil.errors import RecordingError
from hil.frame import NO_LOSS, Frame, Header
from hil.params import Count, Params
from hil.port import Port
from hil.record.writer import Compression, Existing, RecordingWriter, StreamRefused, open_writer

log = logging.getLogger(__name__)


class RecorderParams(Params, frozen=True):
    path: Annotated[str, Meta(min_length=1, description="File to write: .mcap for any streams, .sigmf-meta for IQ")]
    n_inputs: Annotated[Count, Meta(description="Number of input ports, in0, in1, ...")] = 1
    overwrite: Annotated[bool, Meta(description="Replace a file that exists")] = False
    flush_interval_s: Annotated[
        float,
        Meta(gt=0, le=3600, description="What came so long ago is in the file", extra_json_schema={"unit": "s"}),
    ] = 1.0
    chunk_bytes: Annotated[
        int, Meta(ge=4096, le=1 << 30, description="Write when so much waits", extra_json_schema={"unit": "bytes"})
    ] = 1 << 20
    compression: Annotated[Compression, Meta(description="Of .mcap: none, lz4 or zstd")] = "none"
    sync: Annotated[bool, Meta(description="Flush to the disk itself, to survive a loss of power")] = False


class Recorder(Block):
    """Record every frame of every input in the order in which they come, of all kinds, joined by nothing.

    What came is in the file after at most ``flush_interval_s`` (plus the time that one write takes), so that a
    process that is killed takes no more than that with it. A file that cannot grow any more (a full disk, a quota)
    ends the recording and not the receiver: the output ``events`` then says so, once, what was written stays
    readable, and what comes later is counted as lost. A stream that the format has no place for is left out, which
    ``events`` says once.

    Raises:
        RecordingError: In ``setup``: the file exists, or cannot be made.
    """

    params: RecorderParams
    inputs: ClassVar = {"in0": Port.any()}
    outputs: ClassVar = {"events": Port.any()}
    #: In a process of its own, so that neither waits for the disk nor dies with the blocks that it watches.
    own_worker: ClassVar[bool] = True

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        # Each recorder has as many inputs as it was asked for
        self.inputs = {f"in{i}": Port.any() for i in range(self.params.n_inputs)}  # type: ignore[misc]
        self._writer: RecordingWriter | None = None
        self._resumed = False
        self._failure: str | None = None
        self._untold: deque[Frame] = deque()  # the flushing thread adds to it as well
        self.refused: dict[str, int] = {}
        self._path: Path | None = None
        self._stop: threading.Event | None = None
        self._flusher: threading.Thread | None = None
        self._n_came = self._n_in_other_files = 0
        self.n_frames = self.n_bytes = self.n_lost_before = 0

    def restarted(self) -> None:
        """Go on in the file that the process before left."""
        self._resumed = True

    def setup(self) -> None:
        path = Path(self.params.path)
        if self._failure is not None or (self._writer is not None and path == self._path):
            return
        existing: Existing = "append" if self._resumed else "overwrite" if self.params.overwrite else "refuse"
        try:
            writer = open_writer(
                path, existing, compression=self.params.compression, chunk_bytes=self.params.chunk_bytes
            )
        except RecordingError as error:
            if not self._resumed:
                raise
            self._fail(error)  # a receiver that was running goes on
            return
        self._end()  # of another file
        self._writer, self._path, self._resumed = writer, path, False
        # Made here and not in __init__, as threads and locks do not travel to a worker
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._flusher = threading.Thread(target=self._flush_often, name=f"{self.name} flush", daemon=True)
        self._flusher.start()

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        self.set_up()
        self._n_came += 1
        self.n_lost_before += frame.header.lost.frames
        self.header = frame.header
        writer = self._writer
        if writer is not None:
            with self._lock:
                try:
                    if self._failure is None:
                        writer.write(frame)
                        self._count(writer)
                except StreamRefused as error:
                    self._refuse(frame.header, str(error))
                except (OSError, RecordingError) as error:
                    self._fail(error)
        return self._tell()

    def finish(self) -> list[tuple[str, Frame]]:
        self._end()
        return self._tell()

    def close(self) -> None:
        self._end()

    def stats(self) -> dict[str, Any]:
        writer = self._writer
        since_s = None if writer is None else writer.oldest_unflushed_s
        n_refused = sum(self.refused.values())
        return {
            "path": self.params.path,
            "frames": self.n_frames,
            "bytes": self.n_bytes,
            "lost": self._n_came - n_refused - self.n_frames if self._failure is not None else 0,
            "refused": n_refused,
            "lost_before": self.n_lost_before,
            "unflushed": 0 if writer is None else writer.n_unflushed,
            "unflushed_age_s": 0.0 if since_s is None else time.monotonic() - since_s,
            "stopped": self._failure,
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _flush_often(self) -> None:
        """Flush also while nothing comes. Looks ten times an interval, so that no frame waits much longer."""
        stop, writer = self._stop, self._writer
        assert stop is not None
        assert writer is not None
        synced_s = time.monotonic()
        while not stop.wait(self.params.flush_interval_s / 10):
            with self._lock:
                due_s = time.monotonic() - 0.8 * self.params.flush_interval_s
                since_s = writer.oldest_unflushed_s
                is_due = (since_s is not None and since_s < due_s) or (self.params.sync and synced_s < due_s)
                if self._failure is not None or not is_due:
                    continue
                try:
                    writer.flush(sync=self.params.sync)
                    synced_s = time.monotonic()
                    self._count(writer)
                except OSError as error:
                    self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Stop recording for ``error``. Said in the log at once, in the stream with the next frame."""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self._failure = reason
        log.error("%s: recording to %s stopped: %s", self.name, self.params.path, reason)
        writer, self._writer = self._writer, None
        if writer is None:
            self._say("recording_stopped", reason=reason, frames=0, bytes=0)
            return
        try:
            writer.close(discard=isinstance(error, OSError))
        except OSError as closing:
            log.error("%s: closing %s: %s", self.name, self.params.path, closing)
        self._count(writer)
        self.n_frames -= writer.n_unflushed
        self._say("recording_stopped", reason=reason, frames=self.n_frames, bytes=self.n_bytes)

    def _count(self, writer: RecordingWriter) -> None:
        self.n_frames, self.n_bytes = self._n_in_other_files + writer.n_frames, writer.n_bytes

    def _refuse(self, header: Header, reason: str) -> None:
        """Leave out a stream that the format has no place for; say so once."""
        if header.stream not in self.refused:
            log.warning("%s: %s", self.name, reason)
            self._say("stream_not_recorded", stream=header.stream, reason=reason)
        self.refused[header.stream] = self.refused.get(header.stream, 0) + 1

    def _say(self, event: str, **values: Any) -> None:
        meta = {"event": event, "path": self.params.path, **values}
        changes = {"stream": f"{self.name}.events", "kind": "event", "arrays": (), "lost": NO_LOSS, "meta": meta}
        self._untold.append(Frame(self.header.replace(**changes)))

    def _tell(self) -> list[tuple[str, Frame]]:
        told: list[tuple[str, Frame]] = []
        while self._untold:
            told.append(("events", self._untold.popleft()))
        return told

    def _end(self) -> None:
        if self._stop is not None and self._flusher is not None:
            self._stop.set()
            self._flusher.join()
            self._stop = self._flusher = None
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            self._failure = error.strerror or str(error)
            log.error("%s: the end of %s could not be written: %s", self.name, self.params.path, self._failure)
        self._count(writer)
        self.n_frames -= writer.n_unflushed
        if self._failure is not None:
            self._say("recording_stopped", reason=self._failure, frames=self.n_frames, bytes=self.n_bytes)
        self._n_in_other_files = self.n_frames

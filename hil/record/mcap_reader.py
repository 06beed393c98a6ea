"""Read an MCAP file of frames, also one that was never closed, up to its last whole chunk."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from mcap.records import Channel, Message

from hil.errors import RecordingError, WireError
from hil.frame import Frame
from hil.record.mcap_chunk import chunk_messages, message_of
from hil.record.mcap_format import ENCODING, MAX_RECORD_BYTES
from hil.record.mcap_scan import scan_mcap
from hil.record.packing import unpack_frame
from hil.record.recording import ReadFile, Recording
from hil.wire import DEFAULT_LIMITS, Limits


class McapRecording(Recording):
    """Frames in an MCAP file.

    Raises:
        RecordingError: No MCAP file, or none with frames in it.
    """

    format = "mcap"

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(path, limits)
        self._file = ReadFile(path)
        try:
            self._scan = scan_mcap(self._file, str(path))
            self.closed = self._scan.closed
            for problem in self._scan.problems:
                self._problem(problem)
            self._streams = self._find_streams()
        except RecordingError:
            self.close()
            raise

    def streams(self) -> tuple[str, ...]:
        return self._streams

    def close(self) -> None:
        self._file.close()

    def _find_streams(self) -> tuple[str, ...]:
        """Streams in the last whole chunk, which names all that were known by then."""
        channels = dict(self._scan.channels)
        for index in reversed(self._scan.chunks):
            try:
                for _ in chunk_messages(self._file, index, channels):
                    pass
                break
            except RecordingError as error:
                self._problem(f"damaged: {error}")
        names = [c.topic for _, c in sorted(channels.items()) if c.message_encoding == ENCODING]
        if channels and not names:
            other = next(iter(channels.values()))
            raise RecordingError(
                f"{self.path} holds no frames: channel {other.topic!r} is {other.message_encoding!r}, "
                f"expected {ENCODING!r}"
            )
        return tuple(dict.fromkeys(names))

    def _messages(self) -> Iterator[tuple[Channel, Message]]:
        channels = dict(self._scan.channels)
        for at, length in self._scan.loose:
            if length > MAX_RECORD_BYTES:
                self._problem(f"damaged: a message of {length} bytes, the limit is {MAX_RECORD_BYTES}")
                continue
            try:
                yield message_of(self._file.read(at, length), channels)
            except RecordingError as error:
                self._problem(f"damaged: {error}")
        for index in self._scan.chunks:
            try:
                yield from chunk_messages(self._file, index, channels)
            except RecordingError as error:
                self._problem(f"damaged: {error}")

    def _walk(self, streams: Collection[str] | None) -> Iterator[tuple[int, Frame]]:
        for channel, message in self._messages():
            if channel.message_encoding != ENCODING or (streams is not None and channel.topic not in streams):
                continue
            try:
                frame = unpack_frame(message.data, self.limits)
            except WireError as error:
                self._problem(f"damaged: a message of {channel.topic!r}: {error}")
                continue
            if frame.header.stream != channel.topic:
                self._problem(f"damaged: a message of {channel.topic!r} names stream {frame.header.stream!r}")
                continue
            yield message.log_time, frame

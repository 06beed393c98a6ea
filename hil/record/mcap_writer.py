"""Any streams into one MCAP file, chunk by chunk, readable up to the last whole chunk whenever the writing ends."""

from __future__ import annotations

import logging
import time
import zlib
from collections import Counter
from pathlib import Path

from mcap.data_stream import RecordBuilder
from mcap.records import Channel, Chunk, ChunkIndex, Header, Message, MessageIndex
from mcap.writer import MCAP0_MAGIC as MAGIC

from hil.errors import RecordingError
from hil.frame import Frame
from hil.record.compression import compress
from hil.record.mcap_chunk import chunk_messages
from hil.record.mcap_format import ENCODING, SCHEMA, packed
from hil.record.mcap_scan import scan_mcap
from hil.record.mcap_summary import summary
from hil.record.packing import pack_parts
from hil.record.storage import AppendFile
from hil.record.writer import Compression, Existing, wall_time_ns
from hil.wire import encode

log = logging.getLogger(__name__)


class McapWriter:
    """Writer of an MCAP file with a channel for each stream.

    Every chunk repeats the schema and the channels, so that it can be read without the others.

    Args:
        path: Where.
        existing: What to do with a file that is there. ``append`` goes on behind its last whole chunk.
        compression: Of the chunks.
        chunk_bytes: A chunk is written when it would grow beyond this.

    Raises:
        RecordingError: The file exists, cannot be opened, or is no MCAP file to append to.
    """

    def __init__(
        self,
        path: Path,
        existing: Existing = "refuse",
        *,
        compression: Compression = "none",
        chunk_bytes: int = 1 << 20,
    ) -> None:
        self.n_frames = 0
        self.n_unflushed = 0
        self.oldest_unflushed_s: float | None = None
        self._compression = compression
        self._chunk_bytes = chunk_bytes
        self._content = RecordBuilder()  # of the chunk that is not in the file yet
        self._index: dict[int, MessageIndex] = {}
        self._channels: dict[str, Channel] = {}
        self._next_channel = 1
        self._counts: Counter[int] = Counter()
        self._chunks: list[ChunkIndex] = []
        self._file = AppendFile(path, existing)
        try:
            if self._file.size:
                self._go_on(path)
            else:
                self._file.append([MAGIC, packed(Header(profile="", library="hil-receiver"))])
        except OSError as error:
            self._file.close()
            raise RecordingError(f"cannot record to {path}: {error.strerror}") from error
        except RecordingError:
            self._file.close()
            raise
        self._begin_chunk()

    @property
    def n_bytes(self) -> int:
        return self._file.size

    def write(self, frame: Frame) -> None:
        data = b"".join(pack_parts(encode(frame)))
        if self.n_unflushed and self._content.count + len(data) > self._chunk_bytes:
            self.flush()
        channel = self._channel(frame.header.stream)
        message = Message(
            channel_id=channel,
            sequence=frame.header.seq & 0xFFFFFFFF,
            log_time=wall_time_ns(frame),
            publish_time=max(0, frame.header.time_ns or 0),
            data=data,
        )
        index = self._index.setdefault(channel, MessageIndex(channel, []))
        index.records.append((message.log_time, self._content.count))
        message.write(self._content)
        if not self.n_unflushed:
            self.oldest_unflushed_s = time.monotonic()
        self.n_unflushed += 1
        self.n_frames += 1

    def flush(self, *, sync: bool = False) -> None:
        if self.n_unflushed:
            content = self._content.end()
            try:
                self._write_chunk(content)
            except OSError:
                self._content.write(content)  # it still waits
                raise
            self._begin_chunk()
        if sync:
            self._file.sync()

    def close(self, *, discard: bool = False) -> None:
        try:
            if not discard:
                self.flush()
            self._file.append(summary(self._file.size, self._channels.values(), self._chunks, self._counts))
        except OSError as error:
            if not discard:
                raise
            # Without its index the file is read from the front, so this loses time and no frame
            log.warning("%s: no room for the index either: %s", self._file.path, error.strerror)
        finally:
            self._file.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _begin_chunk(self) -> None:
        self._index = {}
        self.n_unflushed = 0
        self.oldest_unflushed_s = None
        SCHEMA.write(self._content)
        for channel in self._channels.values():
            channel.write(self._content)

    def _channel(self, topic: str) -> int:
        channel = self._channels.get(topic)
        if channel is None:
            if self._next_channel > 0xFFFF:
                raise RecordingError(f"{self._file.path}: MCAP holds 65535 streams, {topic!r} is one more")
            channel = Channel(self._next_channel, topic, ENCODING, metadata={}, schema_id=SCHEMA.id)
            self._channels[topic] = channel
            self._next_channel += 1
            channel.write(self._content)
        return channel.id

    def _write_chunk(self, content: bytes) -> None:
        times_ns = [time_ns for index in self._index.values() for time_ns, _ in index.records]
        chunk = Chunk(
            compression="" if self._compression == "none" else self._compression,
            data=compress(content, self._compression),
            message_start_time=min(times_ns),
            message_end_time=max(times_ns),
            uncompressed_crc=zlib.crc32(content),
            uncompressed_size=len(content),
        )
        start, record, behind = self._file.size, packed(chunk), RecordBuilder()
        offsets = {}
        for channel, index in self._index.items():
            offsets[channel] = start + len(record) + behind.count
            index.write(behind)
        indexed = ChunkIndex(
            chunk_start_offset=start,
            chunk_length=len(record),
            compression=chunk.compression,
            compressed_size=len(chunk.data),
            uncompressed_size=chunk.uncompressed_size,
            message_start_time=chunk.message_start_time,
            message_end_time=chunk.message_end_time,
            message_index_offsets=offsets,
            message_index_length=behind.count,
        )
        self._file.append([record, behind.end()])
        self._chunks.append(indexed)
        self._counts.update({channel: len(index.records) for channel, index in self._index.items()})

    def _go_on(self, path: Path) -> None:
        """Cut off what is not whole and what closing had added, and learn which channels there are."""
        scan = scan_mcap(self._file, str(path))
        channels = dict(scan.channels)
        for index in reversed(scan.chunks):  # every chunk repeats the channels, so the last good one has them all
            try:
                for _ in chunk_messages(self._file, index, channels):
                    pass
                break
            except RecordingError as error:
                log.warning("%s: %s", path, error)
        foreign = [channel.topic for channel in channels.values() if channel.message_encoding != ENCODING]
        if foreign:
            raise RecordingError(f"{path} was not written by a recorder (channel {foreign[0]!r}): choose another path")
        self._channels = {channel.topic: channel for channel in channels.values()}
        self._next_channel = max([*channels, *scan.counts, 0]) + 1
        self._counts, self._chunks = scan.counts, scan.chunks
        self._file.truncate(scan.good_end)

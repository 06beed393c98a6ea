"""Any streams into one MCAP file, chunk by chunk, readable up to the last whole chunk whenever the writing ends."""

from __future__ import annotations

import logging
import struct
import time
import zlib
from collections import Counter
from pathlib import Path

from hil.errors import RecordingError
from hil.frame import Frame
from hil.record import mcap_format as mcap
from hil.record.compression import Compression, compress
from hil.record.mcap_chunk import chunk_messages
from hil.record.mcap_format import ChannelInfo, ChunkInfo, IndexedChunk
from hil.record.mcap_scan import scan_mcap
from hil.record.packing import DESCRIPTION, pack_parts
from hil.record.storage import AppendFile
from hil.record.writer import Existing, wall_time_ns
from hil.wire import encode

log = logging.getLogger(__name__)

SCHEMA_ID = 1
_SCHEMA = mcap.schema_record(SCHEMA_ID, mcap.ENCODING, DESCRIPTION.encode())


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
        compress(b"", compression)  # refuse a missing package before a file is made
        self._at = self._first_ns = self._last_ns = 0
        self._index: dict[int, list[tuple[int, int]]] = {}
        self._channels: dict[str, int] = {}
        self._next_channel = 1
        self._counts: Counter[int] = Counter()
        self._indexed: list[IndexedChunk] = []
        self._buffer = bytearray(max(chunk_bytes, 4096))
        self._view = memoryview(self._buffer)
        self._file = AppendFile(path, existing)
        try:
            if self._file.size:
                self._go_on(path)
            else:
                head = mcap.record(mcap.HEADER, mcap.text("") + mcap.text("hil-receiver"))
                self._file.append([mcap.MAGIC, head])
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
        pieces = pack_parts(encode(frame))
        n_bytes = mcap.MESSAGE_HEAD.size + sum(memoryview(p).nbytes for p in pieces)
        channel = self._channel(frame.header.stream)
        if self._at + n_bytes > len(self._buffer):
            if self.n_unflushed:
                self.flush()
            self._reserve(self._at + n_bytes)
        time_ns = wall_time_ns(frame)
        self._index.setdefault(channel, []).append((time_ns, self._at))
        self._first_ns = min(self._first_ns, time_ns)
        self._last_ns = max(self._last_ns, time_ns)
        own_ns = max(0, frame.header.time_ns or 0)
        content = n_bytes - mcap.RECORD_HEAD.size
        sequence = frame.header.seq & 0xFFFFFFFF
        self._put(mcap.MESSAGE_HEAD.pack(mcap.MESSAGE, content, channel, sequence, time_ns, own_ns))
        for piece in pieces:
            self._put(piece)
        if not self.n_unflushed:
            self.oldest_unflushed_s = time.monotonic()
        self.n_unflushed += 1
        self.n_frames += 1

    def flush(self, *, sync: bool = False) -> None:
        if self.n_unflushed:
            content = self._view[: self._at]
            packed = memoryview(compress(content, self._compression))
            name = "" if self._compression == "none" else self._compression
            fields = mcap.CHUNK_FIELDS.pack(self._first_ns, self._last_ns, self._at, zlib.crc32(content))
            fields += mcap.text(name) + struct.pack("<Q", packed.nbytes)
            start = self._file.size
            length = mcap.RECORD_HEAD.size + len(fields) + packed.nbytes
            head = mcap.RECORD_HEAD.pack(mcap.CHUNK, length - mcap.RECORD_HEAD.size) + fields
            offsets, index = {}, []
            at = start + length
            for channel, entries in self._index.items():
                offsets[channel] = at
                index.append(mcap.message_index_record(channel, entries))
                at += len(index[-1])
            self._file.append([head, packed, *index])
            data = (start + len(head), packed.nbytes, name, self._at, 0, self._first_ns, self._last_ns)
            self._indexed.append(IndexedChunk(ChunkInfo(start, length, *data), offsets, at - start - length))
            self._counts.update({channel: len(entries) for channel, entries in self._index.items()})
            self._begin_chunk()
        if sync:
            self._file.sync()

    def close(self, *, discard: bool = False) -> None:
        try:
            if not discard:
                self.flush()
            self._file.append(self._summary())
        except OSError as error:
            if not discard:
                raise
            # Without its index the file is read from the front, so this loses time and no frame
            log.warning("%s: no room for the index either: %s", self._file.path, error.strerror)
        finally:
            self._file.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _begin_chunk(self) -> None:
        self._at = 0
        self._index = {}
        self._first_ns, self._last_ns = (1 << 64) - 1, 0
        self.n_unflushed = 0
        self.oldest_unflushed_s = None
        self._put(_SCHEMA)
        for topic, channel in self._channels.items():
            self._put(mcap.channel_record(channel, SCHEMA_ID, topic))

    def _channel(self, topic: str) -> int:
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._next_channel
            if channel > 0xFFFF:
                raise RecordingError(f"{self._file.path}: MCAP holds 65535 streams, {topic!r} is one more")
            self._channels[topic] = channel
            self._next_channel += 1
            self._put(mcap.channel_record(channel, SCHEMA_ID, topic))
        return channel

    def _put(self, piece: bytes | memoryview) -> None:
        end = self._at + memoryview(piece).nbytes
        self._reserve(end)
        self._view[self._at : end] = piece
        self._at = end

    def _reserve(self, size: int) -> None:
        if size > len(self._buffer):
            old = self._view[: self._at]
            self._buffer = bytearray(size)
            self._buffer[: self._at] = old
            self._view = memoryview(self._buffer)

    def _summary(self) -> list[bytes]:
        """Records behind the data: with them a reader finds a time without reading all."""
        data_end = mcap.record(mcap.DATA_END, struct.pack("<I", 0))
        chunks = [indexed.chunk for indexed in self._indexed]
        first_ns = min((c.first_ns for c in chunks), default=0)
        last_ns = max((c.last_ns for c in chunks), default=0)
        records = [_SCHEMA]
        records += [mcap.channel_record(channel, SCHEMA_ID, topic) for topic, channel in self._channels.items()]
        records.append(mcap.statistics_record(1, len(chunks), first_ns, last_ns, self._counts))
        records += [mcap.chunk_index_record(indexed) for indexed in self._indexed]
        footer = struct.pack("<QQ", self._file.size + len(data_end), 0)
        footer_head = mcap.RECORD_HEAD.pack(mcap.FOOTER, len(footer) + 4) + footer
        crc = zlib.crc32(footer_head, zlib.crc32(b"".join(records)))
        return [data_end, *records, footer_head, struct.pack("<I", crc), mcap.MAGIC]

    def _go_on(self, path: Path) -> None:
        """Cut off what is not whole and what closing had added, and learn which channels there are."""
        scan = scan_mcap(self._file, str(path))
        channels: dict[int, ChannelInfo] = dict(scan.channels)
        for indexed in reversed(scan.chunks):  # every chunk repeats the channels, so the last good one has them all
            try:
                for _ in chunk_messages(self._file, indexed.chunk, channels):
                    pass
                break
            except RecordingError as error:
                log.warning("%s: %s", path, error)
        foreign = [channel.topic for channel in channels.values() if channel.encoding != mcap.ENCODING]
        if foreign:
            raise RecordingError(f"{path} was not written by a recorder (channel {foreign[0]!r}): choose another path")
        self._channels = {channel.topic: number for number, channel in channels.items()}
        self._next_channel = max([*channels, *scan.counts, 0]) + 1
        self._counts, self._indexed = scan.counts, scan.chunks
        self._file.truncate(scan.good_end)

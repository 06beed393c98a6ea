"""What closes an MCAP file: with it a reader finds a time without reading all."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence

from mcap.records import Channel, ChunkIndex, DataEnd, Footer, Statistics
from mcap.writer import MCAP0_MAGIC as MAGIC

from hil.record.mcap_format import SCHEMA, packed


def summary(
    at: int, channels: Collection[Channel], chunks: Sequence[ChunkIndex], counts: Mapping[int, int]
) -> list[bytes]:
    """The end of a file.

    Args:
        at: Where it begins: behind the last chunk and its index.
        channels: All.
        chunks: All, in the order of the file.
        counts: Messages of each channel, by its number.
    """
    statistics = Statistics(
        message_count=sum(counts.values()),
        schema_count=1,
        channel_count=len(counts),
        attachment_count=0,
        metadata_count=0,
        chunk_count=len(chunks),
        message_start_time=min((c.message_start_time for c in chunks), default=0),
        message_end_time=max((c.message_end_time for c in chunks), default=0),
        channel_message_counts=dict(counts),
    )
    data_end = packed(DataEnd(data_section_crc=0))
    records = packed(SCHEMA, *channels, statistics, *chunks)
    footer = Footer(summary_start=at + len(data_end), summary_offset_start=0, summary_crc=0)
    # The checksum is of all that stands before it, its own 4 bytes excepted
    footer.summary_crc = zlib.crc32(packed(footer)[:-4], zlib.crc32(records))
    return [data_end, records, packed(footer), MAGIC]

"""Files of the T tracer: what its ``record`` tool writes, and giving such a file to clients as if it were live."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hil.errors import RecordingError, WireError
from hil.formats.t_tracer import TEXT, TEXT_END, Record, encode_record, split_records, wanted_bytes

_READ = 1 << 20


def open_to_write(path: str) -> BinaryIO:
    """Open a new file.

    Raises:
        RecordingError: It cannot be written.
    """
    try:
        return Path(path).open("wb")
    except OSError as error:
        raise RecordingError(f"record_to: {path} cannot be written: {error.strerror}; give another path") from error


def greeting_of(path: str) -> bytes:
    """The records with the text at the start of a file.

    Raises:
        RecordingError: It cannot be read, or has none.
    """
    out = b""
    for record in records_of(path):
        if record.type not in (TEXT, TEXT_END):
            break
        out += encode_record(record.type, bytes(record.payload), record.time_ns)
        if record.type == TEXT_END:
            return out
    raise RecordingError(f"replay_from: {path} does not begin with the text of T_messages; is it a record file?")


def records_of(path: str) -> Iterator[Record]:
    """All records of a file; a cut one at the end is left out.

    Raises:
        RecordingError: It cannot be read, or is none.
    """
    try:
        with Path(path).open("rb") as file:
            data = b""
            while more := file.read(max(_READ, wanted_bytes(memoryview(data)) - len(data))):
                data += more
                records, taken = split_records(memoryview(data))
                yield from records
                data = data[taken:]
    except OSError as error:
        raise RecordingError(f"replay_from: {path} cannot be read: {error.strerror}") from error
    except (WireError, struct.error) as error:
        raise RecordingError(f"replay_from: {path}: {error}") from error

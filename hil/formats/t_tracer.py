"""The event stream of OpenAirInterface's T tracer, on TCP and in the files that its ``record`` tool writes.

Little-endian. A record is ``int32 length`` (of what follows), ``int64 s``, ``int64 ns`` (UTC of the base station's host
when it logged the event), ``int32 type`` and the event's arguments: ``int`` 4 bytes, ``ulong`` and ``double`` 8,
``float`` 4, ``string`` ended by a zero byte, ``buffer`` an ``int32`` length and so many bytes. Types are numbered by
the order of the ``ID =`` lines in the base station's ``T_messages.txt``, which it sends at the start in records of
type -1, then one of type -2. A client turns events on with a byte 1, an ``int32`` count and so many ``int32`` of 0 or
1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hil.errors import WireError

#: Where a base station listens.
PORT = 2021
#: Type of the records with the text of T_messages.txt, and of the one after it.
TEXT, TEXT_END = -1, -2
#: Longest record and longest text that is believed.
MAX_RECORD, MAX_TEXT, MAX_EVENTS = 1 << 26, 1 << 24, 1 << 16
#: Bytes of text in one record of type -1.
_TEXT_CHUNK = 8000

_HEADER = struct.Struct("<iqqi")
_LENGTH = struct.Struct("<i")
_AFTER_LENGTH = _HEADER.size - _LENGTH.size
_NUMBERS = {"int": "i", "uint": "I", "ulong": "Q", "float": "f", "double": "d"}
_NS_PER_S = 1_000_000_000


class Record(NamedTuple):
    """One record; ``payload`` is a view of memory that belongs to whoever gave the bytes."""

    time_ns: int
    type: int
    payload: memoryview


class EventFormat(NamedTuple):
    """What one event carries, from its ``FORMAT`` line.

    Attributes:
        number: Its type in the stream.
        fields: ``(type, name)`` in order.
        leading: Layout of the numbers before the first string or buffer, and how many they are.
    """

    number: int
    name: str
    fields: tuple[tuple[str, str], ...]
    leading: struct.Struct
    n_leading: int


def parse_messages(text: str) -> dict[str, EventFormat]:
    """Events by name, as ``T_messages.txt`` defines them.

    Raises:
        WireError: No events, one twice, or a ``FORMAT`` line of unknown types.
    """
    formats: dict[str, EventFormat] = {}
    name = ""
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "ID":
            name = value
            if name in formats or not name:
                raise WireError(f"T_messages: event {name!r} is named twice or not at all")
            formats[name] = _event_format(len(formats), name, ())
        elif key == "FORMAT" and name:
            pairs = [part.split(",") for part in value.split(":") if part.strip()]
            if any(len(pair) != 2 for pair in pairs):
                raise WireError(f"T_messages: event {name}: expected FORMAT = type,name : ..., got {value!r}")
            fields = tuple((kind.strip(), field.strip()) for kind, field in pairs)
            formats[name] = _event_format(formats[name].number, name, fields)
    if not formats or len(formats) > MAX_EVENTS:
        raise WireError(f"T_messages: {len(formats)} events in a text of {len(text)} characters")
    return formats


def _event_format(number: int, name: str, fields: tuple[tuple[str, str], ...]) -> EventFormat:
    unknown = [kind for kind, _ in fields if kind not in (*_NUMBERS, "string", "buffer")]
    if unknown:
        raise WireError(f"T_messages: event {name}: no type {unknown[0]!r}, only {', '.join(_NUMBERS)}, string, buffer")
    codes = ""
    for kind, _ in fields:
        if kind not in _NUMBERS:
            break
        codes += _NUMBERS[kind]
    return EventFormat(number, name, fields, struct.Struct("<" + codes), len(codes))


def decode_event(event: EventFormat, payload: memoryview) -> dict[str, Any]:
    """Arguments by name; buffers are views of ``payload``.

    Raises:
        WireError: The payload is shorter or longer than its format.
    """
    try:
        names = [name for _, name in event.fields]
        values: dict[str, Any] = dict(zip(names, event.leading.unpack_from(payload), strict=False))
        at = event.leading.size
        for kind, name in event.fields[event.n_leading :]:
            if kind == "buffer":
                (length,) = _LENGTH.unpack_from(payload, at)
                at += _LENGTH.size
                if not 0 <= length <= len(payload) - at:
                    raise WireError(f"{event.name}: buffer {name!r} of {length} bytes, {len(payload) - at} are there")
                values[name] = payload[at : at + length]
                at += length
            elif kind == "string":
                end = bytes(payload[at:]).find(b"\0")
                if end < 0:
                    raise WireError(f"{event.name}: string {name!r} does not end")
                values[name] = bytes(payload[at : at + end]).decode(errors="replace")
                at += end + 1
            else:
                number = struct.Struct("<" + _NUMBERS[kind])
                (values[name],) = number.unpack_from(payload, at)
                at += number.size
    except struct.error as error:
        raise WireError(f"{event.name}: {len(payload)} bytes are too few for {len(event.fields)} arguments") from error
    if at != len(payload):
        raise WireError(f"{event.name}: {len(payload)} bytes came, its arguments take {at}")
    return values


def buffer_reader(
    event: EventFormat, names: Sequence[str], absent: int
) -> Callable[[memoryview], tuple[tuple[int, ...], memoryview]]:
    """A function that reads the numbers ``names`` and the buffer of an event.

    It does what :func:`decode_event` does, in a third of the time where the event is numbers and then one buffer.

    Args:
        event: It has one buffer.
        names: Of the numbers; of those that the event has not, the value is ``absent``.
        absent: ...

    Raises:
        WireError: The event has no buffer, or several.
    """
    given = [name for _, name in event.fields]
    buffers = [name for kind, name in event.fields if kind == "buffer"]
    if len(buffers) != 1:
        raise WireError(f"{event.name}: expected one buffer, it has {event.fields}")
    if event.n_leading != len(given) - 1 or given[-1] != buffers[0]:

        def read_all(payload: memoryview) -> tuple[tuple[int, ...], memoryview]:
            all_values = decode_event(event, payload)
            return tuple([all_values.get(name, absent) for name in names]), all_values[buffers[0]]

        return read_all
    leading = struct.Struct(event.leading.format + "i")
    size = leading.size
    at = [given.index(name) if name in given[:-1] else event.n_leading + 1 for name in names]

    def read(payload: memoryview) -> tuple[tuple[int, ...], memoryview]:
        try:
            values = (*leading.unpack_from(payload), absent)
        except struct.error as error:
            raise WireError(f"{event.name}: {len(payload)} bytes are too few for {len(given)} arguments") from error
        if values[-2] != len(payload) - size:
            raise WireError(f"{event.name}: buffer of {values[-2]} bytes, {len(payload) - size} are there")
        return tuple([values[i] for i in at]), payload[size:]

    return read


def encode_event(event: EventFormat, values: Mapping[str, Any], time_ns: int) -> bytes:
    """One record of ``event``."""
    parts: list[bytes] = []
    for kind, name in event.fields:
        value = values[name]
        if kind == "buffer":
            parts += [_LENGTH.pack(len(value)), bytes(value)]
        elif kind == "string":
            parts.append(str(value).encode() + b"\0")
        else:
            parts.append(struct.pack("<" + _NUMBERS[kind], value))
    return encode_record(event.number, b"".join(parts), time_ns)


def encode_record(type: int, payload: bytes, time_ns: int) -> bytes:
    """One record."""
    seconds, ns = divmod(time_ns, _NS_PER_S)
    return _HEADER.pack(_AFTER_LENGTH + len(payload), seconds, ns, type) + payload


def encode_text(text: str, time_ns: int) -> bytes:
    """The records with which a stream begins: the text in chunks, and the end."""
    data = text.encode()
    chunks = [data[i : i + _TEXT_CHUNK] for i in range(0, len(data), _TEXT_CHUNK)]
    records = [encode_record(TEXT, _LENGTH.pack(len(chunk)) + chunk, time_ns) for chunk in chunks]
    return b"".join([*records, encode_record(TEXT_END, b"", time_ns)])


def text_chunk(payload: memoryview) -> bytes:
    """The text in a record of type -1.

    Raises:
        WireError: Its length is not that of the record.
    """
    if len(payload) < _LENGTH.size or _LENGTH.unpack_from(payload)[0] != len(payload) - _LENGTH.size:
        raise WireError(f"T_messages: a chunk of {len(payload)} bytes says another length")
    return bytes(payload[_LENGTH.size :])


def split_records(data: memoryview) -> tuple[list[Record], int]:
    """Whole records at the start of ``data``, and how many bytes they take; the rest waits for more.

    Raises:
        WireError: A length that no record has: the stream is not one, or its place was lost.
    """
    records: list[Record] = []
    at, end = 0, len(data)
    while end - at >= _HEADER.size:
        length, seconds, ns, kind = _HEADER.unpack_from(data, at)
        if not _AFTER_LENGTH <= length <= MAX_RECORD:
            raise WireError(f"T tracer: a record of {length} bytes; expected {_AFTER_LENGTH} to {MAX_RECORD}")
        after = at + _LENGTH.size + length
        if after > end:
            break
        records.append(Record(seconds * _NS_PER_S + ns, kind, data[at + _HEADER.size : after]))
        at = after
    return records, at


def wanted_bytes(data: memoryview) -> int:
    """Bytes that the record at the start of ``data`` takes in all, as far as they tell; 0 where they do not."""
    return _LENGTH.size + int(_LENGTH.unpack_from(data)[0]) if len(data) >= _LENGTH.size else 0


def encode_enable(n_events: int, enabled: Collection[int]) -> bytes:
    """What a client sends: which of ``n_events`` events it wants."""
    return struct.pack(f"<bi{n_events}i", 1, n_events, *(int(i in enabled) for i in range(n_events)))


def read_enable(receive: Callable[[int], bytes]) -> Iterator[frozenset[int]]:
    """What a client wants, each time it says so.

    Args:
        receive: Returns exactly so many bytes.

    Raises:
        WireError: It sent something else.
    """
    while True:
        command = receive(1)[0]
        if command != 1:
            raise WireError(f"T tracer: a client sent command {command}, expected 1 (set the events that are on)")
        (n,) = _LENGTH.unpack(receive(_LENGTH.size))
        if not 0 <= n <= MAX_EVENTS:
            raise WireError(f"T tracer: a client names {n} events")
        flags = struct.unpack(f"<{n}i", receive(4 * n)) if n else ()
        yield frozenset(i for i, flag in enumerate(flags) if flag)

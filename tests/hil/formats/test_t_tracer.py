"""The T tracer's records: bytes written out by hand, both ways, in pieces, and mutated."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import WireError
from hil.formats.t_tracer import (
    TEXT,
    TEXT_END,
    EventFormat,
    buffer_reader,
    decode_event,
    encode_enable,
    encode_event,
    encode_record,
    encode_text,
    parse_messages,
    read_enable,
    split_records,
    text_chunk,
)

TEXT_OF_THREE = """\
# a comment
ID = FIRST
    DESC = has = and : in its description
    GROUP = ALL:PHY
    FORMAT = int,a : int,b
ID = LOG
    DESC = text
    GROUP = ALL
    FORMAT = string,log : ulong,n : float,x
ID = DATA
    DESC = samples
    GROUP = ALL:HEAVY
    FORMAT = int,rnti : buffer,iq : int,after
"""


def test_events_are_numbered_by_the_order_of_their_ids() -> None:
    formats = parse_messages(TEXT_OF_THREE)
    assert {name: f.number for name, f in formats.items()} == {"FIRST": 0, "LOG": 1, "DATA": 2}
    assert formats["DATA"].fields == (("int", "rnti"), ("buffer", "iq"), ("int", "after"))


def test_a_record_is_the_bytes_of_its_description() -> None:
    formats = parse_messages(TEXT_OF_THREE)
    record = encode_event(formats["DATA"], {"rnti": 0x4601, "iq": b"\1\2\3", "after": -5}, 7_000_000_009)
    arguments = bytes.fromhex("01460000 03000000 010203 fbffffff")
    header = struct.pack("<i", 8 + 8 + 4 + len(arguments)) + struct.pack("<qq", 7, 9) + struct.pack("<i", 2)
    assert record == header + arguments


def test_every_kind_of_argument_comes_back() -> None:
    formats = parse_messages(TEXT_OF_THREE)
    values = {"log": "grün", "n": 2**63, "x": 0.5}
    ((record,), taken) = split_records(memoryview(encode_event(formats["LOG"], values, 1)))
    assert decode_event(formats["LOG"], record.payload) == values
    assert taken == 4 + 8 + 8 + 4 + 6 + 8 + 4


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=50)), max_size=8), st.data())
def test_a_stream_is_split_wherever_it_is_cut(records: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(encode_record(kind, payload, 5) for kind, payload in records)
    cut = data.draw(st.integers(0, len(stream)))
    first, taken = split_records(memoryview(stream)[:cut])
    rest, taken_rest = split_records(memoryview(stream)[taken:])
    assert [(r.type, bytes(r.payload)) for r in [*first, *rest]] == records
    assert taken + taken_rest == len(stream)


def test_the_text_travels_in_chunks() -> None:
    text = TEXT_OF_THREE * 300
    records, _ = split_records(memoryview(encode_text(text, 3)))
    assert [r.type for r in records] == [TEXT] * (len(records) - 1) + [TEXT_END]
    assert len(records) > 2
    assert b"".join(text_chunk(r.payload) for r in records[:-1]).decode() == text


def test_a_client_says_which_events_it_wants() -> None:
    sent = encode_enable(4, {1, 3})
    assert sent == bytes.fromhex("01 04000000 00000000 01000000 00000000 01000000")
    stream = iter([*(sent + encode_enable(4, ()))])
    wants = read_enable(lambda n: bytes(next(stream) for _ in range(n)))
    assert [next(wants), next(wants)] == [{1, 3}, frozenset()]


@pytest.mark.parametrize(
    ("payload", "match"),
    [
        (b"\1\0\0\0", "too few"),
        (b"\1\0\0\0\5\0\0\0abc", "buffer 'iq' of 5 bytes, 3 are there"),
        (b"\1\0\0\0\xff\xff\xff\xff", "buffer 'iq' of -1 bytes"),
        (b"\1\0\0\0\0\0\0\0\0\0\0\0x", "13 bytes came, its arguments take 12"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(payload: bytes, match: str) -> None:
    with pytest.raises(WireError, match=match):
        decode_event(parse_messages(TEXT_OF_THREE)["DATA"], memoryview(payload))


@pytest.mark.parametrize("after", ["", " : int,after"])
def test_the_numbers_and_the_buffer_are_read_as_all_arguments_are(after: str) -> None:
    event = parse_messages(f"ID = E\nFORMAT = int,a : ulong,b : int,c : buffer,iq{after}")["E"]
    values = {"a": -1, "b": 1 << 40, "c": 7, "iq": b"\1\2\3", "after": 9}
    payload = memoryview(encode_event(event, values, 0))[24:]
    read = buffer_reader(event, ("c", "none", "b"), absent=-2)
    assert read(payload) == ((7, -2, 1 << 40), b"\1\2\3")
    for wrong in (payload[:-1], payload[:9], memoryview(bytes(payload) + b"x")):
        with pytest.raises(WireError):
            read(wrong)
    with pytest.raises(WireError, match="one buffer"):
        buffer_reader(parse_messages("ID = E\nFORMAT = int,a")["E"], ("a",), absent=0)


def test_a_length_that_no_record_has_is_refused() -> None:
    for length in (-1, 19, 1 << 30):
        with pytest.raises(WireError, match="expected 20 to"):
            split_records(memoryview(struct.pack("<i", length) + bytes(40)))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "0 events"),
        ("ID = A\nID = A\n", "named twice"),
        ("ID = A\n FORMAT = long,a\n", "no type 'long'"),
        ("ID = A\n FORMAT = int a\n", "expected FORMAT"),
    ],
)
def test_a_text_that_defines_nothing_clear_is_refused(text: str, match: str) -> None:
    with pytest.raises(WireError, match=match):
        parse_messages(text)


def test_mutated_streams_are_refused_or_read() -> None:
    """10,000 of them: an error of ours, or records; never another exception, nor more records than bytes allow."""
    rng = random.Random(5)
    formats = parse_messages(TEXT_OF_THREE)
    by_number: dict[int, EventFormat] = {f.number: f for f in formats.values()}
    good = (
        encode_text(TEXT_OF_THREE, 1)
        + encode_event(formats["DATA"], {"rnti": 1, "iq": bytes(range(60)), "after": 2}, 1)
        + encode_event(formats["LOG"], {"log": "text", "n": 1, "x": 2.0}, 1)
    )
    n_refused = n_read = 0
    for _ in range(10_000):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        view = memoryview(bad)[: rng.randint(0, len(bad))]
        try:
            records, taken = split_records(view)
            assert taken <= len(view) and len(records) <= len(view) // 24
            for record in records:
                if record.type == TEXT:
                    parse_messages(text_chunk(record.payload).decode(errors="replace"))
                elif record.type in by_number:
                    decode_event(by_number[record.type], record.payload)
            n_read += 1
        except WireError:
            n_refused += 1
    assert n_refused > 1000 and n_read > 1000

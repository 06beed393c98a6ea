"""The wire codec: golden bytes by another route, round trips, refusals, mutated frames."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import hypothesis.extra.numpy as npst
import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import WireError
from hil.frame import CALIBRATION_STATES, KINDS, TIMEBASES, Frame, Header, Loss
from hil.wire import DATATYPES, Limits, decode, decode_header, encode, encode_header
from tests.vectors import make_frame_v1

ROOT = Path(__file__).parents[2]
HEX = ROOT / "tests" / "vectors" / "frame_v1.hex"

IQ = np.array([[1 - 0.5j, 0.25, -1 + 0.125j], [2j, 3 - 4j, 0.5 + 0.5j]], np.complex64)
FULL = Header(
    "sim.iq",
    70000,
    epoch=3,
    sample_start=5_000_000_000,
    sample_rate_hz=1e6,
    frequency_hz=5e9,
    time_ns=1_700_000_000_000_000_001,
    timebase="utc",
    host_time_ns=1_700_000_000_000_400_000,
    array_id="ula64",
    calibration_id="cal-1",
    calibration="stale",
    lost=Loss(1, 200, 3),
    meta={"gain_db": 30.5, "note": "é", "flags": (True, None, -7)},
)
GOLDEN = {
    "full": Frame.of(FULL, iq=(IQ, "sensor snapshot", "FS"), count=(np.array(-2), "", "")),
    "sparse": Frame.of(
        Header("a", 0),
        mask=(np.array([True, False, True]), "source", ""),
        none=(np.zeros((0, 3)), "source xyz", "m"),
    ),
    "event": Frame(Header("sim.iq", 9, "event", 1, time_ns=-5, timebase="device", meta={"event": "gap"})),
    "eof": Frame(Header("sim.iq", 10, "eof", 1)),
}


def bytes_of(parts):
    return [bytes(memoryview(part)) for part in parts]


def golden_parts() -> dict[str, list[bytes]]:
    rows = [line.split() for line in HEX.read_text().splitlines()]
    return {name: [b"" if part == "-" else bytes.fromhex(part) for part in parts] for name, *parts in rows}


def same(a: Frame, b: Frame) -> bool:
    # by bytes: what is no number is equal to itself here, in an array of no axis too
    parts = [(one.dtype, one.shape, one.tobytes()) for frame in (a, b) for one in (frame[n] for n in a.arrays)]
    half = len(parts) // 2
    return a.header == b.header and list(a.arrays) == list(b.arrays) and parts[:half] == parts[half:]


# -- golden bytes ------------------------------------------------------------------------------------------------------


def test_frozen_file_is_what_its_script_makes():
    assert golden_parts() == make_frame_v1.frames()


@pytest.mark.parametrize("name", GOLDEN)
def test_version_1_bytes(name):
    assert bytes_of(encode(GOLDEN[name])) == golden_parts()[name]
    assert bytes_of(encode(GOLDEN[name])) == golden_parts()[name], "and again, from the remembered arrays"


@pytest.mark.parametrize("name", GOLDEN)
def test_version_1_is_read(name):
    for _ in range(2):  # the second time from the remembered arrays
        assert same(decode(golden_parts()[name]), GOLDEN[name])


def test_header_is_what_msgpack_reads():
    fields = msgpack.unpackb(encode(GOLDEN["full"])[1])
    assert fields["arrays"][0] == {
        "name": "iq",
        "core:datatype": "cf32_le",
        "shape": [2, 3],
        "axes": ["sensor", "snapshot"],
        "unit": "FS",
    }
    assert list(fields)[-1] == "arrays"
    assert "sample_start" not in msgpack.unpackb(encode(GOLDEN["eof"])[1])


# -- round trip --------------------------------------------------------------------------------------------------------

names = st.text(min_size=1, max_size=20).filter(lambda s: s.encode("utf-8", "ignore").decode() == s)
counts = st.integers(0, (1 << 63) - 1)
times = st.integers(-(1 << 63), (1 << 63) - 1)
rates = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | names,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def frames(draw) -> Frame:
    def maybe(strategy):
        return draw(st.none() | strategy)

    time_ns = maybe(times)
    header = Header(
        draw(names),
        draw(counts),
        draw(st.sampled_from(KINDS)),
        draw(counts),
        maybe(counts),
        maybe(rates),
        maybe(rates),
        time_ns,
        None if time_ns is None else draw(st.sampled_from(TIMEBASES)),
        maybe(times),
        maybe(names),
        maybe(names),
        draw(st.sampled_from(CALIBRATION_STATES)),
        Loss(draw(counts), draw(counts), draw(counts)),
        meta=draw(st.dictionaries(names, plain, max_size=3)),
    )
    arrays = {}
    for name in draw(st.lists(names, max_size=3, unique=True)):
        shape = draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
        array = draw(npst.arrays(draw(st.sampled_from(list(DATATYPES))), shape))
        axes = tuple(draw(names) for _ in shape)
        arrays[name] = (array, axes)
    made = Frame.of(header, **{n: (a, " ".join("x" for _ in axes), "") for n, (a, axes) in arrays.items()})
    specs = tuple(
        s._replace(axes=axes, unit=unit)
        for s, (_, axes), unit in zip(made.header.arrays, arrays.values(), ["", "m", "FS"], strict=False)
    )
    return Frame(made.header.replace(arrays=specs), made.arrays)


@given(frames())
def test_round_trip(frame):
    parts = bytes_of(encode(frame))
    assert same(decode(parts), frame)
    assert same(decode(parts), frame), "the second time from the remembered arrays"
    assert parts[1] == msgpack.packb(msgpack.unpackb(parts[1], strict_map_key=False)), "canonical MessagePack"


def test_arrays_of_any_memory_order_travel_in_c_order():
    for array in (IQ.T, IQ[:, ::-1], np.asfortranarray(IQ), IQ[0, ::2], IQ[:, 1:2]):
        frame = Frame.of(Header("a", 0), iq=(array, "a b"[: 2 * array.ndim - 1], ""))
        assert np.array_equal(decode(bytes_of(encode(frame)))["iq"], array)


def test_encoding_copies_nothing_and_decoding_gives_read_only_views():
    frame = Frame.of(Header("a", 0), iq=(IQ, "sensor snapshot", "FS"))
    parts = encode(frame)
    assert np.shares_memory(parts[2], IQ)
    came = decode([parts[0], parts[1], bytearray(bytes(parts[2]))])
    assert not came["iq"].flags.writeable
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        came["iq"].flags.writeable = True
    payload = bytearray(IQ.tobytes())
    assert np.shares_memory(decode([parts[0], parts[1], payload])["iq"], np.frombuffer(payload, np.uint8))


def test_array_called_arrays_is_not_taken_for_the_arrays():
    header = Header("arrays", 3, array_id="arrays", meta={"arrays": "arrays", "x": ("arrays",)})
    for _ in range(3):
        for shape in ((2,), (3,)):
            frame = Frame.of(header, arrays=(np.zeros(shape), "arrays", "arrays"))
            assert same(decode(bytes_of(encode(frame))), frame)


# -- refusals ----------------------------------------------------------------------------------------------------------


def parts_with(**changes):
    fields = msgpack.unpackb(bytes(encode(GOLDEN["full"])[1]))
    for key, value in changes.items():
        key = key.replace("core_", "core:")
        if value is ...:
            del fields[key]
        else:
            fields[key] = value
    return [b"sim.iq", msgpack.packb(fields), IQ.tobytes(), np.array(-2).tobytes()]


def iq_spec(**changes):
    spec = {"name": "iq", "core:datatype": "cf32_le", "shape": [2, 3], "axes": ["sensor", "snapshot"], "unit": "FS"}
    return {**spec, **{k.replace("core_", "core:"): v for k, v in changes.items()}}


REFUSED = {
    "part": ([b"sim.iq"], r"a frame has at least 2 parts \(stream, header\), got 1"),
    "no map": ([b"a", msgpack.packb([1])], "header is a tuple, expected a map"),
    "no MessagePack": ([b"a", b"\xc1"], "header is not MessagePack: FormatError"),
    "cut": ([b"a", encode_header(FULL)[:-3]], "header is not MessagePack: ValueError Unpack failed: incomplete input"),
    "more": ([b"a", encode_header(FULL) + b"\0"], "header is not MessagePack: ExtraData"),
    "extension": (
        [b"a", b"\x81\xa1v\xd4\x05\x00"],
        r"header is not MessagePack: ValueError \d exceeds max_ext_len\(0\)",
    ),
    "nested": ([b"a", b"\x91" * 3000 + b"\xc0"], "header is (not MessagePack: StackError|nested too deeply)"),
    "long list": ([b"a", b"\xdd\x00\x01\x00\x00" + b"\x00" * 65536], r"65536 exceeds max_array_len\(10000\)"),
    "version": (parts_with(v=2), "header has version 2, this reader knows version 1: update the older side"),
    "no version": (parts_with(v=...), "header has version None"),
    "version of another type": (parts_with(v=True), "header has version True"),
    "no stream": (parts_with(stream=...), "'stream': expected text of up to 255 bytes, got None"),
    "long stream": (parts_with(stream="x" * 256), "'stream': expected text of up to 255 bytes, got 'xxx"),
    "envelope": ([b"other", *parts_with()[1:]], "envelope names stream b'other', header names 'sim.iq'"),
    "seq": (parts_with(seq=-1), r"'seq': expected an integer from 0 to 2\^63-1, got -1"),
    "seq type": (parts_with(seq=True), "'seq': expected an integer from 0 .* got True"),
    "seq size": (parts_with(seq=1 << 63), "'seq': expected an integer from 0 .* got 9223372036854775808"),
    "epoch": (parts_with(epoch=0.5), "'epoch': expected an integer from 0 .* got 0.5"),
    "sample start": (parts_with(core_sample_start=None), "'core:sample_start': expected an integer .* got None"),
    "rate": (parts_with(core_sample_rate=0), "'core:sample_rate': expected a finite number above 0, got 0"),
    "rate nan": (parts_with(core_sample_rate=float("nan")), "'core:sample_rate': .* got nan"),
    "frequency": (parts_with(core_frequency="5e9"), "'core:frequency': expected a finite number above 0, got '5e9'"),
    "kind": (parts_with(kind="date"), "'kind': expected one of data, descriptor, event, eof, got 'date'"),
    "timebase": (parts_with(timebase="gps"), "'timebase': expected one of utc, tai, device, host, got 'gps'"),
    "time alone": (parts_with(timebase=...), "time_ns and timebase come together or not at all"),
    "calibration": (parts_with(calibration="ok"), "'calibration': expected one of none, valid, stale, got 'ok'"),
    "lost": (parts_with(lost=[1, 2]), r"'lost': expected \[frames, samples, clipped\], got \(1, 2\)"),
    "lost count": (parts_with(lost=[1, 2, -1]), r"'lost': expected three counts from 0, got \(1, 2, -1\)"),
    "meta": (parts_with(meta=[1]), r"'meta': expected a map with text keys, got \(1,\)"),
    "unknown": (parts_with(extra=1), "header of 'sim.iq' has unknown fields: 'extra'"),
    "number of payloads": (parts_with()[:3], "header describes 2 arrays, 1 payloads came"),
    "arrays": (parts_with(arrays={"a": 1}), r"'arrays': expected a list of up to 64, got \{'a': 1\}"),
    "array": (parts_with(arrays=[[1]]), "'arrays': expected name, core:datatype, shape, axes, unit, got"),
    "twice": (parts_with(arrays=[iq_spec(), iq_spec()]), "'arrays': a name occurs twice in iq, iq"),
    "datatype": (parts_with(arrays=[iq_spec(core_datatype="O")]), "array 'iq': datatype 'O' is not one of cf32_le, "),
    "size": (parts_with(arrays=[iq_spec(shape=[2, -3])]), r"array 'iq': shape \(2, -3\) is not a list of sizes from 0"),
    "beyond": (
        parts_with(arrays=[iq_spec(shape=[1 << 20, 1 << 20])]),
        r"array 'iq': cf32_le \[1048576, 1048576\] is 8796093022208 bytes, the limit is 1073741824",
    ),
    "dimensions": (parts_with(arrays=[iq_spec(shape=[1] * 9)]), "expected a shape of up to 8 dimensions"),
    "axes": (parts_with(arrays=[iq_spec(axes=["sensor"])]), r"expected 2 axis names, got \('sensor',\)"),
    "axis": (
        parts_with(arrays=[iq_spec(axes=["sensor", 1])]),
        "'arrays.axes': expected text of up to 255 bytes, got 1",
    ),
    "unit": (parts_with(arrays=[iq_spec(unit=None)]), "'arrays.unit': expected text of up to 255 bytes, got None"),
    "payload": (
        [*parts_with()[:2], IQ.tobytes()[:-1], parts_with()[3]],
        r"header says iq: complex64 \[sensor=2, snapshot=3\] FS = 48 bytes, payload has 47",
    ),
    "bool": (
        [*encode(GOLDEN["sparse"])[:2], b"\x01\x02\x00", b""],
        "array 'mask' is bool and has bytes other than 0 and 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_says_what_came_and_what_was_expected(case):
    parts, message = REFUSED[case]
    with pytest.raises(WireError, match=message):
        decode(parts)


def test_limits_are_the_readers():
    parts = bytes_of(encode(GOLDEN["full"]))
    with pytest.raises(WireError, match=r"header has .* bytes, the limit is 64"):
        decode(parts, Limits(header_bytes=64))
    decode(parts)  # remembered for the limits above, not for tighter ones
    with pytest.raises(WireError, match="the limit is 47"):
        decode(parts, Limits(array_bytes=47))
    with pytest.raises(WireError, match="expected a list of up to 1"):
        decode(parts, Limits(arrays=1))


def test_sender_refuses_what_no_reader_would_take():
    with pytest.raises(WireError, match=r"dtype datetime64\[ns\] cannot be sent, only complex64"):
        encode(Frame.of(Header("a", 0), t=(np.zeros(1, "M8[ns]"), "x", "")))
    with pytest.raises(WireError, match="meta holds plain values only"):
        encode(Frame(Header("a", 0, meta={"x": object()})))
    with pytest.raises(WireError, match="time_ns 5 and timebase None come together or not at all"):
        encode(Frame(Header("a", 0, time_ns=5)))
    frame = Frame.of(Header("a", 0), x=(np.zeros(3), "n", ""))
    with pytest.raises(WireError, match=r"header says x: float64 \[n=3\], the array is float64 \[2\]"):
        encode(Frame(frame.header, {"x": np.zeros(2)}))
    with pytest.raises(WireError, match=r"the array is >f8 \[3\]"):
        encode(Frame(frame.header, {"x": np.zeros(3, ">f8")}))


# -- mutated frames ----------------------------------------------------------------------------------------------------


def mutate(parts: list[bytes], rng: np.random.Generator) -> list[bytes]:
    """Change, cut, double or swap bytes, or whole parts."""
    parts = list(parts)
    for _ in range(int(rng.integers(1, 4))):
        if not parts:
            return parts
        index = int(rng.integers(0, len(parts)))
        part = bytearray(parts[index])
        at = int(rng.integers(0, len(part) + 1))
        match int(rng.integers(0, 8)):
            case 0 | 1 | 2 if part:
                part[at % len(part)] = int(rng.integers(0, 256))
            case 3:
                del part[at:]
            case 4:
                part[at:at] = rng.bytes(int(rng.integers(1, 9)))
            case 5:
                part[at : at + 5] = bytes([int(rng.choice([0xC6, 0xDB, 0xDD, 0xDF, 0xD3])), *rng.bytes(4)])
            case 6:
                parts.insert(index, parts[int(rng.integers(0, len(parts)))])
                continue
            case 7:
                del parts[index]
                continue
        parts[index] = bytes(part)
    return parts


def fuzz(n: int, seed: int) -> tuple[int, int]:
    """Decode ``n`` mutated frames; return how many were refused and the most memory that one took."""
    rng = np.random.default_rng(seed)
    limits = Limits(array_bytes=1 << 16)
    good = list(golden_parts().values())
    refused, peak = 0, 0
    tracemalloc.start()
    try:
        for _ in range(n):
            parts = mutate(good[int(rng.integers(0, len(good)))], rng)
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            try:
                frame = decode(parts, limits)
                assert bytes_of(encode(frame))[2:] == [bytes(p) for p in parts[2:]]
            except WireError as error:
                assert str(error)
                refused += 1
            peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return refused, peak


def fuzz_alone(n: int, seed: int) -> tuple[int, int]:
    """:func:`fuzz` in a process of its own, where no thread of another test takes memory while it is measured."""
    code = f"import json; from tests.hil.test_wire import fuzz; print(json.dumps(fuzz({n}, seed={seed})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused, peak = json.loads(done.stdout)
    return refused, peak


def test_mutated_frames_are_refused_or_read_and_take_no_memory():
    refused, peak = fuzz_alone(5_000, seed=1)
    assert refused > 2_500
    assert peak < 4 << 20


@pytest.mark.slow
def test_100000_mutated_frames():
    refused, peak = fuzz_alone(100_000, seed=2)
    assert refused > 50_000
    assert peak < 4 << 20


def test_header_of_nested_promises_takes_bounded_memory():
    """Lists nested in lists, each of which promises the most elements: msgpack takes memory on the promise."""
    header = b"\xdc\x27\x10" * 1000 + b"\0" * 9000
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode_header(header)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20

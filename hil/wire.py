"""One codec for ZeroMQ and for files: stream name, MessagePack header, then the untouched bytes of each array.

Needs NumPy and msgpack only, so that a driver process can run under any interpreter that has these. Field names
are SigMF's where SigMF has one; datatypes are SigMF's too (``cf32_le``). All bytes are little-endian. Nothing
received is ever unpickled or evaluated, and every length, dtype and limit is checked before an array is made of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgpack
import numpy as np

from hil.errors import WireError
from hil.frame import CALIBRATION_STATES, KINDS, NO_LOSS, TIMEBASES, AnyArray, ArraySpec, Frame, Header, Loss

VERSION = 1

if sys.byteorder != "little":  # pragma: no cover
    raise WireError("this host is big-endian, frames are little-endian: not supported")

#: NumPy dtype -> SigMF datatype. 64-bit integers and booleans, which SigMF has not, follow its pattern.
DATATYPES: dict[str, str] = {
    "complex64": "cf32_le",
    "complex128": "cf64_le",
    "float32": "rf32_le",
    "float64": "rf64_le",
    "int8": "ri8",
    "int16": "ri16_le",
    "int32": "ri32_le",
    "int64": "ri64_le",
    "uint8": "ru8",
    "uint16": "ru16_le",
    "uint32": "ru32_le",
    "uint64": "ru64_le",
    "bool": "bool",
}
DTYPES = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()}

#: Anything with the buffer protocol (``collections.abc.Buffer`` from Python 3.12 on).
Buffer: TypeAlias = Any


class Limits(NamedTuple):
    """What a reader accepts; anything beyond is refused before memory is taken for it."""

    header_bytes: int = 256 * 1024
    arrays: int = 64
    dimensions: int = 8
    array_bytes: int = 1 << 30
    name_bytes: int = 255


DEFAULT_LIMITS = Limits()


#: What msgpack may make of a header before it is checked: no list of ours is longer, no extension type is known.
_UNPACK_LIMITS = {"max_array_len": 10_000, "max_ext_len": 0}
_ARRAYS_KEY: bytes = msgpack.packb("arrays")
#: A stream's array descriptions are the same in frame after frame, so both ways remember them by their bytes.
_CACHE_ENTRIES, _CACHE_BYTES = 256, 4096
_packed_arrays: dict[tuple[ArraySpec, ...], bytes] = {}
_known_arrays: dict[tuple[bytes, Limits], tuple[ArraySpec, ...]] = {}
_layouts: dict[tuple[ArraySpec, ...], tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]] = {}
_SIGNED = 0xD0  # MessagePack's type bytes: unsigned integers are 0xCC to 0xCF, signed ones 0xD0 to 0xD3
#: Fields that count from frame to frame. Headers that differ in nothing else are read by their bytes alone.
_COUNTS = {
    key: Header._fields.index(key.removeprefix("core:"))
    for key in ("seq", "core:sample_start", "time_ns", "host_time_ns")
}
_patterns: dict[tuple[int, Limits], _Pattern] = {}


class _Pattern(NamedTuple):
    """A header that was read: its bytes between the counts, where each count is, and what it says."""

    constant: tuple[tuple[int, int, bytes], ...]
    counts: tuple[tuple[int, int, int, bool], ...]
    header: Header


def encode_header(header: Header) -> bytes:
    """Return the MessagePack map of ``header``; what is not known is left out, the arrays come last.

    Raises:
        WireError: A value is not plain, or a time comes without its timebase.
    """
    if (header.time_ns is None) is not (header.timebase is None):
        raise WireError(
            f"header of {header.stream!r}: time_ns {header.time_ns} and timebase {header.timebase} come together or "
            "not at all"
        )
    fields = _fields(header)
    try:
        packed: bytes = msgpack.packb(fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"header of {header.stream!r} cannot be sent: {error}; meta holds plain values only") from error
    if not header.arrays:
        return packed
    arrays = _packed_arrays.get(header.arrays)
    if arrays is None:
        arrays = _ARRAYS_KEY + _pack_arrays(header.arrays)
        _remember(_packed_arrays, header.arrays, arrays, len(arrays))
    return _with_map_length(packed, len(fields) + 1) + arrays


def _fields(header: Header) -> dict[str, Any]:
    """What is packed of ``header``, in this order; the arrays follow."""
    fields: dict[str, Any] = {"v": VERSION, "kind": header.kind, "stream": header.stream, "seq": header.seq}
    fields["epoch"] = header.epoch
    if header.sample_start is not None:
        fields["core:sample_start"] = header.sample_start
    if header.sample_rate_hz is not None:
        fields["core:sample_rate"] = header.sample_rate_hz
    if header.frequency_hz is not None:
        fields["core:frequency"] = header.frequency_hz
    if header.time_ns is not None:
        fields["time_ns"] = header.time_ns
        fields["timebase"] = header.timebase
    if header.host_time_ns is not None:
        fields["host_time_ns"] = header.host_time_ns
    if header.array_id is not None:
        fields["array_id"] = header.array_id
    if header.calibration_id is not None:
        fields["calibration_id"] = header.calibration_id
    fields["calibration"] = header.calibration
    if header.lost != NO_LOSS:
        fields["lost"] = header.lost
    if header.meta:
        fields["meta"] = header.meta
    return fields


def encode(frame: Frame) -> list[Buffer]:
    """Return the parts of ``frame``: stream name, header, one C-ordered buffer an array (a view where it can be).

    Raises:
        WireError: The header does not describe the arrays, or holds what MessagePack cannot carry.
    """
    header = frame.header
    parts: list[Buffer] = [header.stream.encode(), encode_header(header)]
    for name, dtype, shape, _ in _layout(header.arrays):
        array = frame[name]
        if array.shape != shape or array.dtype != dtype:
            spec = next(s for s in header.arrays if s.name == name)
            raise WireError(
                f"frame of {header.stream!r}: header says {spec}, the array is {array.dtype} {list(array.shape)}"
            )
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        parts.append(array.reshape(-1).view(np.uint8))
    return parts


def decode(parts: Sequence[Buffer], limits: Limits = DEFAULT_LIMITS) -> Frame:
    """Return the frame that ``parts`` carry; its arrays are read-only views of the parts.

    Raises:
        WireError: Anything is not as the header says or beyond ``limits``; says what came and what was expected.
    """
    if len(parts) < 2:
        raise WireError(f"a frame has at least 2 parts (stream, header), got {len(parts)}")
    header = decode_header(parts[1], limits)
    stream = bytes(parts[0])
    if stream != header.stream.encode():
        raise WireError(f"envelope names stream {stream[:64]!r}, header names {header.stream!r}")
    if len(parts) != 2 + len(header.arrays):
        raise WireError(
            f"frame of {header.stream!r}: header describes {len(header.arrays)} arrays, {len(parts) - 2} payloads came"
        )
    arrays: dict[str, AnyArray] = {}
    for index, (name, dtype, shape, n_bytes) in enumerate(_layout(header.arrays)):
        # An array made over read-only memory is read-only itself, and so are its views
        view = memoryview(parts[2 + index]).toreadonly()
        if view.nbytes != n_bytes:
            raise WireError(
                f"frame of {header.stream!r}: header says {header.arrays[index]} = {n_bytes} bytes, "
                f"payload has {view.nbytes}"
            )
        flat = np.frombuffer(view, dtype)
        if dtype == np.bool_ and flat.size and flat.view(np.uint8).max() > 1:
            raise WireError(f"frame of {header.stream!r}: array {name!r} is bool and has bytes other than 0 and 1")
        arrays[name] = flat.reshape(shape)
    return Frame(header, arrays)


def decode_header(data: Buffer, limits: Limits = DEFAULT_LIMITS) -> Header:
    """Return the header that ``data`` packs.

    Raises:
        WireError: Not a header of this version, or beyond ``limits``.
    """
    n_bytes = memoryview(data).nbytes
    if n_bytes > limits.header_bytes:
        raise WireError(f"header has {n_bytes} bytes, the limit is {limits.header_bytes}")
    data = bytes(data)
    pattern = _patterns.get((n_bytes, limits))
    if pattern is not None:
        known = _read_counts(data, pattern)
        if known is not None:
            return known
    fields, tail, specs = _unpack_known(data, limits)
    if fields is None:
        fields = _unpack(data)
    version = fields.pop("v", None)
    if version != VERSION or type(version) is not int:
        raise WireError(f"header has version {version!r}, this reader knows version {VERSION}: update the older side")
    if specs is None:
        packed = fields.pop("arrays", ())
        specs = _array_specs(packed, limits)
        # Only what this encoder writes is remembered, so that the bytes stand for nothing else
        if tail and _ARRAYS_KEY + msgpack.packb(packed) == tail:
            _remember(_known_arrays, (tail, limits), specs, len(tail))
    header = Header(
        _text(fields, "stream", limits),
        _integer(fields, "seq", 0),
        _one_of(fields, "kind", KINDS),
        _integer(fields, "epoch", 0),
        _integer(fields, "core:sample_start", 0) if "core:sample_start" in fields else None,
        _positive(fields, "core:sample_rate") if "core:sample_rate" in fields else None,
        _positive(fields, "core:frequency") if "core:frequency" in fields else None,
        _integer(fields, "time_ns", -(1 << 63)) if "time_ns" in fields else None,
        _one_of(fields, "timebase", TIMEBASES) if "timebase" in fields else None,
        _integer(fields, "host_time_ns", -(1 << 63)) if "host_time_ns" in fields else None,
        _text(fields, "array_id", limits) if "array_id" in fields else None,
        _text(fields, "calibration_id", limits) if "calibration_id" in fields else None,
        _one_of(fields, "calibration", CALIBRATION_STATES),
        _loss(fields.pop("lost")) if "lost" in fields else NO_LOSS,
        specs,
        _meta(fields.pop("meta")) if "meta" in fields else {},
    )
    if fields:
        raise WireError(f"header of {header.stream!r} has unknown fields: {', '.join(map(_short, list(fields)[:5]))}")
    if (header.time_ns is None) is not (header.timebase is None):
        raise WireError(f"header of {header.stream!r}: time_ns and timebase come together or not at all")
    _remember_pattern(data, limits, header)
    return header


def _read_counts(data: bytes, pattern: _Pattern) -> Header | None:
    """Return the header whose bytes are those of ``pattern`` but for the counts; ``None``: they are not."""
    for start, end, constant in pattern.constant:
        if data[start:end] != constant:
            return None
    values: list[Any] = list(pattern.header)
    for index, start, end, signed in pattern.counts:
        value = int.from_bytes(data[start:end], "big", signed=signed)
        if value >= 1 << 63:
            return None
        values[index] = value
    return Header._make(values)


def _remember_pattern(data: bytes, limits: Limits, header: Header) -> None:
    """Remember where the counts of a header are, if it is as this encoder writes it.

    The bytes before a count, its own type byte included, say how it is read; so other bytes there, and only these,
    read as another number and nothing else. A count that its type byte holds itself is too small for this.
    """
    if header.meta or len(data) > _CACHE_BYTES or encode_header(header) != data:
        return
    at, begin = 1 if data[0] & 0xF0 == 0x80 else 3, 0
    constant, counts = [], []
    for key, value in _fields(header).items():
        at += len(msgpack.packb(key))
        size = len(msgpack.packb(value))
        if key in _COUNTS:
            if size == 1:
                return
            constant.append((begin, at + 1, data[begin : at + 1]))
            counts.append((_COUNTS[key], at + 1, at + size, data[at] >= _SIGNED))
            begin = at + size
        at += size
    constant.append((begin, len(data), data[begin:]))
    _remember(_patterns, (len(data), limits), _Pattern(tuple(constant), tuple(counts), header), 0)


def _unpack(data: bytes) -> dict[Any, Any]:
    try:
        fields = msgpack.unpackb(data, use_list=False, strict_map_key=True, **_UNPACK_LIMITS)
    except RecursionError as error:
        raise WireError("header is nested too deeply") from error
    except (ValueError, TypeError, OverflowError) as error:
        # msgpack's own exceptions (ExtraData, FormatError, StackError, ...) are ValueErrors
        raise WireError(f"header is not MessagePack: {type(error).__name__} {error}") from error
    if not isinstance(fields, dict):
        raise WireError(f"header is a {type(fields).__name__}, expected a map")
    return fields


def _unpack_known(data: bytes, limits: Limits) -> tuple[dict[Any, Any] | None, bytes, tuple[ArraySpec, ...] | None]:
    """Unpack ``data`` without its arrays where these were seen before: fields, the arrays' bytes, the arrays.

    MessagePack reads from the front and needs no look ahead: if a map of one pair less ends exactly where the
    remembered pair begins, the whole map reads as that map and that pair. Else ``data`` is left to the full way.
    """
    at = data.rfind(_ARRAYS_KEY)
    if at < 0 or len(data) - at > _CACHE_BYTES:
        return None, b"", None
    tail = data[at:]
    specs = _known_arrays.get((tail, limits))
    if specs is None:
        return None, tail, None
    n_fields = data[0] & 0x0F if data[0] & 0xF0 == 0x80 else int.from_bytes(data[1:3]) if data[0] == 0xDE else 0
    if n_fields == 0:
        return None, tail, None
    try:
        fields = _unpack(_with_map_length(data[:at], n_fields - 1))
    except WireError:  # the full way tells what is wrong
        return None, tail, None
    return (None, tail, None) if "arrays" in fields else (fields, tail, specs)


def _with_map_length(packed: bytes, n: int) -> bytes:
    """Return ``packed``, a map of up to 65535 pairs, with the number of pairs that it announces set to ``n``."""
    body = packed[1:] if packed[0] & 0xF0 == 0x80 else packed[3:]
    return (bytes((0x80 | n,)) if n < 16 else b"\xde" + n.to_bytes(2)) + body


def _pack_arrays(specs: tuple[ArraySpec, ...]) -> bytes:
    try:
        packed: bytes = msgpack.packb(
            [
                {"name": s.name, "core:datatype": _datatype(s), "shape": s.shape, "axes": s.axes, "unit": s.unit}
                for s in specs
            ]
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(
            f"description of arrays {', '.join(str(s.name) for s in specs)} cannot be sent: {error}"
        ) from error
    return packed


def _layout(specs: tuple[ArraySpec, ...]) -> tuple[tuple[str, np.dtype[Any], tuple[int, ...], int], ...]:
    """Name, dtype, shape and bytes of each array, remembered."""
    layout = _layouts.get(specs)
    if layout is None:
        layout = tuple((s.name, np.dtype(s.dtype), s.shape, s.n_bytes) for s in specs)
        _remember(_layouts, specs, layout, 0)
    return layout


def _remember(cache: dict[Any, Any], key: Any, value: Any, n_bytes: int) -> None:
    if n_bytes <= _CACHE_BYTES:
        if len(cache) >= _CACHE_ENTRIES:
            cache.clear()
        cache[key] = value


def _datatype(spec: ArraySpec) -> str:
    try:
        return DATATYPES[spec.dtype]
    except KeyError:
        raise WireError(
            f"array {spec.name!r}: dtype {spec.dtype} cannot be sent, only {', '.join(DATATYPES)}"
        ) from None


def _integer(fields: dict[Any, Any], key: str, low: int) -> int:
    value = fields.pop(key, None)
    if type(value) is not int or not low <= value < (1 << 63):
        raise WireError(f"header field {key!r}: expected an integer from {low} to 2^63-1, got {_short(value)}")
    return value


def _positive(fields: dict[Any, Any], key: str) -> float:
    value = fields.pop(key)
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        raise WireError(f"header field {key!r}: expected a finite number above 0, got {_short(value)}")
    return float(value)


def _text(fields: dict[Any, Any], key: str, limits: Limits) -> str:
    return _checked_text(fields.pop(key, None), key, limits)


def _checked_text(value: Any, key: str, limits: Limits, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (empty or value) or len(value.encode()) > limits.name_bytes:
        raise WireError(f"header field {key!r}: expected text of up to {limits.name_bytes} bytes, got {_short(value)}")
    return value


def _one_of(fields: dict[Any, Any], key: str, allowed: tuple[Any, ...]) -> Any:
    value = fields.pop(key, None)
    if not isinstance(value, str) or value not in allowed:
        raise WireError(f"header field {key!r}: expected one of {', '.join(allowed)}, got {_short(value)}")
    return value


def _loss(value: Any) -> Loss:
    if not isinstance(value, tuple) or len(value) != 3:
        raise WireError(f"header field 'lost': expected [frames, samples, clipped], got {_short(value)}")
    if not all(type(n) is int and 0 <= n < (1 << 63) for n in value):
        raise WireError(f"header field 'lost': expected three counts from 0, got {_short(value)}")
    return Loss(*value)


def _meta(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WireError(f"header field 'meta': expected a map with text keys, got {_short(value)}")
    return value


def _array_specs(value: Any, limits: Limits) -> tuple[ArraySpec, ...]:
    if not isinstance(value, tuple) or len(value) > limits.arrays:
        raise WireError(f"header field 'arrays': expected a list of up to {limits.arrays}, got {_short(value)}")
    specs = tuple(_array_spec(item, limits) for item in value)
    if len({s.name for s in specs}) != len(specs):
        raise WireError(f"header field 'arrays': a name occurs twice in {', '.join(s.name for s in specs)}")
    return specs


def _array_spec(item: Any, limits: Limits) -> ArraySpec:
    if not isinstance(item, dict) or set(item) != {"name", "core:datatype", "shape", "axes", "unit"}:
        raise WireError(f"header field 'arrays': expected name, core:datatype, shape, axes, unit, got {_short(item)}")
    name = _checked_text(item["name"], "arrays.name", limits)
    datatype, shape, axes = item["core:datatype"], item["shape"], item["axes"]
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise WireError(f"array {name!r}: datatype {_short(datatype)} is not one of {', '.join(DTYPES)}")
    if not isinstance(shape, tuple) or len(shape) > limits.dimensions:
        raise WireError(
            f"array {name!r}: expected a shape of up to {limits.dimensions} dimensions, got {_short(shape)}"
        )
    n_bytes = DTYPES[datatype].itemsize
    for size in shape:
        if type(size) is not int or not 0 <= size <= limits.array_bytes:
            raise WireError(f"array {name!r}: shape {_short(shape)} is not a list of sizes from 0")
        n_bytes *= size
    if n_bytes > limits.array_bytes:
        raise WireError(
            f"array {name!r}: {datatype} {list(shape)} is {n_bytes} bytes, the limit is {limits.array_bytes}"
        )
    if not isinstance(axes, tuple) or len(axes) != len(shape):
        raise WireError(f"array {name!r}: expected {len(shape)} axis names, got {_short(axes)}")
    for axis in axes:
        _checked_text(axis, "arrays.axes", limits)
    unit = _checked_text(item["unit"], "arrays.unit", limits, empty=True)
    return ArraySpec(name, DTYPES[datatype].name, shape, axes, unit)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

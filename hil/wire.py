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


def encode_header(header: Header) -> bytes:
    """Return the MessagePack map of ``header``; what is not known is left out."""
    fields: dict[str, Any] = {"v": VERSION, "kind": header.kind, "stream": header.stream, "seq": header.seq}
    fields["epoch"] = header.epoch
    for key, value in (
        ("core:sample_start", header.sample_start),
        ("core:sample_rate", header.sample_rate_hz),
        ("core:frequency", header.frequency_hz),
        ("time_ns", header.time_ns),
        ("timebase", header.timebase),
        ("host_time_ns", header.host_time_ns),
        ("array_id", header.array_id),
        ("calibration_id", header.calibration_id),
    ):
        if value is not None:
            fields[key] = value
    fields["calibration"] = header.calibration
    if header.lost != NO_LOSS:
        fields["lost"] = tuple(header.lost)
    if header.arrays:
        fields["arrays"] = [
            {
                "name": s.name,
                "core:datatype": _datatype(s),
                "shape": s.shape,
                "axes": s.axes,
                "unit": s.unit,
            }
            for s in header.arrays
        ]
    if header.meta:
        fields["meta"] = header.meta
    try:
        packed: bytes = msgpack.packb(fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"header of {header.stream!r} cannot be sent: {error}; meta holds plain values only") from error
    return packed


def encode(frame: Frame) -> list[Buffer]:
    """Return the parts of ``frame``: stream name, header, one C-ordered buffer an array (a view where it can be).

    Raises:
        WireError: The header does not describe the arrays, or holds what MessagePack cannot carry.
    """
    header = frame.header
    parts: list[Buffer] = [header.stream.encode(), encode_header(header)]
    for spec in header.arrays:
        array = frame[spec.name]
        if array.shape != spec.shape or array.dtype.name != spec.dtype:
            raise WireError(
                f"frame of {header.stream!r}: header says {spec}, the array is {array.dtype} {list(array.shape)}"
            )
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return parts


def decode(parts: Sequence[Buffer], limits: Limits = DEFAULT_LIMITS) -> Frame:
    """Return the frame that ``parts`` carry; its arrays are read-only views of the parts.

    Raises:
        WireError: Anything is not as the header says or beyond ``limits``; says what came and what was expected.
    """
    if len(parts) < 2:
        raise WireError(f"a frame has at least 2 parts (stream, header), got {len(parts)}")
    header = decode_header(parts[1], limits)
    stream = bytes(memoryview(parts[0]))
    if stream != header.stream.encode():
        raise WireError(f"envelope names stream {stream[:64]!r}, header names {header.stream!r}")
    if len(parts) != 2 + len(header.arrays):
        raise WireError(
            f"frame of {header.stream!r}: header describes {len(header.arrays)} arrays, {len(parts) - 2} payloads came"
        )
    arrays: dict[str, AnyArray] = {}
    for spec, part in zip(header.arrays, parts[2:], strict=True):
        view = memoryview(part)
        if view.nbytes != spec.n_bytes:
            raise WireError(
                f"frame of {header.stream!r}: header says {spec} = {spec.n_bytes} bytes, payload has {view.nbytes}"
            )
        array = np.frombuffer(view, np.dtype(spec.dtype)).reshape(spec.shape)
        array.flags.writeable = False
        arrays[spec.name] = array
    return Frame(header, arrays)


def decode_header(data: Buffer, limits: Limits = DEFAULT_LIMITS) -> Header:
    """Return the header that ``data`` packs.

    Raises:
        WireError: Not a header of this version, or beyond ``limits``.
    """
    n_bytes = memoryview(data).nbytes
    if n_bytes > limits.header_bytes:
        raise WireError(f"header has {n_bytes} bytes, the limit is {limits.header_bytes}")
    try:
        fields = msgpack.unpackb(data, use_list=False, strict_map_key=True)
    except RecursionError as error:
        raise WireError("header is nested too deeply") from error
    except (ValueError, TypeError, OverflowError, UnicodeDecodeError) as error:
        # msgpack's own exceptions (ExtraData, FormatError, StackError, ...) are ValueErrors
        raise WireError(f"header is not MessagePack: {type(error).__name__} {error}") from error
    if not isinstance(fields, dict):
        raise WireError(f"header is a {type(fields).__name__}, expected a map")
    version = fields.pop("v", None)
    if version != VERSION:
        raise WireError(f"header has version {version!r}, this reader knows version {VERSION}: update the older side")
    header = Header(
        stream=_text(fields, "stream", limits),
        seq=_integer(fields, "seq", 0),
        kind=_one_of(fields, "kind", KINDS),
        epoch=_integer(fields, "epoch", 0),
        sample_start=_optional_integer(fields, "core:sample_start", 0),
        sample_rate_hz=_optional_positive(fields, "core:sample_rate"),
        frequency_hz=_optional_positive(fields, "core:frequency"),
        time_ns=_optional_integer(fields, "time_ns", -(1 << 63)),
        timebase=_one_of(fields, "timebase", TIMEBASES) if "timebase" in fields else None,
        host_time_ns=_optional_integer(fields, "host_time_ns", -(1 << 63)),
        array_id=_text(fields, "array_id", limits) if "array_id" in fields else None,
        calibration_id=_text(fields, "calibration_id", limits) if "calibration_id" in fields else None,
        calibration=_one_of(fields, "calibration", CALIBRATION_STATES),
        lost=_loss(fields.pop("lost", NO_LOSS)),
        arrays=_array_specs(fields.pop("arrays", ()), limits),
        meta=_meta(fields.pop("meta", None)),
    )
    if fields:
        raise WireError(f"header of {header.stream!r} has unknown fields: {', '.join(map(repr, list(fields)[:5]))}")
    if (header.time_ns is None) != (header.timebase is None):
        raise WireError(f"header of {header.stream!r}: time_ns and timebase come together or not at all")
    return header


def _datatype(spec: ArraySpec) -> str:
    try:
        return DATATYPES[spec.dtype]
    except KeyError:
        raise WireError(
            f"array {spec.name!r}: dtype {spec.dtype} cannot be sent, only {', '.join(DATATYPES)}"
        ) from None


def _integer(fields: dict[Any, Any], key: str, low: int, default: int | None = None) -> int:
    value = fields.pop(key, default)
    if type(value) is not int or not low <= value < (1 << 63):
        raise WireError(f"header field {key!r}: expected an integer from {low} to 2^63-1, got {_short(value)}")
    return value


def _optional_integer(fields: dict[Any, Any], key: str, low: int) -> int | None:
    return _integer(fields, key, low) if key in fields else None


def _optional_positive(fields: dict[Any, Any], key: str) -> float | None:
    if key not in fields:
        return None
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
    if value is None:
        return {}
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

"""How frames lie in a SigMF recording (https://sigmf.org, version 1.2), both ways.

The samples of one stream are the data file, channels interleaved. A run of frames that follow from one another is
one capture segment, which carries the header of its first frame under ``hil:header``; the others are counted on
from it. What does not follow (a gap, a new epoch, a retune, a time that is not the sample count's) begins another
segment. Every other frame is an annotation at the sample where it came, with its header and, as text, its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgpack
import numpy as np

from hil.errors import RecordingError, WireError
from hil.frame import NO_LOSS, AnyArray, ArraySpec, Frame, Header
from hil.record.writer import StreamRefused
from hil.wire import Limits, decode_header, encode_header

#: SigMF datatype of samples, by dtype and whether the last axis is re, im.
SAMPLE_DATATYPES = {
    ("complex64", False): "cf32_le",
    ("complex128", False): "cf64_le",
    ("int16", True): "ci16_le",
    ("int8", True): "ci8",
}
#: The most values that the arrays of one annotation hold: they are text.
MAX_ANNOTATION_VALUES = 4096


def sample_spec(header: Header) -> ArraySpec | None:
    """The array of samples in a frame of ``header``: its only one, ``[sensor, snapshot]`` or ``[..., iq]``."""
    if header.kind != "data" or len(header.arrays) != 1:
        return None
    spec = header.arrays[0]
    is_pair = len(spec.shape) == 3 and spec.shape[2] == 2 and spec.axes[2] == "iq"
    fits = (len(spec.shape) == 2 or is_pair) and (spec.dtype, is_pair) in SAMPLE_DATATYPES and min(spec.shape) > 0
    return spec if fits else None


def sample_datatype(spec: ArraySpec) -> str:
    return SAMPLE_DATATYPES[spec.dtype, len(spec.shape) == 3]


def header_after(first: Header, n_frames: int) -> Header:
    """Header of the frame that comes ``n_frames`` after ``first`` where nothing was lost in between.

    When it was received is not counted on, so that is not known of any but the first.
    """
    if n_frames == 0:
        return first
    n_samples = n_frames * first.arrays[0].shape[1]
    changes: dict[str, Any] = {"seq": first.seq + n_frames, "lost": NO_LOSS, "host_time_ns": None}
    start = first.sample_start
    if start is not None:
        changes["sample_start"] = start + n_samples
    if first.time_ns is not None and first.sample_rate_hz is not None:
        # Rounded down from sample 0 on, as a device does that counts its samples
        before, after = (_ns(n, first.sample_rate_hz) for n in (start or 0, (start or 0) + n_samples))
        changes["time_ns"] = first.time_ns + after - before
    return first.replace(**changes)


def _ns(n_samples: int, rate_hz: float) -> int:
    numerator, denominator = rate_hz.as_integer_ratio()
    return n_samples * 10**9 * denominator // numerator


def plain_header(header: Header) -> dict[str, Any]:
    """``header`` as the wire names its fields, as JSON carries it."""
    fields: dict[str, Any] = msgpack.unpackb(encode_header(header))
    plain: dict[str, Any] = _to_json(fields)
    return plain


def header_of(plain: Any, limits: Limits) -> Header:
    """The header that :func:`plain_header` made ``plain`` of, checked as one from the wire is.

    Raises:
        RecordingError: It is none.
    """
    try:
        return decode_header(msgpack.packb(_from_json(plain)), limits)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordingError(f"hil:header is not plain: {error}") from error
    except WireError as error:
        raise RecordingError(f"hil:header: {error}") from error


def plain_arrays(frame: Frame) -> list[Any]:
    """The values of each array of ``frame``, in the order of its header.

    Raises:
        StreamRefused: Too many, or complex.
    """
    n_values = sum(a.size for a in frame.arrays.values())
    if n_values > MAX_ANNOTATION_VALUES or any(a.dtype.kind == "c" for a in frame.arrays.values()):
        raise StreamRefused(
            f"stream {frame.header.stream!r} ({'; '.join(map(str, frame.header.arrays))}) does not fit beside the "
            f"samples of a SigMF recording, which takes up to {MAX_ANNOTATION_VALUES} real values: record to .mcap"
        )
    return [_to_json(frame[spec.name].reshape(-1).tolist()) for spec in frame.header.arrays]


def arrays_of(header: Header, values: Any) -> dict[str, AnyArray]:
    """The arrays that :func:`plain_arrays` made ``values`` of.

    Raises:
        RecordingError: They are not what the header says.
    """
    if not isinstance(values, list) or len(values) != len(header.arrays):
        raise RecordingError(f"hil:arrays: expected {len(header.arrays)} lists of values")
    arrays = {}
    for spec, flat in zip(header.arrays, values, strict=True):
        n = math.prod(spec.shape)
        if not isinstance(flat, list) or len(flat) != n:
            raise RecordingError(f"hil:arrays: {spec} has {n} values, got another number")
        try:
            arrays[spec.name] = np.array(_from_json(flat), dtype=spec.dtype).reshape(spec.shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise RecordingError(f"hil:arrays: {spec}: {error}") from error
    return arrays


def utc_text(time_ns: int) -> str:
    """ISO 8601 with nanoseconds, as ``core:datetime``."""
    seconds, ns = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


def utc_of(text: str) -> int:
    """Nanoseconds of a ``core:datetime``.

    Raises:
        RecordingError: It is none.
    """
    whole, _, fraction = text.rstrip("Zz").partition(".")
    try:
        seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
        return int(seconds) * 10**9 + int((fraction + "000000000")[:9])
    except (ValueError, OverflowError) as error:
        raise RecordingError(f"core:datetime {text[:60]!r} is no time: {error}") from error


def _to_json(value: Any) -> Any:
    """JSON has no infinities and no NaN: these are written as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"hil:float": repr(value)}
    if isinstance(value, bytes):
        return {"hil:bytes": value.hex()}
    if isinstance(value, Mapping):
        return {key: _to_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(v) for v in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        match value:
            case {"hil:float": str(text)}:
                return float(text)
            case {"hil:bytes": str(text)}:
                return bytes.fromhex(text)
        return {key: _from_json(v) for key, v in value.items()}
    return [_from_json(v) for v in value] if isinstance(value, list) else value

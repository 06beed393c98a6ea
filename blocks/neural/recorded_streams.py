"""Samples and truth in a recording, frame by frame, whatever form the samples have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.front_end.to_complex import to_complex
from hil.array import ArrayGeometry
from hil.array_params import Array, build_array
from hil.descriptor import array_of
from hil.errors import RecordingError
from hil.frame import Frame
from hil.record.recording import Recording, open_recording

C64 = npt.NDArray[np.complex64]


class DataFrame(NamedTuple):
    """A frame of data as it was recorded.

    Attributes:
        kind: Of which of the two streams.
        frame: Header and arrays.
        array: That holds by then, where it is known.
        raw: What the descriptor says of samples that are counts: ``full_scale``, ``offset``.
    """

    kind: Literal["iq", "truth"]
    frame: Frame
    array: ArrayGeometry | None
    raw: Mapping[str, Any]


def data_frames(recording: Recording, iq: str, truth: str | None, array: Array | None) -> Iterator[DataFrame]:
    """Frames of samples and, where it is named, of truth, as they were written.

    Args:
        recording: Open.
        iq: Stream of samples, by its whole or last name.
        truth: Stream of positions.
        array: Geometry and pose, instead of those that the recording describes.

    Raises:
        RecordingError: There is no such stream, there are several, or it has no samples.
    """
    iq_stream = _stream(recording, iq)
    wanted = [iq_stream] if truth is None else [iq_stream, _stream(recording, truth)]
    geometry: ArrayGeometry | None = None
    raw: Mapping[str, Any] = {}
    for frame in recording.frames(wanted):
        h = frame.header
        if h.stream != iq_stream:
            if h.kind == "data":
                yield DataFrame("truth", frame, geometry, raw)
        elif h.kind == "descriptor":
            raw = h.meta.get("raw", {})
            if array is None and (described := array_of(frame)) != geometry:
                geometry = described
        elif h.kind == "data":
            if not {"sensor", "snapshot"} <= set(h.arrays[0].axes):
                raise RecordingError(
                    f"{recording.path}: stream {h.stream!r} has {h.arrays[0]}: expected samples, with axes sensor and "
                    "snapshot; data.iq names another stream"
                )
            if array is not None and geometry is None:
                geometry = build_array(array, length(frame, "sensor"), h.frequency_hz)
            yield DataFrame("iq", frame, geometry, raw)


def read_samples(path: Path, numbers: Collection[int], iq: str) -> Iterator[tuple[int, C64]]:
    """Number among the frames of samples and samples ``[channel, snapshot]`` of those that are wanted.

    Raises:
        RecordingError: The recording cannot be read.
    """
    left = set(numbers)
    with open_recording(path) as recording:
        for number, data in enumerate(data_frames(recording, iq, None, None)):
            if not left:
                return
            if number in left:
                left.remove(number)
                yield number, complex_samples(data.frame, data.raw)


def length(frame: Frame, axis: str) -> int:
    """Of an axis of the samples."""
    spec = frame.header.arrays[0]
    return spec.shape[spec.axes.index(axis)]


def complex_samples(frame: Frame, raw: Mapping[str, Any]) -> C64:
    """Samples ``[channel, snapshot]`` of a frame of any of the streams IQ and RAW_IQ."""
    spec = frame.header.arrays[0]
    array = frame[spec.name]
    if array.dtype == np.complex128:
        array = array.astype(np.complex64)
    axes = ["component" if axis == "iq" else axis for axis in spec.axes]  # as SigMF calls it
    return to_complex(array, axes, float(raw.get("full_scale") or 1.0), float(raw.get("offset") or 0.0))


def _stream(recording: Recording, wanted: str) -> str:
    """The one stream of that whole or last name."""
    streams = recording.streams()
    found = [s for s in streams if s == wanted] or [s for s in streams if s.rsplit(".", 1)[-1] == wanted]
    if len(found) != 1:
        problem = "no stream" if not found else "several streams"
        raise RecordingError(
            f"{recording.path} has {problem} {wanted!r}, it has {', '.join(streams) or 'none'}: training needs samples "
            "and the true positions of their sources; data.iq and data.truth name the streams"
        )
    return found[0]

"""SigMF recordings made elsewhere: no frames, no headers, samples of any complex type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import RecordingError
from hil.frame import NO_LOSS, AnyArray, ArraySpec, Frame, Header, Loss
from hil.record.sigmf_format import utc_of

#: Stream of a recording that names none.
FOREIGN_STREAM = "sigmf.iq"


class ForeignSegments:
    """Cuts the segments of one recording into frames and counts on from one segment to the next.

    Args:
        common: The ``global`` object.
        rate_hz: Sample rate, where it is known.
        frame_samples: Samples a frame; the last one of a segment may have fewer.
        read: Gives ``n`` samples from sample ``start`` on, as ``[n * channels * 2]`` real numbers.
    """

    def __init__(
        self,
        common: Mapping[str, Any],
        rate_hz: float | None,
        frame_samples: int,
        read: Callable[[int, int], AnyArray],
    ) -> None:
        self._common = common
        self._rate_hz = rate_hz
        self._frame_samples = frame_samples
        self._read = read
        self._seq = 0
        self._epoch = 0
        self._next_index: int | None = None
        self._frequency: float | None = None
        self._geometry: ArrayGeometry | None = None

    def segment(self, capture: dict[str, Any], start: int, end: int) -> Iterator[tuple[int, Frame]]:
        index, frequency = capture.get("core:global_index", start), capture.get("core:frequency")
        if type(index) is not int or index < 0:
            raise RecordingError(f"core:global_index: expected an integer from 0, got {str(index)[:40]}")
        if frequency is not None and (type(frequency) not in (int, float) or not 0 < frequency < float("inf")):
            raise RecordingError(f"core:frequency: expected a number above 0, got {str(frequency)[:40]}")
        if self._frequency is not None and frequency != self._frequency:
            self._epoch += 1
        self._frequency = frequency
        missing = 0 if self._next_index is None else max(0, index - self._next_index)
        time_ns = utc_of(str(capture["core:datetime"])) if "core:datetime" in capture else None
        header = Header(
            FOREIGN_STREAM,
            self._seq,
            epoch=self._epoch,
            sample_start=index,
            sample_rate_hz=self._rate_hz,
            frequency_hz=None if frequency is None else float(frequency),
            time_ns=time_ns,
            timebase=None if time_ns is None else "utc",
            lost=Loss(samples=missing) if missing else NO_LOSS,
        )
        if "spatial:element_geometry" in capture:
            geometry = _geometry(self._common, capture)
            if geometry != self._geometry:
                self._geometry = geometry
                yield start, descriptor_frame(header.replace(lost=NO_LOSS), geometry)
        for at in range(start, end, self._frame_samples):
            n = min(self._frame_samples, end - at)
            flat = self._read(at, n)
            pairs = np.swapaxes(flat.reshape(n, -1, 2), 0, 1)
            iq = np.ascontiguousarray(_full_scale(pairs)).view(np.complex64)[..., 0]
            into = at - start
            counted = header.replace(
                seq=self._seq,
                sample_start=index + into,
                time_ns=None if time_ns is None else time_ns + round(into / (self._rate_hz or 1.0) * 1e9),
                lost=header.lost if at == start else NO_LOSS,
                array_id=None if self._geometry is None else self._geometry.array_id,
                arrays=(ArraySpec("iq", "complex64", iq.shape, ("sensor", "snapshot"), "FS"),),
            )
            self._seq += 1
            yield at, Frame(counted, {"iq": iq})
        self._next_index = index + end - start


def _geometry(common: Mapping[str, Any], capture: Mapping[str, Any]) -> ArrayGeometry:
    try:
        return ArrayGeometry.from_sigmf_spatial(common, capture)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise RecordingError(f"spatial:element_geometry is not readable: {type(error).__name__} {error}") from error


def _full_scale(pairs: AnyArray) -> AnyArray:
    """Real numbers as float32, integers so that their full scale is 1."""
    kind, bits = pairs.dtype.kind, 8 * pairs.dtype.itemsize
    values = pairs.astype(np.float32)
    if kind == "u":
        values -= 2.0 ** (bits - 1)
    return values / np.float32(1.0 if kind == "f" else 2.0 ** (bits - 1))

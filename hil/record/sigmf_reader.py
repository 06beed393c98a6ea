"""Read a SigMF recording: our own to the bit, others cut into frames, unclosed ones as far as they go.

The package ``sigmf`` knows the datatypes and says what is wrong with metadata that were made elsewhere. Samples are
not read with it, as it makes complex64 of all of them, which is not what was recorded; nor archives, as it unpacks
compressed and sparse ones into memory, however large they say they are.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sigmf.sigmffile import dtype_info

from hil.errors import HilError, RecordingError
from hil.frame import AnyArray, Frame, Header
from hil.record.recording import ReadFile, Recording
from hil.record.sigmf_foreign import FOREIGN_STREAM, ForeignSegments
from hil.record.sigmf_format import arrays_of, header_after, header_of, sample_datatype, sample_spec
from hil.record.sigmf_meta import SigmfMeta, load_meta, parse_meta, violation
from hil.wire import DEFAULT_LIMITS, Limits

_DATATYPE = re.compile(r"c(f32|f64|i8|i16|i32|u8|u16)(_le|_be)?")


class SigmfRecording(Recording):
    """Frames in a SigMF recording or archive.

    Samples of recordings made elsewhere become complex64, integers divided by their full scale.

    Raises:
        RecordingError: It is not SigMF, or of a kind that is not read.
    """

    format = "sigmf"

    def __init__(self, path: Path, limits: Limits = DEFAULT_LIMITS, frame_samples: int = 1024) -> None:
        super().__init__(path, limits)
        self._foreign_samples = frame_samples
        self._offset = 0
        if path.suffix == ".sigmf":
            self._meta = self._open_archive(path)
        else:
            self._meta = load_meta(path.with_suffix(".sigmf-meta"))
            self._file = ReadFile(path.with_suffix(".sigmf-data"))
            self._size = self._file.size
        try:
            self._check_global()
        except RecordingError:
            self.close()
            raise
        self._n_samples, rest = divmod(self._size, self._sample_bytes)
        self.closed = self._meta.closed
        if not self.closed:
            self._problem("not closed: read from its journal")
        if not all("hil:header" in capture for capture in self._meta.captures) and (text := violation(self._meta)):
            self._problem(f"its metadata are not as SigMF has them: {text}")
        if rest:
            self._problem(f"{rest} bytes of an incomplete sample at the end of {self._file.path}")

    def streams(self) -> tuple[str, ...]:
        headers = [row.get("hil:header") for row in (*self._meta.captures, *self._meta.annotations)]
        names = [str(h.get("stream")) if isinstance(h, dict) else None for h in headers]
        if any(name is None for name in names[: len(self._meta.captures)]) or not self._meta.captures:
            names.insert(0, FOREIGN_STREAM)
        return tuple(dict.fromkeys(name for name in names if name))

    def close(self) -> None:
        self._file.close()

    def _open_archive(self, path: Path) -> SigmfMeta:
        self._file = ReadFile(path)
        try:
            with tarfile.open(path, "r:") as archive:
                found = {Path(m.name).suffix: m for m in archive.getmembers() if m.isfile()}
                if not {".sigmf-meta", ".sigmf-data"} <= set(found):
                    raise RecordingError(
                        f"{path}: expected .sigmf-meta and .sigmf-data in the archive, got {set(found)}"
                    )
                data = found[".sigmf-data"]
                self._offset, self._size = data.offset_data, min(data.size, self._file.size - data.offset_data)
                meta = found[".sigmf-meta"]
                text = self._file.read(meta.offset_data, min(meta.size, self._file.size))
            return parse_meta(text, f"{path}:{meta.name}")
        except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
            self.close()
            raise RecordingError(f"{path} is no SigMF archive: {error}") from error
        except RecordingError:
            self.close()
            raise

    def _check_global(self) -> None:
        common = self._meta.common
        datatype, n_channels = common.get("core:datatype"), common.get("core:num_channels", 1)
        if not _DATATYPE.fullmatch(str(datatype)):
            raise RecordingError(f"{self.path}: core:datatype {str(datatype)[:40]!r} is not read, only complex samples")
        if type(n_channels) is not int or not 0 < n_channels <= 65536:
            raise RecordingError(f"{self.path}: core:num_channels: expected 1 to 65536, got {str(n_channels)[:40]}")
        rate = common.get("core:sample_rate")
        if rate is not None and (type(rate) not in (int, float) or not 0 < rate < float("inf")):
            raise RecordingError(f"{self.path}: core:sample_rate: expected a number above 0, got {str(rate)[:40]}")
        if any("core:header_bytes" in capture for capture in self._meta.captures):
            raise RecordingError(f"{self.path}: samples with headers between them (core:header_bytes) are not read")
        self._rate = None if rate is None else float(rate)
        self._scalar: np.dtype[Any] = dtype_info(datatype)["component_dtype"]
        self._n_channels = n_channels
        self._sample_bytes = 2 * self._scalar.itemsize * n_channels

    # -- frames ----------------------------------------------------------------------------------------------------

    def _walk(self, streams: Collection[str] | None) -> Iterator[tuple[int, Frame]]:
        """Segments and annotations in the order of their samples; annotations first where both are due."""
        waiting = iter(self._meta.annotations)
        due = next(waiting, None)
        now_ns = 0
        for start, frame in self._samples():
            while due is not None and due["core:sample_start"] <= start:
                beside = self._annotation(due)
                due = next(waiting, None)
                if beside is not None and (streams is None or beside.header.stream in streams):
                    yield _time(beside.header, now_ns), beside
            now_ns = _time(frame.header, round(start / self._rate * 1e9) if self._rate else now_ns)
            if streams is None or frame.header.stream in streams:
                yield now_ns, frame
        while due is not None and due["core:sample_start"] <= self._n_samples:
            beside = self._annotation(due)
            due = next(waiting, None)
            if beside is not None and (streams is None or beside.header.stream in streams):
                yield _time(beside.header, now_ns), beside

    def _samples(self) -> Iterator[tuple[int, Frame]]:
        """Frames of the sample stream, each with the index of its first sample in the file."""
        captures = [c for c in self._meta.captures if c["core:sample_start"] < self._n_samples]
        if len(captures) < len(self._meta.captures):
            self._problem(f"{len(self._meta.captures) - len(captures)} segments begin behind the end of the samples")
        if not self._n_samples:
            return
        captures = captures or [{"core:sample_start": 0}]
        ends = [c["core:sample_start"] for c in captures[1:]] + [self._n_samples]
        foreign = ForeignSegments(self._meta.common, self._rate, self._foreign_samples, self._read_samples)
        for capture, end in zip(captures, ends, strict=True):
            start = capture["core:sample_start"]
            try:
                if "hil:header" in capture:
                    yield from self._own_segment(capture, start, end)
                else:
                    yield from foreign.segment(capture, start, end)
            except HilError as error:
                self._problem(f"damaged: the segment at sample {start}: {error}")

    def _own_segment(self, capture: dict[str, Any], start: int, end: int) -> Iterator[tuple[int, Frame]]:
        first = header_of(capture["hil:header"], self.limits)
        spec = sample_spec(first)
        if (
            spec is None
            or sample_datatype(spec) != self._meta.common["core:datatype"]
            or spec.shape[0] != self._n_channels
        ):
            raise RecordingError(f"hil:header describes {'; '.join(map(str, first.arrays)) or 'no array'}")
        n_frames, rest = divmod(end - start, spec.shape[1])
        for n in range(n_frames):
            at = start + n * spec.shape[1]
            interleaved = self._read_samples(at, spec.shape[1]).reshape(spec.shape[1], self._n_channels, 2)
            pairs = np.ascontiguousarray(np.swapaxes(interleaved, 0, 1))
            array = pairs if len(spec.shape) == 3 else pairs.view(spec.dtype)[..., 0]
            yield at, Frame(header_after(first, n), {spec.name: array})
        if rest:
            self._problem(f"{rest} samples of an incomplete frame at sample {end - rest}")

    def _read_samples(self, start: int, n: int) -> AnyArray:
        """Read ``n`` samples of all channels: ``[n * channels * 2]`` real numbers."""
        n_bytes = n * self._sample_bytes
        if n_bytes > self.limits.array_bytes:
            raise RecordingError(f"a frame of {n} samples is {n_bytes} bytes, the limit is {self.limits.array_bytes}")
        data = self._file.read(self._offset + start * self._sample_bytes, n_bytes)
        if len(data) != n_bytes:
            raise RecordingError(f"{self._file.path} has {len(data)} of {n_bytes} bytes at sample {start}")
        return np.frombuffer(data, self._scalar)

    def _annotation(self, plain: dict[str, Any]) -> Frame | None:
        """The frame in an annotation; one that is made elsewhere holds none."""
        if "hil:header" not in plain:
            return None
        try:
            header = header_of(plain["hil:header"], self.limits)
            return Frame(header, arrays_of(header, plain.get("hil:arrays", [])))
        except RecordingError as error:
            self._problem(f"damaged: an annotation at sample {plain['core:sample_start']}: {error}")
            return None


def _time(header: Header, otherwise_ns: int) -> int:
    return otherwise_ns if header.time_ns is None else header.time_ns

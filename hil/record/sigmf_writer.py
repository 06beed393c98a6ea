"""The samples of one stream into a SigMF recording, with small streams beside them as annotations."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from hil.descriptor import array_of
from hil.errors import RecordingError
from hil.frame import ArraySpec, Frame, Header
from hil.record.sigmf_format import header_after, plain_header, sample_datatype, sample_spec
from hil.record.sigmf_meta import SigmfMeta, journal_line
from hil.record.sigmf_resume import resume
from hil.record.sigmf_rows import annotation_row, capture_row, global_row
from hil.record.storage import AppendFile
from hil.record.writer import Existing
from hil.wire import Buffer

log = logging.getLogger(__name__)


class SigmfWriter:
    """Writer of ``NAME.sigmf-data`` and ``NAME.sigmf-meta``.

    While it grows, everything that the metadata will hold is also a line of ``NAME.sigmf-journal``, because
    metadata that are written anew for every frame would take longer and longer. The metadata themselves are there
    from the first frame on; they are written anew when they have doubled, and when the recording is closed, which
    removes the journal and adds the hash of the samples.

    Raises:
        RecordingError: The files exist or cannot be opened.
    """

    def __init__(self, path: Path, existing: Existing = "refuse", *, chunk_bytes: int = 1 << 20) -> None:
        self.n_frames = 0
        self.n_unflushed = 0
        self.oldest_unflushed_s: float | None = None
        self._chunk_bytes = chunk_bytes
        self._meta_path = path.with_suffix(".sigmf-meta")
        self._meta = SigmfMeta()
        self._spatial: dict[str, Any] = {}
        self._descriptors: dict[str, dict[str, Any]] = {}
        self._stream = ""
        self._first: Header | None = None
        self._n_in_segment = 0
        self._n_samples = 0
        self._lines: list[bytes] = []
        self._samples: list[Buffer] = []
        self._sample_bytes = 0
        self._meta_due = 1
        self._closed_bytes: int | None = None  # what is there instead of the journal
        journal = path.with_suffix(".sigmf-journal")
        if existing == "refuse" and (self._meta_path.exists() or journal.exists()):
            raise RecordingError(f"{self._meta_path} exists: choose another path, or overwrite=true to replace it")
        self._data = AppendFile(path.with_suffix(".sigmf-data"), existing)
        #: Of all samples; None where it is left to the end, because some were here before.
        self._hash: hashlib._Hash | None = hashlib.sha512()
        try:
            if existing == "append" and self._data.size:
                self._go_on(journal)
            elif existing != "refuse":
                self._meta_path.unlink(missing_ok=True)
            self._journal = AppendFile(
                journal, "append" if self._hash is None else "refuse" if existing == "refuse" else "overwrite"
            )
        except (OSError, RecordingError) as error:
            self._data.close()
            raise RecordingError(f"cannot record to {self._data.path}: {error}") from error

    @property
    def n_bytes(self) -> int:
        return self._data.size + (self._journal.size if self._closed_bytes is None else self._closed_bytes)

    def write(self, frame: Frame) -> None:
        header = frame.header
        spec = sample_spec(header)
        if spec is not None and self._stream in ("", header.stream):
            self._take_samples(frame, spec)
        elif header.kind == "descriptor":
            self._take_descriptor(frame)
        else:
            self._annotate(frame)
        if not self.n_unflushed:
            self.oldest_unflushed_s = time.monotonic()
        self.n_unflushed += 1
        self.n_frames += 1
        if self._sample_bytes >= self._chunk_bytes:
            self.flush()

    def flush(self, *, sync: bool = False) -> None:
        if self.n_unflushed:
            # Segments first: samples without their segment would be taken for more of the one before
            self._journal.append(self._lines)
            self._lines = []
            self._data.append(self._samples)
            if self._hash is not None:
                for piece in self._samples:
                    self._hash.update(piece)
            self._samples, self._sample_bytes = [], 0
            self.n_unflushed = 0
            self.oldest_unflushed_s = None
            if self._meta.common and len(self._meta.captures) + len(self._meta.annotations) >= self._meta_due:
                self._write_meta()
                self._meta_due = 2 * (len(self._meta.captures) + len(self._meta.annotations))
        if sync:
            self._journal.sync()
            self._data.sync()

    def close(self, *, discard: bool = False) -> None:
        try:
            if discard:
                # The journal says what the samples are; what was given up must not be told of as if it were there
                return
            self.flush()
            if self._meta.common:
                self._meta.common["core:sha512"] = (self._hash or self._hash_all()).hexdigest()
                self._write_meta()
            else:
                log.warning("%s: no samples came, so there is no recording", self._meta_path)
                self._data.path.unlink()
            self._journal.path.unlink()
            self._closed_bytes = self._meta_path.stat().st_size if self._meta.common else 0
        finally:
            self._data.close()
            self._journal.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _take_samples(self, frame: Frame, spec: ArraySpec) -> None:
        header = frame.header
        if not self._meta.common:
            self._begin(header, spec)
        if (
            sample_datatype(spec) != self._meta.common["core:datatype"]
            or spec.shape[0] != self._meta.common["core:num_channels"]
        ):
            was = f"{self._meta.common['core:datatype']} of {self._meta.common['core:num_channels']} channels"
            raise RecordingError(f"{self._meta_path}: a SigMF recording is of one kind, {was}, got {spec}: use .mcap")
        rate_hz = self._meta.common.get("core:sample_rate")
        if header.sample_rate_hz != rate_hz:
            raise RecordingError(
                f"{self._meta_path}: a SigMF recording has one sample rate, {rate_hz} Hz, "
                f"got {header.sample_rate_hz} Hz: use .mcap"
            )
        follows = header.replace(host_time_ns=None)
        if self._first is None or header_after(self._first, self._n_in_segment) != follows:
            self._begin_segment(header)
        # [sensor, snapshot, ...] -> channels interleaved
        samples = np.ascontiguousarray(np.swapaxes(frame[spec.name], 0, 1)).reshape(-1).view(np.uint8)
        self._samples.append(samples.copy() if np.shares_memory(samples, frame[spec.name]) else samples)
        self._sample_bytes += samples.nbytes
        self._n_samples += spec.shape[1]
        self._n_in_segment += 1

    def _begin(self, header: Header, spec: ArraySpec) -> None:
        self._stream = header.stream
        self._meta.common = global_row(header, spec, self._spatial.get("global", {}))
        self._line("global", self._meta.common)

    def _begin_segment(self, header: Header) -> None:
        self._first, self._n_in_segment = header, 0
        # Geometry is said where it begins to hold and not in every segment: of bursts there are many, of elements too
        capture = capture_row(header, self._n_samples, self._spatial.pop("captures", {}))
        self._meta.captures.append(capture)
        self._line("capture", capture)

    def _take_descriptor(self, frame: Frame) -> None:
        """Keep a description once, however often it is repeated in the stream."""
        plain = plain_header(frame.header)
        said = self._descriptors.get(frame.header.stream)
        self._descriptors[frame.header.stream] = {"meta": plain.get("meta"), "epoch": frame.header.epoch}
        if said == self._descriptors[frame.header.stream]:
            return
        self._annotate(frame)
        if "array" in frame.header.meta:
            self._spatial = array_of(frame).to_sigmf_spatial()
            self._first = None  # the next samples begin a segment that has it

    def _annotate(self, frame: Frame) -> None:
        annotation = annotation_row(frame, self._n_samples)
        self._meta.annotations.append(annotation)
        self._line("annotation", annotation)

    def _line(self, kind: str, value: dict[str, Any]) -> None:
        self._lines.append(journal_line(kind, value))

    def _write_meta(self) -> None:
        """Replace the metadata in one step: a reader sees the old or the new."""
        new = self._meta_path.with_suffix(".sigmf-meta.new")
        try:
            new.write_text(json.dumps(self._meta.objects(), indent=1, allow_nan=False))
            os.replace(new, self._meta_path)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    def _go_on(self, journal: Path) -> None:
        """Take up a recording where its last whole frame ends; the next samples begin a segment of their own."""
        whole = resume(self._meta_path, self._data.size)
        new = journal.with_suffix(".sigmf-journal.new")
        new.write_bytes(b"".join(whole.meta.lines()))
        os.replace(new, journal)
        self._data.truncate(whole.n_bytes)
        self._meta, self._n_samples, self._stream, self._hash = whole.meta, whole.n_samples, whole.stream, None

    def _hash_all(self) -> hashlib._Hash:
        with self._data.path.open("rb") as file:
            return hashlib.file_digest(file, "sha512")

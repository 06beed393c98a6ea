"""Where a SigMF recording goes on that its writer left."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hil.errors import RecordingError
from hil.record.sigmf_format import header_of, sample_spec
from hil.record.sigmf_meta import SigmfMeta, load_meta
from hil.wire import DEFAULT_LIMITS


class Resumed(NamedTuple):
    """What is whole: metadata of it, its samples, the bytes that these are, and the stream that they are of."""

    meta: SigmfMeta
    n_samples: int
    n_bytes: int
    stream: str


def resume(meta_path: Path, data_bytes: int) -> Resumed:
    """Find the last whole frame of a recording whose samples are ``data_bytes`` long, and what is known up to it.

    Raises:
        RecordingError: It was not written by a recorder.
    """
    meta = load_meta(meta_path)
    if not meta.captures or not all("hil:header" in c for c in meta.captures) or "core:num_channels" not in meta.common:
        raise RecordingError("it was not written by a recorder: choose another path")
    segments = []
    for capture in meta.captures:
        header = header_of(capture["hil:header"], DEFAULT_LIMITS)
        spec = sample_spec(header)
        if spec is None:
            raise RecordingError("it was not written by a recorder: a segment is of no samples: choose another path")
        segments.append((capture["core:sample_start"], header.stream, spec))
    first = segments[0][2]
    sample_bytes = first.n_bytes // first.shape[1]
    n_samples = data_bytes // sample_bytes
    start, stream, spec = next((row for row in reversed(segments) if row[0] <= n_samples), segments[0])
    n_samples -= (n_samples - start) % spec.shape[1]
    meta.captures = [c for c in meta.captures if c["core:sample_start"] < n_samples]
    meta.annotations = [a for a in meta.annotations if a["core:sample_start"] <= n_samples]
    meta.common.pop("core:sha512", None)
    return Resumed(meta, n_samples, n_samples * sample_bytes, stream)

"""The objects of SigMF metadata that a recorder writes: ``global``, captures and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.frame import ArraySpec, Frame, Header
from hil.record.sigmf_format import plain_arrays, plain_header, sample_datatype, utc_text

#: Of SigMF, as the files are written, whatever the installed package knows.
VERSION = "1.2.0"
EXTENSIONS = [
    {"name": "spatial", "version": "1.1.0", "optional": True},
    {"name": "hil", "version": "1.0.0", "optional": True},
]


def global_row(header: Header, spec: ArraySpec, spatial: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for all samples, of which ``spec`` is the first array."""
    row = {
        "core:datatype": sample_datatype(spec),
        "core:version": VERSION,
        "core:num_channels": spec.shape[0],
        "core:recorder": "hil-receiver",
        "core:extensions": EXTENSIONS,
        **spatial,
    }
    if header.sample_rate_hz is not None:
        row["core:sample_rate"] = header.sample_rate_hz
    return row


def capture_row(header: Header, at_sample: int, spatial: Mapping[str, Any]) -> dict[str, Any]:
    """A segment that begins at ``at_sample`` with the frame of ``header``."""
    row: dict[str, Any] = {"core:sample_start": at_sample}
    if header.sample_start is not None:
        row["core:global_index"] = header.sample_start
    if header.frequency_hz is not None:
        row["core:frequency"] = header.frequency_hz
    if header.timebase == "utc" and header.time_ns is not None:
        row["core:datetime"] = utc_text(header.time_ns)
    return {**row, **spatial, "hil:header": plain_header(header)}


def annotation_row(frame: Frame, at_sample: int) -> dict[str, Any]:
    """A frame that came before ``at_sample``.

    Raises:
        StreamRefused: It does not fit.
    """
    header = frame.header
    if header.kind == "descriptor":
        label = "descriptor"
    elif header.kind == "event":
        label = str(header.meta.get("event", "event"))
    else:
        label = header.stream.split(".")[-1]
    row = {
        "core:sample_start": at_sample,
        "core:label": label,
        "core:generator": "hil-receiver",
        "hil:header": plain_header(header),
    }
    if header.arrays:
        row["hil:arrays"] = plain_arrays(frame)
    return row

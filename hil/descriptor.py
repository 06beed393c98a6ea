"""The array description that travels in-band, so that a late subscriber knows geometry and channel map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.array import ArrayGeometry
from hil.errors import ParamError, WireError
from hil.frame import Frame, Header


def descriptor_frame(header: Header, array: ArrayGeometry, extra: Mapping[str, Any] | None = None) -> Frame:
    """Return the descriptor of ``array`` for the stream that ``header`` names; ``extra`` must be plain values."""
    meta = {"array": array.to_dict(), **(extra or {})}
    return Frame(header.replace(kind="descriptor", array_id=array.array_id, arrays=(), meta=meta))


def array_of(frame: Frame) -> ArrayGeometry:
    """Return the array that a descriptor frame describes.

    Raises:
        WireError: The frame is no descriptor, or what it describes is no array.
    """
    plain = frame.header.meta.get("array")
    if frame.header.kind != "descriptor" or not isinstance(plain, Mapping):
        raise WireError(f"frame of {frame.header.stream!r} ({frame.header.kind}) describes no array")
    try:
        return ArrayGeometry.from_dict(plain)
    except (KeyError, TypeError, ValueError, ParamError) as error:
        raise WireError(f"descriptor of {frame.header.stream!r}: {type(error).__name__}: {error}") from error

"""A frame as one run of bytes: the parts of the wire behind their lengths. What a recording holds for a message.

::

    u32  number of parts n, little-endian
    u32  0
    u64  length of each part, n times
    n times: zeros up to a multiple of 64 bytes from the start, then the part

The parts are :func:`hil.wire.encode`'s, so whoever reads the wire reads recordings. The zeros let arrays be read
where they lie.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from hil.errors import WireError
from hil.frame import AnyArray, Frame
from hil.wire import DEFAULT_LIMITS, Buffer, Limits, decode

ALIGNMENT = 64
_ZEROS = bytes(ALIGNMENT)

#: What an MCAP schema says of messages in this form.
DESCRIPTION = (
    "u32 n, u32 0, n x u64 part length, then each part after zeros up to a multiple of 64 bytes from the start. "
    "Part 0: stream name, UTF-8. Part 1: header, a MessagePack map. Then the C-ordered little-endian bytes of each "
    "array in the order of the header's list 'arrays' (name, core:datatype, shape, axes, unit)."
)


def pack_parts(parts: Sequence[Buffer]) -> list[Buffer]:
    """Return the pieces that, one after another, are the packed form of ``parts``."""
    views = [memoryview(part).cast("B") if memoryview(part).nbytes else memoryview(b"") for part in parts]
    head = struct.pack(f"<II{len(views)}Q", len(views), 0, *(v.nbytes for v in views))
    pieces: list[Buffer] = [head]
    at = len(head)
    for view in views:
        gap = -at % ALIGNMENT
        pieces += [_ZEROS[:gap], view]
        at += gap + view.nbytes
    return pieces


def unpack_frame(data: Buffer, limits: Limits = DEFAULT_LIMITS) -> Frame:
    """Return the frame that ``data`` packs. Its arrays own their memory, aligned as if they had just been made.

    Raises:
        WireError: The lengths do not add up to ``data``, or the parts are not a frame.
    """
    view = memoryview(data)
    if view.nbytes < 8:
        raise WireError(f"a packed frame has at least 8 bytes, got {view.nbytes}")
    n_parts = int.from_bytes(view[:4], "little")
    start = 8 + 8 * n_parts
    if n_parts > limits.arrays + 2 or start > view.nbytes:
        raise WireError(f"packed frame: expected up to {limits.arrays + 2} parts in {view.nbytes} bytes, got {n_parts}")
    lengths = struct.unpack_from(f"<{n_parts}Q", view, 8)
    bounds = []
    for length in lengths:
        start += -start % ALIGNMENT
        bounds.append((start, start + length))
        start += length
    if start != view.nbytes:
        raise WireError(f"packed frame: its {n_parts} parts take {start} bytes, got {view.nbytes}")
    whole = _aligned_copy(view).data
    return decode([whole[a:b] for a, b in bounds], limits)


def _aligned_copy(view: memoryview) -> AnyArray:
    memory = np.empty(view.nbytes + ALIGNMENT, np.uint8)
    offset = -memory.__array_interface__["data"][0] % ALIGNMENT
    copy = memory[offset : offset + view.nbytes]
    copy[:] = np.frombuffer(view, np.uint8)
    return copy

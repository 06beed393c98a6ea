"""One jig for every block: the same input whole, snapshot by snapshot, in random chunks, and across the wire.

A block that works snapshot by snapshot, or keeps state of its own between frames, must give the same whatever the
chunking (:func:`check_block`). A block for which a frame is one measurement is checked frame by frame
(:func:`check_frames`): directly, with read-only memory, and across the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hil.block import Block
from hil.frame import AnyArray, Frame, Header
from hil.port import Field
from hil.wire import decode, encode

#: Axes along which a stream goes on from frame to frame.
STREAMING = ("snapshot", "sample")


def check_block(
    make: Callable[[], Block],
    x: AnyArray,
    expected: npt.ArrayLike,
    *,
    rtol: float,
    atol: float,
    descriptor: Frame | None = None,
    seed: int = 1,
) -> None:
    """Run a block of one input and one output whole, by single snapshots, in random chunks, across the wire.

    Args:
        make: Makes a new block; each way of cutting gets its own.
        x: All samples; the port says which axis is cut.
        expected: What must come out: along the same axis if the output has it, else one array a frame.
        descriptor: Sent first, where the block needs to know the array.
    """
    block = make()
    ((port, _),) = block.inputs.items()
    axis = _declared(block).axes.index(next(a for a in _declared(block).axes if a in STREAMING))
    n = x.shape[axis]
    rng = np.random.default_rng(seed)
    cuts = np.sort(rng.choice(np.arange(1, n), size=min(5, n - 1), replace=False)) if n > 1 else np.array([], int)
    ways = {
        "whole": [x],
        "snapshot by snapshot": np.split(x, n, axis),
        "random chunks": np.split(x, cuts, axis),
    }
    for way, chunks in ways.items():
        for wired in (False, True):
            got = _run(make(), port, _frames(block, chunks, axis), descriptor, wired=wired)
            label = f"{way}{', across the wire' if wired else ''}"
            np.testing.assert_allclose(_joined(block, got), np.asarray(expected), rtol=rtol, atol=atol, err_msg=label)


def check_frames(
    make: Callable[[], Block],
    frames: Sequence[Frame] | Sequence[tuple[str, Frame]],
    check: Callable[[list[tuple[str, Frame]]], None],
) -> None:
    """Feed frames as they are, as read-only memory, and across the wire; ``check`` each time what came out.

    Args:
        frames: For the only input, or each with its port.
        check: Asserts on the ``(output, frame)`` list, ``flush`` included.
    """
    for wired in (False, True):
        block = make()
        out: list[tuple[str, Frame]] = []
        for item in frames:
            port, frame = item if isinstance(item, tuple) else (next(iter(block.inputs)), item)
            out += block.feed(port, across_the_wire(frame) if wired else _read_only(frame))
        check(out + block.finish())


def across_the_wire(frame: Frame) -> Frame:
    """The frame as another process gets it: read-only views of received bytes."""
    return decode([bytes(memoryview(part)) for part in encode(frame)])


def _declared(block: Block, *, output: bool = False) -> Field:
    ((_, port),) = (block.outputs if output else block.inputs).items()
    assert port.fields is not None and port.single is not None, "check_block is for ports of one array"
    return port.fields[port.single]


def _frames(block: Block, chunks: Iterable[AnyArray], axis: int) -> list[Frame]:
    declared = _declared(block)
    frames, start = [], 0
    for seq, chunk in enumerate(chunks):
        header = Header(stream="test.x", seq=seq, sample_start=start, sample_rate_hz=1e6)
        frames.append(Frame.of(header, x=(np.ascontiguousarray(chunk), " ".join(declared.axes), declared.unit)))
        start += chunk.shape[axis]
    return frames


def _run(block: Block, port: str, frames: list[Frame], descriptor: Frame | None, *, wired: bool) -> list[AnyArray]:
    out: list[tuple[str, Frame]] = []
    if descriptor is not None:
        block.feed(port, descriptor)
    for frame in frames:
        out += block.feed(port, across_the_wire(frame) if wired else _read_only(frame))
    out += block.finish()
    return [next(iter(frame.arrays.values())) for _, frame in out if frame.header.kind == "data"]


def _joined(block: Block, got: list[AnyArray]) -> AnyArray:
    axes = _declared(block, output=True).axes
    streaming = [i for i, a in enumerate(axes) if a in STREAMING]
    assert got, "nothing came out"
    return np.concatenate(got, axis=streaming[0]) if streaming else np.stack(got)


def _read_only(frame: Frame) -> Frame:
    """Blocks of one worker share memory: one that writes into its input must fail here."""
    arrays: dict[str, Any] = {}
    for name, array in frame.arrays.items():
        arrays[name] = array.view()
        arrays[name].flags.writeable = False
    return Frame(frame.header, arrays)

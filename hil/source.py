"""Sources: nodes that have outputs only and read a device, a feed or a file. Drivers are sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from hil.block import Node
from hil.frame import Frame
from hil.port import Port

#: What one read gives: frames with their output port; empty where nothing came in time; ``None`` at the end.
Reading = Sequence[tuple[str, Frame]] | None


class Source(Node):
    """Base of everything that emits frames of its own.

    A source runs in a process of its own, which can be killed and restarted; ``open`` is then called anew. Overflow,
    gap, retune and reconnect are event frames in the stream, not exceptions that end the run.

    Attributes:
        finite: The stream ends by itself (a file). A finite source is not reopened when it fails.
        contiguous: Frames of each output are numbered without gaps, so a gap behind it is a loss even where nobody
            reported one.
        verbs: Names of methods that the control plane may call, e.g. ``("tune", "set_gain")``.
    """

    inputs: ClassVar[Mapping[str, Port]] = {}
    finite: ClassVar[bool] = False
    contiguous: ClassVar[bool] = True

    def open(self) -> None:
        """Connect to the device.

        Raises:
            DriverError: Says what, why and what to do.
        """

    def read(self, timeout_s: float) -> Reading:
        """Return what came, waiting at most ``timeout_s`` for it."""
        raise NotImplementedError(f"{type(self).__name__} has no read()")

    def resume(self, seq: int) -> None:
        """Called before ``open`` after a restart: frames up to ``seq`` were delivered before. A file skips them."""

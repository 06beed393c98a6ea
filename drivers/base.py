"""What all drivers share: declared capabilities, and errors that say what, why and what to do.

A driver is a :class:`hil.source.Source`: ``open``, ``read``, ``close``, and what its device can do as ``verbs``. It
runs in a process of its own that may be killed at any time, so it keeps nothing that a new one could not find again.
``read`` always returns within its time-out. Overflow, gap, retune and reconnect are event frames; only what ends the
run raises :class:`~hil.errors.DriverError`.
"""

from __future__ import annotations

from hil.errors import DriverError
from hil.frame import Timebase
from hil.params import Params
from hil.source import Source


class Capabilities(Params, frozen=True):
    """What a device can do. ``None``: not known before it is open, or it cannot.

    Attributes:
        channels: Number of channels.
        tune_hz: Lowest and highest centre frequency that it can be tuned to while it runs.
        gain_db: Lowest and highest gain that can be set while it runs.
        sample_rate_hz: Lowest and highest sample rate that can be set while it runs.
        timebase: The time that frames carry.
        sync: The channels are sampled by one clock and keep their phases relative to one another.
    """

    channels: int | None = None
    tune_hz: tuple[float, float] | None = None
    gain_db: tuple[float, float] | None = None
    sample_rate_hz: tuple[float, float] | None = None
    timebase: Timebase | None = None
    sync: bool = False


class Driver(Source):
    """Base of all drivers."""

    def capabilities(self) -> Capabilities:
        """Return what the device can do; more is known once it is open."""
        return Capabilities()

    def failure(self, what: str, why: str, fix: str, kind: type[DriverError] = DriverError) -> DriverError:
        """Make the error to raise: ``<driver> '<name>': <what>: <why>; <fix>``."""
        return kind(f"{type(self).__name__} {self.name!r}: {what}: {why}; {fix}")

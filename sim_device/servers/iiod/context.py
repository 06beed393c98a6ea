"""What an IIO context is: devices with channels and attributes, found by what a client calls them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Direction = Literal["input", "output"]


def fail(number: int, why: str) -> OSError:
    """The error that a client gets as ``-number``."""
    return OSError(number, why)


@dataclass(frozen=True)
class Attribute:
    """One file of the kernel's.

    Attributes:
        read: Its text; raises OSError where it cannot be read.
        write: Takes a text and acts; ``None``: it cannot be written.
        filename: In the kernel, where it differs from the name: attributes that channels share have one file.
    """

    name: str
    read: Callable[[], str]
    write: Callable[[str], None] | None = None
    filename: str | None = None

    def store(self, text: str) -> None:
        if self.write is None:
            raise fail(errno.EACCES, f"{self.name} is read-only")
        self.write(text)


@dataclass(frozen=True)
class ScanElement:
    """Where a channel stands in a buffer, and how its samples are stored, ``le:S12/16>>0``."""

    index: int
    format: str


@dataclass(frozen=True)
class Channel:
    id: str
    direction: Direction
    attributes: Sequence[Attribute] = ()
    name: str | None = None
    scan: ScanElement | None = None


@dataclass(frozen=True, eq=False)
class IioDevice:
    """A device of the context. Channels are kept as clients count them: by scan index, the rest after these."""

    id: str
    name: str
    channels: Sequence[Channel] = ()
    attributes: Sequence[Attribute] = ()
    debug: Sequence[Attribute] = ()
    buffer: Sequence[Attribute] = ()
    label: str | None = None
    ordered: Sequence[Channel] = field(init=False)

    def __post_init__(self) -> None:
        last = len(self.channels)
        ordered = sorted(self.channels, key=lambda c: last if c.scan is None else c.scan.index)
        object.__setattr__(self, "ordered", ordered)

    @cached_property
    def scan_channels(self) -> list[Channel]:
        return [c for c in self.ordered if c.scan is not None]

    @property
    def mask_words(self) -> int:
        """32-bit words of a mask of all its channels."""
        return -(-len(self.channels) // 32)

    def channel(self, direction: Direction, token: str) -> Channel:
        """Find a channel by id or name.

        Raises:
            OSError: ENXIO.
        """
        for c in self.ordered:
            if c.direction == direction and token in (c.id, c.name):
                return c
        raise fail(errno.ENXIO, f"{self.name} has no {direction} channel {token}")


@dataclass(frozen=True)
class Context:
    devices: Sequence[IioDevice]
    description: str
    attributes: dict[str, str] = field(default_factory=dict)

    def device(self, token: str) -> IioDevice:
        """Find a device by id, name or label.

        Raises:
            OSError: ENODEV.
        """
        for d in self.devices:
            if token in (d.id, d.name, d.label):
                return d
        raise fail(errno.ENODEV, f"there is no device {token}")


def attribute_of(attributes: Sequence[Attribute], name: str) -> Attribute:
    """Find an attribute by name.

    Raises:
        OSError: ENOENT.
    """
    for a in attributes:
        if a.name == name:
            return a
    raise fail(errno.ENOENT, f"there is no attribute {name}")

"""What a search says of a device."""

from __future__ import annotations

from typing import Any, NamedTuple


class Found(NamedTuple):
    """A device that answered.

    Attributes:
        kind: What it is: ``iio``, ``usrp``, ``heimdall`` ...
        address: As its driver takes it.
        driver: That reads it; ``None`` where it is not known which.
        channels: How many it has, where it says so.
        name: What it calls itself.
        details: More that it says, plain values.
        simulated: It is one of this package's simulated devices on this host.
    """

    kind: str
    address: str
    driver: str | None
    channels: int | None = None
    name: str = ""
    details: dict[str, Any] = {}
    simulated: bool = False

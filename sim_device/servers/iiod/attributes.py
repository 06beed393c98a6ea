"""Attributes as text: numbers read, values kept, what all receivers have."""

from __future__ import annotations

import errno

from sim_device.servers.iiod.context import Attribute, fail
from sim_device.servers.iiod.radio import Limits, Radio

#: Of a value that is kept and does nothing.
_LONGEST = 4096


def number(text: str) -> float:
    """Read a number with or without a unit, ``20.000000 dB``.

    Raises:
        OSError: EINVAL.
    """
    try:
        value = float(plain(text).split()[0])
        if abs(value) < 1e15:
            return value
    except (ValueError, IndexError):
        pass
    raise fail(errno.EINVAL, f"expected a number, got {text[:40]!r}")


def plain(text: str) -> str:
    """``text`` without the NUL and newline that clients end it with."""
    return text.strip("\0\n ")


def fixed(name: str, text: str, filename: str | None = None) -> Attribute:
    """An attribute that never changes."""
    return Attribute(name, lambda: text, filename=filename)


def kept(
    values: dict[str, str],
    name: str,
    first: str,
    filename: str | None = None,
    limits: Limits | None = None,
    form: str = "{:.0f}",
) -> Attribute:
    """An attribute that is kept in ``values`` and does nothing; a number in ``form`` where there are limits."""
    key = filename or name

    def write(text: str) -> None:
        value = plain(text)[:_LONGEST]
        values[key] = value if limits is None else form.format(limits.check(number(text), name))

    return Attribute(name, lambda: values.get(key, first), write, filename)


def rate(radio: Radio, filename: str) -> Attribute:
    """The sample rate, to be read."""
    return Attribute("sampling_frequency", lambda: str(round(radio.feed.sample_rate_hz)), filename=filename)


def bandwidth(radio: Radio, chip: int, limits: Limits) -> tuple[Attribute, Attribute]:
    """The band of a chip's receivers, and its limits."""
    name = "in_voltage_rf_bandwidth"
    return (
        Attribute(
            "rf_bandwidth",
            lambda: str(round(radio.bandwidth_hz[chip])),
            lambda text: radio.set_bandwidth(number(text), chip),
            name,
        ),
        fixed("rf_bandwidth_available", str(limits), name + "_available"),
    )

"""Which device a frame is from and how it is set: what a calibration belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from hil.array import ArrayGeometry
from hil.frame import Header


class DeviceSettings(NamedTuple):
    """What is not known is ``None`` and is compared with nothing.

    Attributes:
        device: Serial number or name.
        channel_map: ``channel_map[c]`` is the element that channel ``c`` reads.
        frequency_hz: Centre frequency.
        receiver_gain_db: Gain of all channels, or one a channel where they differ.
        temperature_c: Of the device, degrees Celsius.
        n_sensors: Number of channels.
    """

    device: str | None = None
    channel_map: tuple[int, ...] | None = None
    frequency_hz: float | None = None
    receiver_gain_db: float | tuple[float, ...] | None = None
    temperature_c: float | None = None
    n_sensors: int | None = None


def device_settings(
    header: Header, described: Mapping[str, Any], array: ArrayGeometry | None, n_sensors: int
) -> DeviceSettings:
    """Settings of a frame: ``device``, ``gain_db`` and ``temperature_c`` from its ``meta``, else from the descriptor's.

    A descriptor may have them itself or in one of its maps (``{"sim": {"device": ..., "gain_db": ...}}``).
    """
    maps = [header.meta, described, *(v for v in described.values() if isinstance(v, Mapping))]

    def first(name: str) -> Any:
        return next((m[name] for m in maps if m.get(name) is not None), None)

    device, temperature = first("device"), first("temperature_c")
    return DeviceSettings(
        device=device if isinstance(device, str) else None,
        channel_map=None if array is None else array.channel_map,
        frequency_hz=header.frequency_hz,
        receiver_gain_db=_gain(first("gain_db")),
        temperature_c=None if temperature is None else float(temperature),
        n_sensors=n_sensors,
    )


def _gain(gain_db: Any) -> float | tuple[float, ...] | None:
    if isinstance(gain_db, list | tuple):
        gains = tuple(float(g) for g in gain_db)
        return gains[0] if gains and len(set(gains)) == 1 else gains or None
    return None if gain_db is None else float(gain_db)

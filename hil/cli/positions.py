"""Positions for people and programs: a frame of positions or estimates, with truth and pose of the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hil.array import ArrayGeometry
from hil.frame import AnyArray, Frame, Header

#: Keys of a source, in the order in which they are printed.
SOURCE_KEYS = (
    "id",
    "azimuth_rad",
    "elevation_rad",
    "range_m",
    "x_m",
    "y_m",
    "z_m",
    "covariance",
    "power_db",
)
#: Frames that wait for their truth before they go without.
_PATIENCE = 64


def position_record(
    frame: Frame | None, truth: Frame | None = None, array: ArrayGeometry | None = None, pose: Frame | None = None
) -> dict[str, Any]:
    """Plain values of one frame; what is not known is ``None``.

    Args:
        frame: Of positions, tracks or estimates (:mod:`hil.streams`); ``None`` for a receiver that gives its own pose
            only.
        truth: The truth of the same time.
        array: Gives the truth its angles and ranges.
        pose: The receiver's own pose at the same time.

    Returns:
        ``t_ns, seq, epoch, calibration, sources, truth``. ``covariance`` is that of x, y, z in m^2, three rows.
        ``truth`` has the keys of a source, and is ``None`` where no truth is known. Where there is a pose, also
        ``pose``: ``x_m, y_m, z_m, heading_rad``, and ``covariance`` of x, y and heading.
    """
    leading = frame or pose
    assert leading is not None
    header = leading.header
    record: dict[str, Any] = {
        **_record_header(header),
        "sources": [] if frame is None else _sources(frame, None),
        "truth": None if truth is None else _sources(truth, array),
    }
    if pose is not None:
        record["pose"] = _pose(pose)
    return record


def frame_record(frame: Frame) -> dict[str, Any]:
    """What any frame is: its stream, and dtype, axes and shape of its arrays."""
    arrays = {s.name: {"dtype": s.dtype, "axes": s.axes, "shape": s.shape} for s in frame.header.arrays}
    return {**_record_header(frame.header), "stream": frame.header.stream, "arrays": arrays}


class Join:
    """Brings frames and those of other streams of the same time together, which come in any order.

    Args:
        partners: Names of the other streams.
    """

    def __init__(self, partners: Sequence[str]) -> None:
        self._partners: dict[str, dict[tuple[int, int], Frame]] = {name: {} for name in partners}
        self._newest: dict[str, tuple[int, int]] = {}
        self._waiting: deque[Frame] = deque()

    def add_partner(self, name: str, frame: Frame) -> Iterator[tuple[Frame, dict[str, Frame]]]:
        """Take a frame of another stream; yield what waited for it."""
        held, key = self._partners[name], _key(frame.header)
        held[key] = frame.copy()
        self._newest[name] = key
        while len(held) > 4 * _PATIENCE:
            del held[next(iter(held))]
        return self._ready()

    def add(self, frame: Frame) -> Iterator[tuple[Frame, dict[str, Frame]]]:
        """Take a frame; yield, in order, what is ready: each frame with those partners that it has."""
        self._waiting.append(frame.copy())
        return self._ready()

    def finish(self) -> Iterator[tuple[Frame, dict[str, Frame]]]:
        """Yield what still waits."""
        while self._waiting:
            frame = self._waiting.popleft()
            yield frame, self._found(_key(frame.header))

    def _ready(self) -> Iterator[tuple[Frame, dict[str, Frame]]]:
        while self._waiting:
            key = _key(self._waiting[0].header)
            found = self._found(key)
            missing = [n for n in self._partners if n not in found and not self._newest.get(n, (-1, 0)) > key]
            if missing and len(self._waiting) <= _PATIENCE:
                return
            yield self._waiting.popleft(), found

    def _found(self, key: tuple[int, int]) -> dict[str, Frame]:
        return {name: held[key] for name, held in self._partners.items() if key in held}


def _key(header: Header) -> tuple[int, int]:
    """Epoch and time: frames of one source frame have the same."""
    if header.time_ns is not None:
        return header.epoch, header.time_ns
    return header.epoch, header.seq if header.sample_start is None else header.sample_start


def _record_header(header: Header) -> dict[str, Any]:
    return {"t_ns": header.time_ns, "seq": header.seq, "epoch": header.epoch, "calibration": header.calibration}


def _pose(frame: Frame) -> dict[str, Any]:
    x, y, z = frame["position_m"].tolist()
    covariance = frame["pose_covariance"]
    known = covariance.tolist() if np.isfinite(covariance).all() else None
    numbers = {"x_m": x, "y_m": y, "z_m": z, "heading_rad": float(frame["heading_rad"])}
    return {**{name: _known(value) for name, value in numbers.items()}, "covariance": known}


def _sources(frame: Frame, array: ArrayGeometry | None) -> list[dict[str, Any]]:
    arrays = dict(frame.arrays)
    position_m = arrays.get("position_m")
    n = len(position_m if position_m is not None else arrays["azimuth_rad"])
    if position_m is not None and array is not None and "range_m" not in arrays:
        arrays |= _polar(array.from_world(position_m))
    columns: dict[str, list[Any]] = {
        name: arrays[name].tolist() if name in arrays else [None] * n
        for name in ("id", "azimuth_rad", "elevation_rad", "range_m", "power_db")
    }
    for i, axis in enumerate("xyz"):
        columns[f"{axis}_m"] = [None] * n if position_m is None else position_m[:, i].tolist()
    columns["covariance"] = arrays["covariance_m2"].tolist() if "covariance_m2" in arrays else [None] * n
    rows = zip(*(columns[key] for key in SOURCE_KEYS), strict=True)
    return [{key: _known(value) for key, value in zip(SOURCE_KEYS, row, strict=True)} for row in rows]


def _polar(position_m: AnyArray) -> dict[str, AnyArray]:
    x, y, z = position_m.T
    across = np.hypot(x, y)
    return {
        "azimuth_rad": np.arctan2(x, y),
        "elevation_rad": np.arctan2(z, across),
        "range_m": np.hypot(across, z),
    }


def _known(value: Any) -> Any:
    """``None`` for what is no number: the range of a plane wave is infinite, and JSON has no infinity."""
    return None if isinstance(value, float) and not np.isfinite(value) else value

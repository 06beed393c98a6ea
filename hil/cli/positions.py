"""Positions for people and programs: a frame of positions, estimates or a pose, and the truth of the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
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


def position_record(frame: Frame, truth: Frame | None = None, array: ArrayGeometry | None = None) -> dict[str, Any]:
    """Plain values of one frame; what is not known is ``None``.

    Args:
        frame: Of positions, tracks or estimates (:mod:`hil.streams`).
        truth: The truth of the same time.
        array: Gives the truth its angles and ranges.

    Returns:
        ``t_ns, seq, epoch, calibration, sources, truth``. ``covariance`` is that of x, y, z in m^2, three rows.
        ``truth`` has the keys of a source, and is ``None`` where no truth is known.
    """
    return {
        **_record_header(frame.header),
        "sources": _sources(frame, None),
        "truth": None if truth is None else _sources(truth, array),
    }


def pose_record(frame: Frame) -> dict[str, Any]:
    """Plain values of one frame of the receiver's own pose."""
    x, y, z = frame["position_m"].tolist()
    heading, covariance = float(frame["heading_rad"]), frame["pose_covariance"]
    known = bool(np.isfinite(covariance).all())
    pose = {"x_m": x, "y_m": y, "z_m": z, "heading_rad": heading, "covariance": covariance.tolist() if known else None}
    return {**_record_header(frame.header), "pose": {k: _known(v) for k, v in pose.items()}}


def frame_record(frame: Frame) -> dict[str, Any]:
    """What any frame is: its stream, and dtype, axes and shape of its arrays."""
    arrays = {s.name: {"dtype": s.dtype, "axes": s.axes, "shape": s.shape} for s in frame.header.arrays}
    return {**_record_header(frame.header), "stream": frame.header.stream, "arrays": arrays}


class TruthJoin:
    """Brings frames and their truth together, which come in any order; frames go out in theirs."""

    def __init__(self) -> None:
        self._truth: dict[tuple[int, int], Frame] = {}
        self._waiting: deque[Frame] = deque()
        self._newest: tuple[int, int] | None = None

    def add_truth(self, frame: Frame) -> Iterator[tuple[Frame, Frame | None]]:
        """Take a truth frame; yield what waited for it."""
        key = _key(frame.header)
        self._truth[key] = frame.copy()
        self._newest = key
        while len(self._truth) > 4 * _PATIENCE:
            del self._truth[next(iter(self._truth))]
        return self._ready()

    def add(self, frame: Frame) -> Iterator[tuple[Frame, Frame | None]]:
        """Take a frame; yield what is ready, each frame with its truth, or ``None`` where there is none."""
        self._waiting.append(frame.copy())
        return self._ready()

    def finish(self) -> Iterator[tuple[Frame, Frame | None]]:
        """Yield what still waits."""
        while self._waiting:
            frame = self._waiting.popleft()
            yield frame, self._truth.get(_key(frame.header))

    def _ready(self) -> Iterator[tuple[Frame, Frame | None]]:
        while self._waiting:
            key = _key(self._waiting[0].header)
            truth = self._truth.get(key)
            passed = self._newest is not None and self._newest > key
            if truth is None and not passed and len(self._waiting) <= _PATIENCE:
                return
            yield self._waiting.popleft(), truth


def _key(header: Header) -> tuple[int, int]:
    """Epoch and time: frames of one source frame have the same."""
    if header.time_ns is not None:
        return header.epoch, header.time_ns
    return header.epoch, header.seq if header.sample_start is None else header.sample_start


def _record_header(header: Header) -> dict[str, Any]:
    return {"t_ns": header.time_ns, "seq": header.seq, "epoch": header.epoch, "calibration": header.calibration}


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

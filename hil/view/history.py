"""What a picture of a run shows, kept while it runs: at most so many frames, the oldest given up first."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.array import ArrayGeometry
from hil.descriptor import array_of
from hil.frame import AnyArray, Frame, Header
from hil.wavefront import direction_vector

F64 = npt.NDArray[np.float64]

#: Frames that are kept of each stream: of 50 a second, seven minutes.
MAX_FRAMES = 20_000


class Points(NamedTuple):
    """Positions of one frame: ``position_m [source, xyz]`` in the world frame and, where known, ``id [source]``."""

    key: tuple[int, int]
    position_m: F64
    id: npt.NDArray[np.int64] | None


class History:
    """Give each frame of a run to the method of its stream; see :meth:`hil.graph.Graph.expose` for the names.

    Attributes:
        positions, estimates, truth: Points of each frame. Estimates without a range are left out.
        spectrum: Arrays of the newest spectrum frame, and its key.
        array: Geometry of the array, from the descriptors.
        frequency_hz: Of the newest frame that told.
    """

    def __init__(self) -> None:
        self.positions: deque[Points] = deque(maxlen=MAX_FRAMES)
        self.estimates: deque[Points] = deque(maxlen=MAX_FRAMES)
        self.truth: deque[Points] = deque(maxlen=MAX_FRAMES)
        self.spectrum: tuple[tuple[int, int], Mapping[str, AnyArray]] | None = None
        self.array: ArrayGeometry | None = None
        self.frequency_hz: float | None = None

    def add_positions(self, frame: Frame) -> None:
        if self._is_data(frame):
            self.positions.append(_points(frame))

    def add_truth(self, frame: Frame) -> None:
        if self._is_data(frame):
            self.truth.append(_points(frame))

    def add_estimates(self, frame: Frame) -> None:
        if not self._is_data(frame):
            return
        range_m = np.array(frame["range_m"])
        near = np.isfinite(range_m)
        direction = np.asarray(direction_vector(frame["azimuth_rad"][near], frame["elevation_rad"][near]))
        own = range_m[near, None] * direction
        world = own if self.array is None else self.array.to_world(own)
        self.estimates.append(Points(key_of(frame.header), world, None))

    def add_spectrum(self, frame: Frame) -> None:
        if self._is_data(frame):
            self.spectrum = key_of(frame.header), {name: a.copy() for name, a in frame.arrays.items()}

    def _is_data(self, frame: Frame) -> bool:
        header = frame.header
        if header.kind == "descriptor" and "array" in header.meta:
            self.array = array_of(frame)
        if header.frequency_hz is not None:
            self.frequency_hz = header.frequency_hz
        return header.kind == "data"


def key_of(header: Header) -> tuple[int, int]:
    """Epoch and time of a frame (its number, where it has no time): the same in all streams of one source frame."""
    return header.epoch, header.seq if header.time_ns is None else header.time_ns


def _points(frame: Frame) -> Points:
    ids = np.array(frame["id"]) if "id" in frame else None
    return Points(key_of(frame.header), np.array(frame["position_m"]), ids)

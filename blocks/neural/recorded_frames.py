"""Frames of samples in a recording, and where the sources were when each was taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.neural.recorded_streams import DataFrame, complex_samples, data_frames, length
from hil.array import ArrayGeometry
from hil.array_params import Array
from hil.errors import RecordingError
from hil.frame import Frame, Header
from hil.record.recording import open_recording

F64 = npt.NDArray[np.float64]


class TrueFrame(NamedTuple):
    """One frame of samples, not the samples themselves.

    Attributes:
        path: Its recording.
        number: Among the frames of samples there, from 0.
        time_ns: Of its first sample.
        n_snapshots: Its length.
        frequency_hz: Carrier, where the recording says it.
        ids: Of the sources, ascending.
        position_m: Of the sources in the array's frame, ``[source, xyz]``.
        power_db: Of the sources, where the truth says it; all 0 where not.
    """

    path: Path
    number: int
    time_ns: int
    n_snapshots: int
    frequency_hz: float | None
    ids: tuple[int, ...]
    position_m: F64
    power_db: F64


class IndexedRecording(NamedTuple):
    """What was found in one recording; ``left_out`` counts frames of samples by the reason why they are no example."""

    path: Path
    array: ArrayGeometry
    frames: list[TrueFrame]
    n_frames: int
    left_out: Counter[str]


class _Truth(NamedTuple):
    time_ns: int
    ids: tuple[int, ...]
    position_m: F64  # world
    power_db: F64


class _Untrue(NamedTuple):
    frame: TrueFrame  # without sources yet
    array: ArrayGeometry


def index_recording(
    path: Path, *, iq: str, truth: str, within_s: float, array: Array | None = None
) -> IndexedRecording:
    """Read ``path`` once and give each frame of samples the truth nearest in time.

    The truth of the simulated device carries the frames' own times; that of another clock may come at a rate of its
    own. Positions are not interpolated: what a source moves in ``within_s`` is an error of its truth.

    Args:
        path: A recording.
        iq: Stream of samples, by its whole or last name.
        truth: Stream of positions in the world frame.
        within_s: Least and most that a truth may be older or newer than the first sample of a frame.
        array: Geometry and pose, instead of those that the recording describes.

    Raises:
        RecordingError: The recording cannot be read, has no such stream, describes no array or another one later on,
            its times are not known, not those of one clock, or go back.
    """
    left_out: Counter[str] = Counter()
    truths: list[_Truth] = []
    untrue: list[_Untrue] = []
    clocks: dict[str, str | None] = {}
    n_frames = 0
    with open_recording(path) as recording:
        for data in data_frames(recording, iq, truth, array):
            h = data.frame.header
            time_ns = _time_ns(path, h)
            clocks.setdefault(data.kind, "utc" if h.timebase == "host" else h.timebase)
            if data.kind == "truth":
                truths.append(_truth_of(data.frame, time_ns))
                continue
            if untrue and time_ns < untrue[-1].frame.time_ns:
                raise RecordingError(
                    f"{path}: the time of {h.stream!r} goes back at frame {n_frames}, so the device was started again: "
                    "record each of its runs into a file of its own"
                )
            if (why := _unusable(data)) is not None:
                left_out[why] += 1
            elif data.array is not None:
                untrue.append(_Untrue(_plain(path, n_frames, time_ns, data.frame), data.array))
            n_frames += 1
    if n_frames == 0:
        raise RecordingError(f"{path}: no frame of stream {iq!r} in it")
    if not untrue:
        raise RecordingError(f"{path}: none of {n_frames} frames is of use: {told(left_out)}")
    if not truths:
        raise RecordingError(f"{path}: no frame of stream {truth!r} in it: record where the sources are")
    if clocks["iq"] != clocks["truth"]:
        raise RecordingError(
            f"{path}: times of the samples are {clocks['iq']}, those of the truth {clocks['truth']}: they cannot be "
            "joined; record both with one clock"
        )
    frames = list(_joined(untrue, sorted(truths, key=lambda t: t.time_ns), within_s, left_out))
    if not frames:
        off_s = (truths[0].time_ns - untrue[0].frame.time_ns) / 1e9
        raise RecordingError(
            f"{path}: no frame has a source within {within_s:g} s of it; the truth begins {off_s:+.3f} s from the "
            f"samples and has {len(truths)} frames ({told(left_out)}): correct its clock, or allow more by "
            "data.truth_within_s"
        )
    return IndexedRecording(path, _one_array(path, untrue), frames, n_frames, left_out)


def _time_ns(path: Path, header: Header) -> int:
    if header.time_ns is not None:
        return header.time_ns
    if header.sample_start is not None and header.sample_rate_hz is not None:
        return round(header.sample_start / header.sample_rate_hz * 1e9)
    raise RecordingError(f"{path}: frame {header.seq} of {header.stream!r} has no time, so no truth can be told for it")


def _truth_of(frame: Frame, time_ns: int) -> _Truth:
    order = np.argsort(frame["id"], kind="stable")
    position_m = np.array(frame["position_m"], np.float64)[order]
    power_db = np.array(frame["power_db"], np.float64)[order] if "power_db" in frame else np.zeros(len(order))
    return _Truth(time_ns, tuple(frame["id"][order].tolist()), position_m, power_db)


def _plain(path: Path, number: int, time_ns: int, frame: Frame) -> TrueFrame:
    n_snapshots, frequency_hz = length(frame, "snapshot"), frame.header.frequency_hz
    return TrueFrame(path, number, time_ns, n_snapshots, frequency_hz, (), np.empty((0, 3)), np.empty(0))


def _unusable(data: DataFrame) -> str | None:
    """Why a frame is no example, if so."""
    if data.array is None:
        return "before any array descriptor"
    if not data.frame.header.meta.get("usable", True):
        return "not usable, as the device says"
    parts = complex_samples(data.frame, data.raw).view(np.float32)
    power = float(np.vdot(parts, parts))
    return None if np.isfinite(power) and power > 0 else "silent or not finite"


def _joined(
    untrue: list[_Untrue], truths: list[_Truth], within_s: float, left_out: Counter[str]
) -> Iterator[TrueFrame]:
    times = np.array([t.time_ns for t in truths])
    for frame, geometry in untrue:
        behind = int(np.searchsorted(times, frame.time_ns))
        near = min(
            (i for i in (behind - 1, behind) if 0 <= i < len(times)), key=lambda i: abs(int(times[i]) - frame.time_ns)
        )
        true = truths[near]
        if abs(true.time_ns - frame.time_ns) > within_s * 1e9:
            left_out["no truth of its time"] += 1
        elif not true.ids:
            left_out["no source"] += 1
        elif not np.isfinite(true.position_m).all():
            left_out["truth not finite"] += 1
        else:
            yield frame._replace(ids=true.ids, position_m=geometry.from_world(true.position_m), power_db=true.power_db)


def _one_array(path: Path, untrue: list[_Untrue]) -> ArrayGeometry:
    """The first array; its pose may change on the way, its elements may not."""
    first = untrue[0].array
    for frame, geometry in untrue:
        if geometry is not first and geometry.fingerprint != first.fingerprint:
            raise RecordingError(
                f"{path}: the array is another one from frame {frame.number} on: "
                "record one array into a file, or give data.array"
            )
    return first


def told(left_out: Counter[str]) -> str:
    return ", ".join(f"{n} {why}" for why, n in left_out.most_common()) or "none left out"

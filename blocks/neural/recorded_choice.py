"""Which frames of some recordings are for training, which for validation and which for tests."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.neural.place_splits import same_place, split_time
from blocks.neural.recorded_frames import IndexedRecording, TrueFrame, index_recording, told
from blocks.neural.recorded_params import SPLITS, RecordedPlacesParams, Split
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.errors import ParamError, RecordingError
from hil.wavefront import wavelength_m

log = logging.getLogger(__name__)

F64 = npt.NDArray[np.float64]

#: A source this far above or below still counts as level where no elevations are taken.
LEVEL_RAD = 0.05
#: Elements of two recordings may differ by so much, in wavelengths.
_SAME_ARRAY = 1e-3


class Chosen(NamedTuple):
    """Frames of one split, and what they have in common."""

    frames: list[TrueFrame]
    array: ArrayGeometry
    frequency_hz: float
    range_m: tuple[float, float]


def choose_frames(params: RecordedPlacesParams, split: Split) -> Chosen:
    """Frames of ``split``: of its own recordings or its share of the others', less those at the places of a later one.

    Splits follow from the recordings and the parameters, from no seed.

    Raises:
        ParamError: No recordings are named, or too short parts are asked for.
        RecordingError: One cannot be read or has no truth, nothing is left, or array or carrier differ.
    """
    splits = SPLITS[SPLITS.index(split) :]
    files = {s: tuple(dict.fromkeys(params.own_paths(s) or params.paths)) for s in splits}
    if not files[split]:
        raise ParamError(f"data.paths: expected recordings for {split}, got none")
    indexed = {
        path: index_recording(
            Path(path), iq=params.iq, truth=params.truth, within_s=params.truth_within_s, array=params.array
        )
        for path in dict.fromkeys(path for paths in files.values() for path in paths)
    }
    recordings = list(indexed.values())
    frequency_hz = params.frequency_hz or _same_frequency(recordings)
    array = _same_array(recordings, wavelength_m(frequency_hz))
    range_m = params.range_m or _near_field(array, wavelength_m(frequency_hz))
    mine, *later = ([f for path in files[s] for f in _share(indexed[path], params, s)] for s in splits)
    left_out: Counter[str] = sum((indexed[path].left_out for path in files[split]), Counter())
    why = [_unwanted(f, params, array, frequency_hz, range_m) for f in mine]
    left_out.update(reason for reason in why if reason is not None)
    wanted = [f for f, reason in zip(mine, why, strict=True) if reason is None]
    apart_m = wavelength_m(frequency_hz) if params.apart_m is None else params.apart_m
    # away from all that is recorded for later: a test that takes other frames of it shares no place either
    frames = _away(wanted, [f for members in later for f in members], apart_m)
    close = Counter({f"at places of {' or '.join(splits[1:])}": len(wanted) - len(frames)})
    n = sum(indexed[path].n_frames for path in files[split])
    text = f"{split}: {len(frames)} frames of {', '.join(files[split])} with {n}; left out: {told(left_out + close)}"
    if not frames:
        raise RecordingError(
            f"{text}; record longer, let the sources move, or name recordings for each split by itself"
        )
    # that places are kept apart is as it should be; anything else may surprise whoever recorded them
    log.log(logging.WARNING if left_out else logging.INFO, "%s", text)
    return Chosen(frames, array, frequency_hz, range_m)


def _away(frames: Sequence[TrueFrame], others: Sequence[TrueFrame], apart_m: float) -> list[TrueFrame]:
    """Those at no place of the others."""
    shared = same_place([(f.ids, f.position_m) for f in frames], [(f.ids, f.position_m) for f in others], apart_m)
    return [f for f, same in zip(frames, shared.tolist(), strict=True) if not same]


def polar_places(array: ArrayGeometry, position_m: F64) -> tuple[F64, F64, F64]:
    """Azimuth and elevation, rad, and range, m, of points ``[source, xyz]`` in the array's frame, ``[source]`` each.

    A line along x sees the angle from its axis alone: the azimuth is then that of the point before it in the x-y plane,
    at the same angle and range, whose wavefront at the elements is the same.
    """
    range_m = np.linalg.norm(position_m, axis=-1)
    x, y, z = np.moveaxis(position_m, -1, 0)
    sine_x, sine_z = (np.clip(v / np.maximum(range_m, np.finfo(float).tiny), -1.0, 1.0) for v in (x, z))
    if np.ptp(array.position_m[:, 1:], axis=0).max() <= 1e-9 * array.aperture_m:
        return np.arcsin(sine_x), np.zeros_like(range_m), range_m
    return np.arctan2(x, y), np.arcsin(sine_z), range_m


def _share(recording: IndexedRecording, params: RecordedPlacesParams, split: Split) -> list[TrueFrame]:
    """The frames of one recording that lie in the time of ``split``."""
    if params.own_paths(split):
        return recording.frames
    shares = params.shares_of_time()
    if not shares[SPLITS.index(split)]:
        return []
    time_s = np.array([f.time_ns - recording.frames[0].time_ns for f in recording.frames]) / 1e9
    try:
        part = split_time(time_s, shares, params.rounds, params.gap_s)
    except ParamError as error:
        raise ParamError(f"{recording.path}: {error}") from error
    return [f for f, p in zip(recording.frames, part.tolist(), strict=True) if p == SPLITS.index(split)]


def _unwanted(
    frame: TrueFrame,
    params: RecordedPlacesParams,
    array: ArrayGeometry,
    frequency_hz: float,
    range_m: tuple[float, float],
) -> str | None:
    """Why the parameters leave a frame out, if so."""
    if frame.number % params.every:
        return f"all but each {params.every}th"
    if frame.frequency_hz is not None and not _same_carrier(frame.frequency_hz, frequency_hz):
        return f"not at {frequency_hz:.9g} Hz"
    if params.n_sources is not None and not params.n_sources[0] <= len(frame.ids) <= params.n_sources[1]:
        return f"not of {params.n_sources[0]} to {params.n_sources[1]} sources"
    if frame.n_snapshots < (params.n_snapshots_most or params.n_snapshots or 1):
        return "too few snapshots"
    azimuth, elevation, distance = polar_places(array, frame.position_m)
    if np.abs(azimuth).max() > params.azimuth_limit_rad:
        return f"a source beyond azimuth_limit_rad={params.azimuth_limit_rad:.3g}"
    if np.abs(elevation).max() > max(params.elevation_limit_rad, LEVEL_RAD):
        return f"a source beyond elevation_limit_rad={max(params.elevation_limit_rad, LEVEL_RAD):.3g}"
    if distance.min() < range_m[0] or distance.max() > range_m[1]:
        return f"a source not within range_m=[{range_m[0]:.3g}, {range_m[1]:.3g}]"
    return None


def _near_field(array: ArrayGeometry, wavelength: float) -> tuple[float, float]:
    aperture = array.aperture_m
    return fresnel_distance(aperture, wavelength), fraunhofer_distance(aperture, wavelength) / 2


def _same_frequency(recordings: Sequence[IndexedRecording]) -> float:
    found: dict[float, Path] = {}
    for recording in recordings:
        for frame in recording.frames:
            if frame.frequency_hz is None:
                raise RecordingError(f"{recording.path}: its carrier is not known: give data.frequency_hz")
            found.setdefault(frame.frequency_hz, recording.path)
    low, high = min(found), max(found)
    if not _same_carrier(low, high):
        raise RecordingError(
            f"recordings of several carriers, {low:.9g} Hz in {found[low]} and {high:.9g} Hz in {found[high]}: "
            "give data.frequency_hz to take those of one"
        )
    return low


def _same_carrier(one_hz: float, other_hz: float) -> bool:
    return abs(one_hz - other_hz) <= 1e-6 * other_hz


def _same_array(recordings: Sequence[IndexedRecording], wavelength: float) -> ArrayGeometry:
    first = recordings[0]
    for other in recordings[1:]:
        here, there = first.array.channel_position_m, other.array.channel_position_m
        if here.shape != there.shape:
            raise RecordingError(
                f"{first.path} is of {len(here)} channels, {other.path} of {len(there)}: one array each"
            )
        off = float(np.abs(here - there).max()) / wavelength
        if off > _SAME_ARRAY:
            raise RecordingError(
                f"{first.path} and {other.path} are of two arrays, whose elements differ by {off:.2g} wavelengths: "
                "train for one of them, or give data.array"
            )
    return first.array

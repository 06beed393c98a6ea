"""Where the sources are: each stands, follows waypoints, wanders, or keeps a bearing.

Positions are metres in the world frame at a time in seconds since the device started; every motion is a closed form
of time, so that any instant can be asked for in any order. A far source is one at a long range: the wavefront is the
exact one anywhere.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.array import ArrayGeometry
from hil.array_params import Point
from hil.params import Index, Params, Radians, Seconds
from hil.wavefront import direction_vector
from sim_device.draws import Draw, generator
from sim_device.waveforms import Gaussian, Waveform

F64 = npt.NDArray[np.float64]

Component = Annotated[float, Meta(ge=-1e5, le=1e5, extra_json_schema={"unit": "m/s"})]
Velocity = tuple[Component, Component, Component]
Speed = Annotated[float, Meta(gt=0, le=1e5, extra_json_schema={"unit": "m/s"})]
Extent = Annotated[float, Meta(ge=0, le=1e6, extra_json_schema={"unit": "m"})]
Level = Annotated[float, Meta(ge=-200, le=100, extra_json_schema={"unit": "dB"})]

#: Sinusoids an axis of a wandering source.
_N_WANDER = 6


class Stand(Params, frozen=True, tag_field="kind", tag="stand"):
    """Stay at a point of the world."""

    position_m: Point


class Straight(Params, frozen=True, tag_field="kind", tag="straight"):
    """Pass ``position_m`` at ``start_s`` with constant velocity."""

    position_m: Point
    velocity_m_per_s: Velocity = (0.0, 0.0, 0.0)
    start_s: Seconds = 0.0


class Waypoints(Params, frozen=True, cache_hash=True, tag_field="kind", tag="waypoints"):
    """Go from point to point in straight lines at constant speed, leaving the first at ``start_s``."""

    points_m: Annotated[tuple[Point, ...], Meta(min_length=2, max_length=10_000)]
    speed_m_per_s: Speed
    repeat: Annotated[
        Literal["stop", "loop", "bounce"], Meta(description="at the last point: stay, go to the first, go back")
    ] = "stop"
    start_s: Seconds = 0.0

    def __post_init__(self) -> None:
        if any(a == b for a, b in zip(self.points_m, self.points_m[1:], strict=False)):
            raise ValueError("two waypoints that follow one another are the same point: leave one out")


class Wander(Params, frozen=True, cache_hash=True, tag_field="kind", tag="wander"):
    """A smooth random path round ``centre_m`` that never leaves the box ``centre_m +- extent_m``."""

    centre_m: Point
    extent_m: tuple[Extent, Extent, Extent]
    speed_m_per_s: Annotated[Speed, Meta(description="root mean square over time")]

    def __post_init__(self) -> None:
        if not any(self.extent_m):
            raise ValueError("a source that wanders needs an extent above 0 on an axis; use kind 'stand' for none")


class Bearing(Params, frozen=True, tag_field="kind", tag="bearing"):
    """Keep range and elevation, in the array's own frame, and turn round the array's centre at a constant rate."""

    azimuth_rad: Radians
    range_m: Annotated[float, Meta(gt=0, le=1e8, extra_json_schema={"unit": "m"})]
    elevation_rad: Annotated[float, Meta(ge=-math.pi / 2, le=math.pi / 2, extra_json_schema={"unit": "rad"})] = 0.0
    azimuth_rate_rad_per_s: Annotated[float, Meta(ge=-1e3, le=1e3, extra_json_schema={"unit": "rad/s"})] = 0.0


Motion: TypeAlias = Stand | Straight | Waypoints | Wander | Bearing


class Source(Params, frozen=True):
    """One source.

    Sources of one ``group`` are coherent: they send one waveform, each with its own power and phase, so that their
    complex ratios are fixed.
    """

    id: Annotated[Index, Meta(lt=2**31, description="its name in the truth stream and in control verbs")]
    motion: Motion
    power_db: Annotated[
        Level,
        Meta(description="mean power at an ideal element at the array's centre, before the receiver's gain, dBFS"),
    ] = -30.0
    phase_rad: Annotated[Radians, Meta(description="carrier phase at the array's centre")] = 0.0
    waveform: Waveform = Gaussian()
    group: Annotated[Annotated[int, Meta(ge=0, lt=2**31)] | None, Meta(description="coherent group")] = None


class Kinematics(NamedTuple):
    """Position ``[xyz]`` m and velocity ``[xyz]`` m/s in the world frame."""

    position_m: F64
    velocity_m_per_s: F64


def kinematics(source: Source, time_s: float, array: ArrayGeometry, seed: int) -> Kinematics:
    """Where ``source`` is and how it moves at ``time_s`` seconds after the device started."""
    motion = source.motion
    match motion:
        case Stand():
            return Kinematics(np.array(motion.position_m), np.zeros(3))
        case Straight():
            velocity = np.array(motion.velocity_m_per_s)
            return Kinematics(np.array(motion.position_m) + (time_s - motion.start_s) * velocity, velocity)
        case Waypoints():
            return _along_waypoints(motion, time_s)
        case Wander():
            return _wandering(motion, time_s, seed, source.id)
        case Bearing():
            return _on_bearing(motion, time_s, array)


def _along_waypoints(motion: Waypoints, time_s: float) -> Kinematics:
    points, direction, mark = _waypoint_legs(motion)
    way = max(time_s - motion.start_s, 0.0) * motion.speed_m_per_s
    if motion.repeat != "stop":
        way %= float(mark[-1])
    if way >= mark[-1]:
        return Kinematics(points[-1], np.zeros(3))
    leg = int(np.searchsorted(mark, way, side="right")) - 1
    speed = motion.speed_m_per_s if time_s >= motion.start_s else 0.0
    return Kinematics(points[leg] + (way - mark[leg]) * direction[leg], speed * direction[leg])


@lru_cache(maxsize=256)
def _waypoint_legs(motion: Waypoints) -> tuple[F64, F64, F64]:
    """Points ``[point, xyz]`` of one round, unit vectors ``[leg, xyz]`` between them, way to each point, metres."""
    points = np.array(motion.points_m)
    if motion.repeat == "loop" and motion.points_m[0] != motion.points_m[-1]:
        points = np.concatenate([points, points[:1]])
    elif motion.repeat == "bounce":
        points = np.concatenate([points, points[-2::-1]])
    legs = np.diff(points, axis=0)
    length = np.linalg.norm(legs, axis=-1)
    return points, legs / length[:, None], np.concatenate([[0.0], np.cumsum(length)])


def _wandering(motion: Wander, time_s: float, seed: int, source_id: int) -> Kinematics:
    r"""``p_i(t) = c_i + E_i / K sum_k cos(2 pi f_ik t + phi_ik)``, K sinusoids of seeded frequency and phase."""
    amplitude, rate, phase = _wander_path(motion, seed, source_id)
    angle = rate * time_s + phase
    position = np.array(motion.centre_m) + np.sum(amplitude * np.cos(angle), axis=-1)
    return Kinematics(position, -np.sum(amplitude * rate * np.sin(angle), axis=-1))


@lru_cache(maxsize=256)
def _wander_path(motion: Wander, seed: int, source_id: int) -> tuple[F64, F64, F64]:
    """Amplitude ``[3, 1]`` m, angular rate ``[3, K]`` rad/s and phase ``[3, K]`` rad of the sinusoids.

    The rates lie within a factor of 3 of each other and are scaled together to the RMS speed asked for.
    """
    rng = generator(seed, Draw.WANDER, source_id)
    rate, phase = 2 * np.pi * rng.uniform(0.5, 1.5, (3, _N_WANDER)), rng.uniform(0, 2 * np.pi, (3, _N_WANDER))
    amplitude = np.array(motion.extent_m)[:, None] / _N_WANDER
    rate *= motion.speed_m_per_s / np.sqrt(np.sum((amplitude * rate) ** 2) / 2)
    return amplitude, rate, phase


def _on_bearing(motion: Bearing, time_s: float, array: ArrayGeometry) -> Kinematics:
    azimuth, elevation = motion.azimuth_rad + motion.azimuth_rate_rad_per_s * time_s, motion.elevation_rad
    position = motion.range_m * np.asarray(direction_vector(np.array(azimuth), np.array(elevation)))
    tangent = np.array([math.cos(azimuth), -math.sin(azimuth), 0.0]) * math.cos(elevation)
    velocity = motion.range_m * motion.azimuth_rate_rad_per_s * tangent
    return Kinematics(array.to_world(position), array.direction_to_world(velocity))

"""Geometry of an antenna array: element positions, channel map, and its pose in the world.

Array frame: metres, origin at the array's centre (the phase reference), line arrays along x, broadside +y, z
up. World frame: x east, y north, z up (or any right-handed frame of a scene); ``world = R position +
origin_m``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]

_SIGMF_FROM_ARRAY = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # SigMF boresight is +x, left is +y


def _frozen(values: npt.ArrayLike, shape: tuple[int | None, ...], name: str) -> F64:
    """Return a read-only float64 copy of ``values`` after checking its shape and that it is finite."""
    array = np.array(values, dtype=np.float64)
    if array.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        expected = ["any" if want is None else want for want in shape]
        raise ParamError(f"ArrayGeometry.{name}: expected shape {expected}, got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ParamError(f"ArrayGeometry.{name}: every value must be finite, got {array[~np.isfinite(array)][0]}")
    array.flags.writeable = False
    return array


def _quaternion_product(a: F64, b: F64) -> F64:
    (ax, ay, az, aw), (bx, by, bz, bw) = a, b
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayGeometry:
    """Element positions and pose of one array. Immutable, comparable and hashable by content.

    Attributes:
        position_m: Element positions in the array's own frame, ``[sensor, xyz]`` float64, metres.
        array_id: Name that frames carry.
        channel_map: ``channel_map[c]`` is the element that receiver channel ``c`` reads; empty means one
            to one.
        orientation_xyzw: Unit quaternion (x, y, z, w) that turns array-frame vectors into world-frame ones.
        origin_m: Array centre in the world frame, ``[3]`` metres.
    """

    position_m: F64
    array_id: str = "array"
    channel_map: tuple[int, ...] = ()
    orientation_xyzw: F64 = (0.0, 0.0, 0.0, 1.0)  # type: ignore[assignment]
    origin_m: F64 = (0.0, 0.0, 0.0)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        position_m = _frozen(self.position_m, (None, 3), "position_m")
        if len(position_m) == 0:
            raise ParamError("ArrayGeometry.position_m: an array has at least one element, got none")
        channel_map = tuple(int(c) for c in self.channel_map) or tuple(range(len(position_m)))
        if len(set(channel_map)) != len(channel_map) or not all(0 <= c < len(position_m) for c in channel_map):
            raise ParamError(
                f"ArrayGeometry.channel_map: expected distinct elements below {len(position_m)}, got {channel_map}"
            )
        quaternion = np.array(_frozen(self.orientation_xyzw, (4,), "orientation_xyzw"))
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1.0) > 1e-6:
            raise ParamError(f"ArrayGeometry.orientation_xyzw: expected a unit quaternion, got norm {norm:.6g}")
        if abs(norm - 1.0) > 1e-15:  # a quaternion that is already unit keeps its bits across to_dict and from_dict
            quaternion /= norm
        quaternion.flags.writeable = False
        object.__setattr__(self, "position_m", position_m)
        object.__setattr__(self, "channel_map", channel_map)
        object.__setattr__(self, "orientation_xyzw", quaternion)
        object.__setattr__(self, "origin_m", _frozen(self.origin_m, (3,), "origin_m"))

    # Constructors

    @classmethod
    def from_positions(cls, position_m: npt.ArrayLike, **pose: Any) -> Self:
        """Array of any shape; the positions are moved so that their mean is the origin.

        Args:
            position_m: ``[sensor, xyz]`` metres, axes as in the module's docstring.
            pose: ``array_id``, ``channel_map``, ``orientation_xyzw``, ``origin_m``.
        """
        position = _frozen(position_m, (None, 3), "position_m")
        return cls(position_m=position - position.mean(axis=0) if len(position) else position, **pose)

    @classmethod
    def ula(cls, n: int, spacing_m: float, **pose: Any) -> Self:
        """Uniform line of ``n`` elements along x; element 0 has the smallest x."""
        x = (np.arange(n) - (n - 1) / 2) * spacing_m
        return cls(position_m=np.stack([x, 0 * x, 0 * x], axis=-1), **pose)

    @classmethod
    def ura(cls, nx: int, nz: int, spacing_m: float, **pose: Any) -> Self:
        """Uniform ``nx`` by ``nz`` rectangle in the x-z plane, broadside +y; element ``iz nx + ix``."""
        z, x = np.meshgrid(
            (np.arange(nz) - (nz - 1) / 2) * spacing_m,
            (np.arange(nx) - (nx - 1) / 2) * spacing_m,
            indexing="ij",
        )
        return cls(position_m=np.stack([x, 0 * x, z], axis=-1).reshape(-1, 3), **pose)

    @classmethod
    def uca(cls, n: int, radius_m: float, **pose: Any) -> Self:
        """Uniform circle in the x-y plane: element ``i`` stands at azimuth ``2 pi i / n``.

        Azimuth counts from +y towards +x, so element 0 is on +y and the order is clockwise seen from +z.
        """
        azimuth = 2 * np.pi * np.arange(n) / n
        return cls(
            position_m=np.stack([radius_m * np.sin(azimuth), radius_m * np.cos(azimuth), 0 * azimuth], axis=-1),
            **pose,
        )

    # Properties

    @property
    def n_elements(self) -> int:
        return len(self.position_m)

    @cached_property
    def channel_position_m(self) -> F64:
        """Positions in channel order, ``[channel, xyz]`` metres: what estimators of channel data use."""
        position = self.position_m[list(self.channel_map)]
        position.flags.writeable = False
        return position

    @cached_property
    def aperture_m(self) -> float:
        """Largest distance between any two elements, metres; 0 for one element."""
        p = self.position_m - self.position_m.mean(axis=0)
        square = (p * p).sum(axis=-1)
        largest = (-1.0, 0, 0)
        for first in range(0, len(p), 512):  # blocks of rows: all pairs of 4096 elements would take 128 MB
            pair = square[first : first + 512, None] + square - 2 * p[first : first + 512] @ p.T
            i, j = divmod(int(pair.argmax()), len(p))
            largest = max(largest, (float(pair[i, j]), first + i, j))
        return float(np.linalg.norm(p[largest[1]] - p[largest[2]]))

    @cached_property
    def is_linear(self) -> bool:
        """True where all elements lie on one line, so that only a cone angle and a range can be observed."""
        if self.n_elements < 3:
            return True
        singular = np.linalg.svd(self.position_m - self.position_m.mean(axis=0), compute_uv=False)
        return bool(singular[1] <= 1e-9 * singular[0])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the positions in channel order; keys caches of steering dictionaries."""
        return hashlib.sha256(self.channel_position_m.tobytes()).hexdigest()

    @cached_property
    def rotation(self) -> F64:
        """Rotation matrix from array to world frame, ``[3, 3]``."""
        x, y, z, w = self.orientation_xyzw
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    # Frames

    def to_world(self, position_m: npt.ArrayLike) -> F64:
        """Points ``[..., xyz]`` m from the array frame to the world frame."""
        return self.direction_to_world(position_m) + self.origin_m

    def from_world(self, position_m: npt.ArrayLike) -> F64:
        """Points ``[..., xyz]`` m from the world frame to the array frame."""
        return self.direction_from_world(np.asarray(position_m, dtype=np.float64) - self.origin_m)

    def direction_to_world(self, direction: npt.ArrayLike) -> F64:
        """Vectors ``[..., xyz]`` (directions, velocities) from the array frame to the world frame."""
        return np.asarray(direction, dtype=np.float64) @ self.rotation.T

    def direction_from_world(self, direction: npt.ArrayLike) -> F64:
        """Vectors ``[..., xyz]`` from the world frame to the array frame."""
        return np.asarray(direction, dtype=np.float64) @ self.rotation

    # Plain and SigMF forms

    def to_dict(self) -> dict[str, Any]:
        """Lists, floats and strings only: the in-band descriptor. :meth:`from_dict` restores its bits."""
        return {
            "array_id": self.array_id,
            "position_m": self.position_m.tolist(),
            "channel_map": list(self.channel_map),
            "orientation_xyzw": self.orientation_xyzw.tolist(),
            "origin_m": self.origin_m.tolist(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        known = {"array_id", "position_m", "channel_map", "orientation_xyzw", "origin_m"}
        if "position_m" not in plain or not known.issuperset(plain):
            raise ParamError(
                f"ArrayGeometry.from_dict: expected position_m and any of {sorted(known)}, got {sorted(plain)}"
            )
        fields = dict(plain)
        return cls(**{**fields, "channel_map": tuple(fields.get("channel_map", ()))})

    def to_sigmf_spatial(self) -> dict[str, dict[str, Any]]:
        """SigMF ``spatial`` extension 1.1.0 fields: ``{"global": ..., "captures": ...}`` to merge.

        SigMF's frame has boresight +x and left +y; its azimuth is degrees clockwise from true north, which is
        the world's +y here. ``element_geometry`` is in channel order (unread elements last), as other readers
        expect. Elements' own order, the array's name and its place, which SigMF has no field for, go under
        ``hil:``.
        """
        az_rad, el_rad, roll_rad = self._aperture_angles()
        geometry = self.position_m[self._sigmf_order(self.channel_map, self.n_elements)] @ _SIGMF_FROM_ARRAY.T
        return {
            "global": {
                "spatial:num_elements": self.n_elements,
                "spatial:channel_index": 0,
                "hil:array_id": self.array_id,
                "hil:channel_map": list(self.channel_map),
                "hil:origin_m": self.origin_m.tolist(),
            },
            "captures": {
                "spatial:aperture_bearing": {
                    "azimuth": float(np.degrees(az_rad) % 360.0),
                    "elevation": float(np.degrees(el_rad)),
                },
                "spatial:aperture_rotation": float(np.degrees(roll_rad)),
                "spatial:element_geometry": [{"point": point.tolist()} for point in geometry + 0.0],
            },
        }

    @classmethod
    def from_sigmf_spatial(cls, global_info: Mapping[str, Any], capture: Mapping[str, Any]) -> Self:
        """Geometry from the ``global`` object and one ``captures`` segment; absent fields take defaults.

        The points are taken as they are, relative to the phase reference that the file chose.
        """
        if "spatial:element_geometry" not in capture:
            raise ParamError(f"captures segment: expected spatial:element_geometry, got {sorted(capture)}")
        points = capture["spatial:element_geometry"]
        unknown = [i for i, point in enumerate(points) if "point" not in point]
        if unknown:
            raise ParamError(f"spatial:element_geometry: elements {unknown} have no known point; give all positions")
        order = cls._sigmf_order(tuple(global_info.get("hil:channel_map", range(len(points)))), len(points))
        position_m = np.empty((len(points), 3))
        position_m[order] = np.array([point["point"] for point in points], dtype=np.float64) @ _SIGMF_FROM_ARRAY
        bearing = capture.get("spatial:aperture_bearing", {"azimuth": capture.get("spatial:aperture_azimuth", 0.0)})
        half = np.radians([bearing.get("azimuth", 0.0), bearing.get("elevation", 0.0)]) / 2
        half_roll = np.radians(capture.get("spatial:aperture_rotation", 0.0)) / 2
        about_z = np.array([0.0, 0.0, -np.sin(half[0]), np.cos(half[0])])  # azimuth is clockwise, so about -z
        about_x = np.array([np.sin(half[1]), 0.0, 0.0, np.cos(half[1])])
        about_y = np.array([0.0, np.sin(half_roll), 0.0, np.cos(half_roll)])
        return cls(
            position_m=position_m + 0.0,
            array_id=str(global_info.get("hil:array_id", "array")),
            channel_map=tuple(global_info.get("hil:channel_map", ())),
            orientation_xyzw=_quaternion_product(_quaternion_product(about_z, about_x), about_y),
            origin_m=np.array(global_info.get("hil:origin_m", [0.0, 0.0, 0.0])),
        )

    @staticmethod
    def _sigmf_order(channel_map: Sequence[int], n_elements: int) -> list[int]:
        """Elements in channel order, then those that no channel reads."""
        return [*channel_map, *sorted(set(range(n_elements)) - set(channel_map))]

    def _aperture_angles(self) -> tuple[float, float, float]:
        """Azimuth, elevation and roll, radians, with ``R = Rz(-azimuth) Rx(elevation) Ry(roll)``."""
        r = self.rotation
        azimuth = float(np.arctan2(r[0, 1], r[1, 1]))
        elevation = float(np.arctan2(r[2, 1], np.hypot(r[0, 1], r[1, 1])))
        right = np.array([np.cos(azimuth), -np.sin(azimuth), 0.0])  # x axis of the array before roll
        up = np.cross(right, r[:, 1])
        return azimuth, elevation, float(np.arctan2(-up @ r[:, 0], right @ r[:, 0]))

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, ArrayGeometry) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.array_id, self.fingerprint, self.channel_map))


def fresnel_distance(aperture_m: float, wavelength_m: float) -> float:
    r"""Inner edge of the radiative near field, :math:`(D^4 / 8\lambda)^{1/3}`, metres, [NF] Eq. (1).

    Where a source at broadside comes closer, the quartic term of its path to the edge of the aperture, which
    the Fresnel wavefront leaves out, exceeds pi/8 rad. ([NF] Section II-B prints a square root; Eq. (1) is
    right.) Off broadside the cubic term rules: see :func:`fresnel_distance_oblique`.
    """
    _check_lengths(aperture_m, wavelength_m)
    return float((aperture_m**4 / (8 * wavelength_m)) ** (1 / 3))


def fresnel_distance_oblique(aperture_m: float, wavelength_m: float) -> float:
    r"""Range beyond which the Fresnel wavefront errs by less than pi/8 rad at every angle, metres.

    :math:`\sqrt{2 / (3\sqrt{3})} \sqrt{D^3/\lambda} = 0.62 \sqrt{D^3/\lambda}`
    (Balanis, Antenna Theory, Section 4.4.2): the cubic term is largest at asin(1/sqrt 3) = 35 degrees from
    broadside.
    """
    _check_lengths(aperture_m, wavelength_m)
    return float((2 / 3**1.5) ** 0.5 * (aperture_m**3 / wavelength_m) ** 0.5)


def fraunhofer_distance(aperture_m: float, wavelength_m: float) -> float:
    r"""Outer edge of the radiative near field, :math:`2 D^2 / \lambda`, metres, [NF] Eq. (1).

    Beyond it the curvature of the wavefront over the aperture is less than pi/8 rad.
    """
    _check_lengths(aperture_m, wavelength_m)
    return 2 * aperture_m**2 / wavelength_m


def _check_lengths(aperture_m: float, wavelength_m: float) -> None:
    if not (aperture_m >= 0 and wavelength_m > 0):
        raise ParamError(f"expected aperture_m >= 0 and wavelength_m > 0, got {aperture_m} and {wavelength_m}")

"""Arrays as parameters: plain, bounded, typed data from which the geometry is built."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import Count, Index, Params
from hil.wavefront import wavelength_m

#: The description of so many elements still fits into the header of a frame.
MAX_ELEMENTS = 4096

Length = Annotated[float, Meta(gt=0, le=1e4, extra_json_schema={"unit": "m"})]
Coordinate = Annotated[float, Meta(ge=-1e9, le=1e9, extra_json_schema={"unit": "m"})]
Point = tuple[Coordinate, Coordinate, Coordinate]
Quaternion = tuple[float, float, float, float]


class _Pose(Params, frozen=True):
    array_id: Annotated[str, Meta(min_length=1, max_length=64)] = "xl-array"
    origin_m: Annotated[Point, Meta(description="array centre in the world frame")] = (0.0, 0.0, 0.0)
    orientation_xyzw: Annotated[Quaternion, Meta(description="unit quaternion, array to world")] = (0.0, 0.0, 0.0, 1.0)
    channel_map: Annotated[tuple[Index, ...], Meta(description="element of each channel; empty: one to one")] = ()


class Ula(_Pose, frozen=True, kw_only=True, tag_field="kind", tag="ula"):
    """Uniform line along x."""

    n: Annotated[Count, Meta(le=MAX_ELEMENTS)]
    spacing_m: Annotated[Length | None, Meta(description="absent: half a wavelength at frequency_hz")] = None


class Ura(_Pose, frozen=True, kw_only=True, tag_field="kind", tag="ura"):
    """Uniform rectangle in the x-z plane."""

    nx: Annotated[Count, Meta(le=MAX_ELEMENTS)]
    nz: Annotated[Count, Meta(le=MAX_ELEMENTS)]
    spacing_m: Annotated[Length | None, Meta(description="absent: half a wavelength at frequency_hz")] = None


class Uca(_Pose, frozen=True, kw_only=True, tag_field="kind", tag="uca"):
    """Uniform circle in the x-y plane."""

    n: Annotated[Count, Meta(le=MAX_ELEMENTS)]
    radius_m: Length


class Elements(_Pose, frozen=True, kw_only=True, tag_field="kind", tag="elements"):
    """Elements anywhere; they are moved so that their mean is the array's origin."""

    position_m: Annotated[tuple[Point, ...], Meta(min_length=1, max_length=MAX_ELEMENTS)]


Array: TypeAlias = Ula | Ura | Uca | Elements


def build_array(a: Array | None, n_channels: int, frequency_hz: float | None) -> ArrayGeometry:
    """Return the geometry that ``a`` describes; ``None``: a line of ``n_channels``, half a wavelength apart.

    Raises:
        ParamError: The spacing is left to the frequency, and that is not known.
    """
    a = Ula(n=n_channels, array_id="line") if a is None else a
    pose = {
        "array_id": a.array_id,
        "origin_m": a.origin_m,
        "orientation_xyzw": a.orientation_xyzw,
        "channel_map": a.channel_map,
    }
    match a:
        case Ula():
            return ArrayGeometry.ula(a.n, _spacing_m(a.spacing_m, frequency_hz), **pose)
        case Ura():
            return ArrayGeometry.ura(a.nx, a.nz, _spacing_m(a.spacing_m, frequency_hz), **pose)
        case Uca():
            return ArrayGeometry.uca(a.n, a.radius_m, **pose)
        case Elements():
            return ArrayGeometry.from_positions(a.position_m, **pose)


def _spacing_m(spacing_m: float | None, frequency_hz: float | None) -> float:
    if spacing_m is not None:
        return spacing_m
    if frequency_hz is None:
        raise ParamError("array: the frequency is not known, so give spacing_m")
    return wavelength_m(frequency_hz) / 2

"""Geometry: constructors, limits of the near field, frames and plain forms, against closed forms and SciPy."""

import itertools
import math

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hil.array import (
    ArrayGeometry,
    fraunhofer_distance,
    fresnel_distance,
    fresnel_distance_oblique,
)
from hil.errors import ParamError

finite = st.floats(-100, 100, allow_nan=False)


@st.composite
def geometries(draw: st.DrawFn) -> ArrayGeometry:
    n = draw(st.integers(1, 12))
    position = draw(st.lists(st.tuples(finite, finite, finite), min_size=n, max_size=n))
    order = draw(st.permutations(range(n)))
    rotation = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-3, 3)] * 3)))
    return ArrayGeometry.from_positions(
        position,
        array_id="north",
        channel_map=order[: draw(st.integers(1, n))],
        orientation_xyzw=rotation.as_quat(),
        origin_m=draw(st.tuples(finite, finite, finite)),
    )


def test_ula_lies_along_x_about_the_origin():
    array = ArrayGeometry.ula(4, 0.5)
    assert array.position_m.tolist() == [[-0.75, 0, 0], [-0.25, 0, 0], [0.25, 0, 0], [0.75, 0, 0]]
    assert array.aperture_m == 1.5
    assert array.is_linear


def test_ura_lies_in_x_z_with_x_fastest():
    array = ArrayGeometry.ura(3, 2, 1.0)
    assert array.position_m.tolist() == [
        [-1, 0, -0.5], [0, 0, -0.5], [1, 0, -0.5], [-1, 0, 0.5], [0, 0, 0.5], [1, 0, 0.5]
    ]  # fmt: skip
    assert array.aperture_m == pytest.approx(math.hypot(2, 1), rel=1e-15)
    assert not array.is_linear


def test_uca_goes_from_y_towards_x():
    array = ArrayGeometry.uca(4, 2.0)
    np.testing.assert_allclose(array.position_m, [[0, 2, 0], [2, 0, 0], [0, -2, 0], [-2, 0, 0]], atol=1e-15)
    assert array.aperture_m == pytest.approx(4.0)


def test_uca_neighbours_of_the_eight_element_board():
    radius = 0.0456 / (2 * math.sin(math.pi / 8))  # a chord of 4.56 cm
    p = ArrayGeometry.uca(8, radius).position_m
    assert [math.dist(p[i], p[(i + 1) % 8]) for i in range(8)] == pytest.approx([0.0456] * 8)


@given(geometries())
def test_aperture_is_the_largest_pair_distance(array):
    pairs = itertools.combinations(array.position_m.tolist(), 2)
    assert array.aperture_m == pytest.approx(max((math.dist(a, b) for a, b in pairs), default=0.0), abs=1e-6)


def test_aperture_of_many_elements_goes_block_by_block():
    array = ArrayGeometry.ula(1500, 0.01)
    assert array.aperture_m == pytest.approx(14.99, rel=1e-12)


@given(geometries(), st.tuples(finite, finite, finite))
def test_world_frame_is_the_rotation_that_scipy_makes(array, point):
    rotation = Rotation.from_quat(array.orientation_xyzw)
    expected = rotation.apply(point) + array.origin_m
    np.testing.assert_allclose(array.to_world(point), expected, atol=1e-10)
    np.testing.assert_allclose(array.from_world(expected), point, atol=1e-10)
    np.testing.assert_allclose(array.direction_to_world(point), rotation.apply(point), atol=1e-10)


@given(geometries())
def test_dict_restores_the_same_bits_also_across_msgpack(array):
    again = ArrayGeometry.from_dict(msgpack.unpackb(msgpack.packb(array.to_dict())))
    assert again == array
    assert hash(again) == hash(array)
    assert again.position_m.tobytes() == array.position_m.tobytes()


@settings(max_examples=200)
@given(geometries())
def test_sigmf_round_trip(array):
    spatial = array.to_sigmf_spatial()
    again = ArrayGeometry.from_sigmf_spatial(spatial["global"], spatial["captures"])
    np.testing.assert_allclose(again.position_m, array.position_m, atol=1e-12)
    # near elevation 90 degrees azimuth and roll are one angle, and the sine of elevation keeps half the digits
    np.testing.assert_allclose(again.rotation, array.rotation, atol=1e-7)
    assert again.channel_map == array.channel_map
    assert again.array_id == array.array_id
    np.testing.assert_array_equal(again.origin_m, array.origin_m)


def test_sigmf_has_boresight_along_x_and_channels_in_order():
    """The extension's own example: a horizontal line pointing west stands along SigMF's y axis, left first."""
    west = Rotation.from_euler("z", 90, degrees=True)  # broadside +y turned to -x
    array = ArrayGeometry.ula(4, 0.2, orientation_xyzw=west.as_quat(), channel_map=(3, 2, 1, 0))
    spatial = array.to_sigmf_spatial()
    assert spatial["captures"]["spatial:aperture_bearing"]["azimuth"] == pytest.approx(270.0)
    points = [p["point"] for p in spatial["captures"]["spatial:element_geometry"]]
    np.testing.assert_allclose(points, [[0, -0.3, 0], [0, -0.1, 0], [0, 0.1, 0], [0, 0.3, 0]], atol=1e-15)
    assert spatial["global"]["spatial:num_elements"] == 4


def test_sigmf_of_others_needs_only_the_geometry():
    array = ArrayGeometry.from_sigmf_spatial(
        {"spatial:num_elements": 2, "spatial:channel_index": 0},
        {"spatial:aperture_azimuth": 90.0, "spatial:element_geometry": [{"point": [0, 1, 0]}, {"point": [0, -1, 0]}]},
    )
    np.testing.assert_allclose(array.position_m, [[-1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(array.direction_to_world([0, 1, 0]), [1, 0, 0], atol=1e-15)


def test_sigmf_unknown_point_is_refused():
    capture = {"spatial:element_geometry": [{"point": [0, 0, 0]}, {"unknown": True}]}
    with pytest.raises(ParamError, match=r"elements \[1\] have no known point"):
        ArrayGeometry.from_sigmf_spatial({}, capture)
    with pytest.raises(ParamError, match="expected spatial:element_geometry"):
        ArrayGeometry.from_sigmf_spatial({}, {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"position_m": [[0, 0]]}, r"position_m: expected shape \['any', 3\], got \[1, 2\]"),
        ({"position_m": np.empty((0, 3))}, "at least one element"),
        ({"position_m": [[0, 0, float("nan")]]}, "must be finite, got nan"),
        ({"position_m": [[0, 0, 0]], "channel_map": (1,)}, r"distinct elements below 1, got \(1,\)"),
        ({"position_m": [[0, 0, 0], [1, 0, 0]], "channel_map": (0, 0)}, "distinct elements"),
        ({"position_m": [[0, 0, 0]], "orientation_xyzw": (0, 0, 0, 2)}, "unit quaternion, got norm 2"),
        ({"position_m": [[0, 0, 0]], "origin_m": (0, 0)}, r"origin_m: expected shape \[3\], got \[2\]"),
    ],
)
def test_refusals_name_the_field_and_what_came(fields, message):
    with pytest.raises(ParamError, match=message):
        ArrayGeometry(**fields)


def test_unknown_key_is_refused():
    with pytest.raises(ParamError, match=r"got .*colour"):
        ArrayGeometry.from_dict({"position_m": [[0, 0, 0]], "colour": "red"})


def test_geometry_cannot_be_changed():
    array = ArrayGeometry.ula(2, 1.0)
    with pytest.raises(ValueError, match="read-only"):
        array.position_m[0, 0] = 1.0


def test_channel_positions_follow_the_channel_map():
    array = ArrayGeometry.ula(3, 1.0, channel_map=(2, 0))
    assert array.channel_position_m[:, 0].tolist() == [1.0, -1.0]
    assert array.fingerprint != ArrayGeometry.ula(3, 1.0).fingerprint


def test_distances_of_the_64_element_array_at_5_ghz():
    aperture, wavelength = 63 * 0.03, 0.06
    assert fresnel_distance(aperture, wavelength) == pytest.approx((1.89**4 / 0.48) ** (1 / 3))
    assert fresnel_distance_oblique(aperture, wavelength) == pytest.approx(0.62 * math.sqrt(1.89**3 / 0.06), rel=1e-3)
    assert fraunhofer_distance(aperture, wavelength) == pytest.approx(119.07)


def test_distances_refuse_a_wavelength_of_zero():
    with pytest.raises(ParamError, match=r"wavelength_m > 0, got 1.0 and 0.0"):
        fraunhofer_distance(1.0, 0.0)

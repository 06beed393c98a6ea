import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import convert_params
from sim_device.scene import Source, kinematics

# turned by +90 degrees about z: the array's broadside, +y, looks along the world's -x
TURNED = ArrayGeometry.ula(4, 0.03, origin_m=(1.0, 2.0, 3.0), orientation_xyzw=(0, 0, math.sqrt(0.5), math.sqrt(0.5)))
PLAIN = ArrayGeometry.ula(4, 0.03)


def source(**motion):
    return convert_params(Source, {"id": 5, "motion": motion}, "test")


def at(time_s, array=PLAIN, seed=1, **motion):
    return kinematics(source(**motion), time_s, array, seed)


def test_standing_and_straight():
    assert at(9.0, kind="stand", position_m=[1, 2, 3]).position_m.tolist() == [1, 2, 3]
    got = at(9.0, kind="straight", position_m=[1, 2, 3], velocity_m_per_s=[1, 0, -2], start_s=7)
    assert got.position_m.tolist() == [3, 2, -1]
    assert got.velocity_m_per_s.tolist() == [1, 0, -2]


SQUARE = {"kind": "waypoints", "points_m": [[0, 0, 0], [3, 0, 0], [3, 4, 0]], "speed_m_per_s": 2.0}


@pytest.mark.parametrize(
    ("repeat", "time_s", "position", "velocity"),
    [
        ("stop", 1.0, [2, 0, 0], [2, 0, 0]),
        ("stop", 2.5, [3, 2, 0], [0, 2, 0]),
        ("stop", 100.0, [3, 4, 0], [0, 0, 0]),
        ("loop", 4.75, [1.5, 2.0, 0], [-1.2, -1.6, 0]),  # 9.5 m: half way back along the diagonal of 5
        ("loop", 6.5, [1, 0, 0], [2, 0, 0]),  # 13 m of 12
        ("bounce", 4.5, [3, 2, 0], [0, -2, 0]),  # 9 m: 2 back from the end at 7
        ("bounce", 7.5, [1, 0, 0], [2, 0, 0]),  # 15 m of 14
    ],
)
def test_waypoints_at_hand_computed_places(repeat, time_s, position, velocity):
    got = at(time_s, **SQUARE, repeat=repeat)
    np.testing.assert_allclose(got.position_m, position, atol=1e-12)
    np.testing.assert_allclose(got.velocity_m_per_s, velocity, atol=1e-12)


def test_waypoints_wait_for_their_start():
    got = at(1.0, **SQUARE, start_s=2.0)
    assert got.position_m.tolist() == [0, 0, 0]
    assert got.velocity_m_per_s.tolist() == [0, 0, 0]


WANDER = {"kind": "wander", "centre_m": [1, 10, 0], "extent_m": [2, 3, 0], "speed_m_per_s": 1.5}


@settings(max_examples=50)
@given(time_s=st.floats(0, 1e4), seed=st.integers(0, 100))
def test_a_wandering_source_stays_in_its_box_and_its_velocity_is_the_derivative(time_s, seed):
    here, ahead, behind = (at(t, seed=seed, **WANDER) for t in (time_s, time_s + 1e-4, time_s - 1e-4))
    assert np.all(np.abs(here.position_m - [1, 10, 0]) <= [2, 3, 0])
    # a central difference over 0.2 ms errs by (accel') h^2 / 6 ~ 1e-8, and by rounding 1e-15 * 1e4 / 1e-4
    np.testing.assert_allclose((ahead.position_m - behind.position_m) / 2e-4, here.velocity_m_per_s, atol=1e-5)


def test_a_wandering_source_has_the_speed_asked_for_and_its_own_path():
    speed = [np.linalg.norm(at(t, **WANDER).velocity_m_per_s) for t in np.arange(0, 4000, 0.7)]
    assert np.sqrt(np.mean(np.square(speed))) == pytest.approx(1.5, rel=0.03)
    other = kinematics(convert_params(Source, {"id": 6, "motion": WANDER}, "test"), 1.0, PLAIN, 1)
    assert np.linalg.norm(at(1.0, **WANDER).position_m - other.position_m) > 1e-3
    assert np.linalg.norm(at(1.0, **WANDER).position_m - at(1.0, seed=2, **WANDER).position_m) > 1e-3


def test_bearing_is_in_the_frame_of_the_array():
    got = at(0.0, TURNED, kind="bearing", azimuth_rad=0.0, range_m=10.0)
    np.testing.assert_allclose(got.position_m, [1 - 10, 2, 3], atol=1e-12)
    # azimuth counts from broadside to the array's +x, which lies along the world's +y
    got = at(0.0, TURNED, kind="bearing", azimuth_rad=math.pi / 2, range_m=10.0)
    np.testing.assert_allclose(got.position_m, [1, 12, 3], atol=1e-12)


def test_bearing_turns_at_its_rate():
    motion = {
        "kind": "bearing",
        "azimuth_rad": 0.2,
        "elevation_rad": 0.4,
        "range_m": 7.0,
        "azimuth_rate_rad_per_s": 0.5,
    }
    here, later = at(2.0, TURNED, **motion), at(2.0 + 1e-6, TURNED, **motion)
    assert np.linalg.norm(here.position_m - TURNED.origin_m) == pytest.approx(7.0)
    np.testing.assert_allclose((later.position_m - here.position_m) / 1e-6, here.velocity_m_per_s, atol=1e-5)
    assert np.linalg.norm(here.velocity_m_per_s) == pytest.approx(7.0 * 0.5 * math.cos(0.4))


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        ({"kind": "waypoints", "points_m": [[0, 0, 0]], "speed_m_per_s": 1}, r"length >= 2.*\$.motion.points_m"),
        ({"kind": "waypoints", "points_m": [[0, 0, 0], [0, 0, 0]], "speed_m_per_s": 1}, "same point"),
        ({"kind": "wander", "centre_m": [0, 0, 0], "extent_m": [0, 0, 0], "speed_m_per_s": 1}, "use kind 'stand'"),
        ({"kind": "stand", "position_m": [0, float("inf"), 0]}, r"<= 1000000000.0 - at `\$.motion.position_m\[1\]`"),
        ({"kind": "bearing", "azimuth_rad": 0, "range_m": 0}, r"> 0.0 - at `\$.motion.range_m`"),
        ({"kind": "fly"}, r"Invalid value 'fly' - at `\$.motion.kind`"),
    ],
)
def test_refusals_name_the_path_and_the_limit(motion, message):
    with pytest.raises(ParamError, match=message):
        source(**motion)

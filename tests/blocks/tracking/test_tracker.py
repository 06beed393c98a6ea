import numpy as np
import pytest

from blocks.tracking.tracker import Tracker
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError
from hil.frame import Frame, Header
from tests.blocks.tracking.scene import detect, stack
from tests.jig import check_frames

ARRAY = ArrayGeometry.ula(64, 0.03, origin_m=(5.0, -2.0, 1.0), orientation_xyzw=(0.0, 0.0, np.sin(0.4), np.cos(0.4)))


def positions(seq, detections, *, power=None, epoch=0, timebase="utc", time_ns=None):
    position, covariance = stack(detections)
    extra = {} if power is None else {"power_db": (np.asarray(power, float), "source", "dB")}
    return Frame.of(
        Header(
            "cartesian.positions",
            seq,
            epoch=epoch,
            time_ns=10_000_000 * seq if time_ns is None else time_ns,
            timebase=timebase,
        ),
        position_m=(position, "source xyz", "m"),
        covariance_m2=(covariance, "source xyz xyz", "m^2"),
        **extra,
    )


def in_world(detection):
    place, covariance = detection
    return ARRAY.to_world(place), ARRAY.rotation @ covariance @ ARRAY.rotation.T


def data(out):
    return [f for _, f in out if f.header.kind == "data"]


def test_tracks_in_the_world_seen_from_the_array():
    rng = np.random.default_rng(1)
    truth = [[np.array([-3 + 0.01 * k, 30.0, 0.0]), np.array([4.0, 20.0 + 0.01 * k, 0.0])] for k in range(60)]
    frames = [descriptor_frame(Header("cartesian.positions", 0), ARRAY)]
    for k, places in enumerate(truth):
        frames.append(positions(k, [in_world(detect(rng, p)) for p in places], power=[-10.0, -20.0]))

    def check(out):
        last = data(out)[-1]
        assert last.header.stream == "tracker.tracks"
        assert last.header.seq == 59
        assert last["id"].tolist() == [0, 1]
        assert not last["coasting"].any()
        assert last["power_db"].tolist() == [-10.0, -20.0]
        local = np.array(truth[-1])
        assert last["position_m"] == pytest.approx(ARRAY.to_world(local), abs=0.2)
        assert last["azimuth_rad"] == pytest.approx(np.arctan2(local[:, 0], local[:, 1]), abs=3e-4)
        assert last["elevation_rad"] == pytest.approx([0.0, 0.0], abs=1e-4)
        assert last["range_m"] == pytest.approx(np.hypot(local[:, 0], local[:, 1]), abs=0.2)
        velocity = ARRAY.direction_from_world(last["velocity_m_per_s"])
        assert velocity[0, 0] == pytest.approx(1.0, abs=0.2)
        assert (np.linalg.eigvalsh(last["covariance_m2"]) > 0).all()

    check_frames(lambda: Tracker("tracker"), frames, check)


def test_nothing_found_is_an_empty_frame():
    frame = data(Tracker("tracker").feed("positions", positions(0, [])))[0]
    assert frame["position_m"].shape == (0, 3)
    assert frame["covariance_m2"].shape == (0, 3, 3)
    assert frame["id"].shape == frame["coasting"].shape == (0,)


def test_positions_without_covariance_take_the_parameter():
    block = Tracker("tracker", position_std_m=0.5, confirm_hits=1, confirm_window=1, space="cartesian")
    block.header = Header("x", 0, time_ns=0, timebase="utc")
    out = block({"position_m": np.array([[1.0, 9.0, 0.0]])})
    assert np.diag(out["covariance_m2"][0]) == pytest.approx([0.25 + 1e-6] * 3)


def test_keeps_the_last_power_while_coasting():
    rng = np.random.default_rng(2)
    block, place = Tracker("tracker"), np.array([0.0, 20.0, 0.0])
    for k in range(5):
        block.feed("positions", positions(k, [detect(rng, place)], power=[-3.0 - k]))
    frame = data(block.feed("positions", positions(5, [], power=[])))[0]
    assert frame["coasting"].tolist() == [True]
    assert frame["power_db"].tolist() == [-7.0]


def test_parameters_change_without_losing_identities():
    rng = np.random.default_rng(3)
    block, place = Tracker("tracker"), np.array([0.0, 20.0, 0.0])
    for k in range(5):
        block.feed("positions", positions(k, [detect(rng, place)]))
    block.set_params(acceleration_psd_m2_per_s3=5.0)
    assert data(block.feed("positions", positions(5, [detect(rng, place)])))[0]["id"].tolist() == [0]
    assert block.stats() == {"tracks": 1, "tentative": 0, "confirmed": 1, "ended": 0}


@pytest.mark.parametrize("change", [{"epoch": 1}, {"timebase": "device"}])
def test_a_clock_that_starts_anew_starts_the_tracks_anew(change):
    rng = np.random.default_rng(4)
    block, place = Tracker("tracker"), np.array([0.0, 20.0, 0.0])
    for k in range(100, 105):
        block.feed("positions", positions(k, [detect(rng, place)]))
    for k in range(5):
        out = block.feed("positions", positions(k, [detect(rng, place)], **change))
    assert data(out)[0]["id"].tolist() == [1]
    assert block.stats()["ended"] == 1


def test_an_epoch_that_goes_on_in_time_keeps_the_tracks():
    rng = np.random.default_rng(5)
    block, place = Tracker("tracker"), np.array([0.0, 20.0, 0.0])
    for k in range(10):
        out = block.feed("positions", positions(k, [detect(rng, place)], epoch=k // 5))
    assert data(out)[0]["id"].tolist() == [0]


def test_time_that_steps_back_or_is_missing_is_refused():
    block = Tracker("tracker")
    timeless = positions(0, [])
    timeless.header = timeless.header.replace(time_ns=None, timebase=None)
    with pytest.raises(EstimationError, match=r"tracker: frames of 'cartesian.positions' have no time_ns"):
        block.feed("positions", timeless)
    block.feed("positions", positions(5, []))
    with pytest.raises(EstimationError, match=r"time 40000000 ns is not after the last frame's 50000000 ns"):
        block.feed("positions", positions(4, []))

import math
import random

import numpy as np
import pytest

from blocks.calibration.array_calibration import ArrayCalibration
from blocks.switched_array.switched_bearing import GroupBearings, SwitchedBearing
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import CalibrationError, EstimationError
from hil.frame import Frame, Header
from tests.blocks.switched_array.simulate import CHANNEL_MAP, RADIUS_M, as_signed_byte, packet
from tests.jig import check_frames

ARRAY = ArrayGeometry.uca(8, RADIUS_M, channel_map=CHANNEL_MAP)
UNIT_RAD = math.pi / 201
AZIMUTH = {1: 0.5, 2: -1.2}


def frames(n, *, offsets=None, epoch=0, frequency_hz=2.44e9, byte=False):
    rng = random.Random(7)
    out = [descriptor_frame(Header("switched", 0), ARRAY)]
    for seq in range(n):
        emitter = 1 + seq % 2
        phase = packet(AZIMUTH[emitter], 0.1 * emitter, rng, offsets=offsets)
        if byte:
            phase = [[as_signed_byte(p) for p in row] for row in phase]
        header = Header(
            "switched", seq, epoch=epoch, time_ns=seq * 100_000_000, timebase="device", frequency_hz=frequency_hz
        )
        out.append(
            Frame.of(header, phase_rad=(np.array(phase), "slot sample", "rad"), emitter=(np.array(emitter), "", ""))
        )
    return out


def test_packets_to_bearings_and_groups():
    group = GroupBearings("group", every=10)
    group.feed("bearings", descriptor_frame(Header("b", 0), ARRAY))

    def check(out):
        data = [f for _, f in out if f.header.kind == "data"]
        assert len(data) == 40
        for f in data:
            assert abs(f["azimuth_rad"][0] - AZIMUTH[int(f["emitter"][0])]) < 0.08
            assert f["offset_hz"][0] == pytest.approx(0.1 * f["emitter"][0] / (2 * math.pi * 4e-6), rel=0.2)
            assert f.header.calibration == "none"

    check_frames(lambda: SwitchedBearing("bearing", overflow_unit_rad=UNIT_RAD), frames(40, byte=True), check)
    block = SwitchedBearing("bearing")
    grouped = [g for f in frames(40) for _, b in block.feed("switched", f) for _, g in group.feed("bearings", b)]
    data = [g for g in grouped if g.header.kind == "data"]
    assert len(data) == 4
    np.testing.assert_array_equal(data[-1]["emitter"], [1, 2])
    np.testing.assert_allclose(data[-1]["azimuth_rad"], [0.5, -1.2], atol=0.03)
    assert data[-1].header.meta["n_packets"] == [20, 20]


def test_a_new_epoch_starts_new_groups():
    block, group = SwitchedBearing("bearing"), GroupBearings("group", every=10, min_packets=1)
    out = []
    for f in [*frames(10), *frames(10, epoch=1)]:
        out += [g for _, b in block.feed("switched", f) for _, g in group.feed("bearings", b)]
    data = [g for g in out if g.header.kind == "data"]
    assert [g.header.meta["n_packets"] for g in data] == [[5, 5], [5, 5]]


@pytest.fixture
def calibration(tmp_path):
    rng = random.Random(3)
    offsets = [rng.gauss(0, 0.5) for _ in range(8)]
    path = tmp_path / "cal.npz"
    ArrayCalibration(
        calibration_id="c1",
        offset_rad=np.array(offsets),
        gain_db=np.zeros(8),
        frequency_hz=2.44e9,
        frequency_tolerance_hz=45e6,
        channel_map=CHANNEL_MAP,
    ).save(path)
    return str(path), offsets


def test_calibration_helps_and_is_stale_after_a_retune(calibration):
    path, offsets = calibration
    errors = {}
    for name, params in (("without", {}), ("with", {"calibration": path})):
        block = SwitchedBearing("bearing", **params)
        out = [f for x in frames(20, offsets=offsets) for _, f in block.feed("switched", x) if f.header.kind == "data"]
        errors[name] = np.mean([abs(f["azimuth_rad"][0] - AZIMUTH[int(f["emitter"][0])]) for f in out])
    assert out[-1].header.calibration == "valid"
    assert out[-1].header.calibration_id == "c1"
    assert errors["with"] < 0.5 * errors["without"]
    retuned = frames(1, offsets=offsets, epoch=1, frequency_hz=2.6e9)[-1]
    assert block.feed("switched", retuned)[0][1].header.calibration == "stale"


def test_calibration_of_another_frequency_is_refused_where_asked(calibration):
    block = SwitchedBearing("bearing", calibration=calibration[0], on_mismatch="refuse")
    first, frame = frames(1, frequency_hz=2.6e9)
    block.feed("switched", first)
    with pytest.raises(CalibrationError, match="frequency_hz differs: it was made for 2440000000"):
        block.feed("switched", frame)


def test_says_what_is_missing():
    with pytest.raises(EstimationError, match="no descriptor of the array came"):
        SwitchedBearing("bearing").feed("switched", frames(1)[1])
    block = SwitchedBearing("bearing")
    first, frame = frames(1, frequency_hz=None)
    block.feed("switched", first)
    with pytest.raises(EstimationError, match="set the parameter 'frequency_hz'"):
        block.feed("switched", frame)

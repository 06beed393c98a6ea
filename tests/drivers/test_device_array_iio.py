"""Two FMComms5 as eight channels: unmodified libiio, samples as they come, delays found from a source that is known."""

import numpy as np
import pytest

from blocks.calibration.coherence_check import CoherenceCheck
from blocks.calibration.follow_calibration import FollowCalibration
from blocks.front_end.to_complex import ToComplex
from drivers.device_array import DeviceArray
from drivers.iio_library import IioTrouble, import_libiio
from hil.errors import DriverError
from sim_device.device import XlArrayDevice
from sim_device.servers.iiod.server import IiodServer
from sim_device.servers.quantise import quantise
from tests.drivers.live_jig import data, has_data, read_until, served

SPACING_M = 0.0625
#: Straight ahead and far away: all elements of both boards hear it alike.
SOURCE = {"id": 1, "motion": {"kind": "stand", "position_m": [0.0, 1e6, 0.0]}, "power_db": -15.0}
LATE = 137


def board(**changes):
    return {
        "array": {"kind": "ula", "n": 4, "spacing_m": SPACING_M},
        "sources": [SOURCE],
        "noise_power_db": -50.0,
        "frequency_hz": 2.4e9,
        "sample_rate_hz": 3e6,
        "real_time": False,
        "seed": 3,
        **changes,
    }


@pytest.fixture
def two_boards():
    try:
        import_libiio()
    except IioTrouble as trouble:
        pytest.skip(f"needs libiio0 and pylibiio: {trouble}")
    with (
        served(IiodServer, device=board(), model="fmcomms5") as a,
        served(IiodServer, device=board(mismatch={"phase_std_rad": 1.0}), model="fmcomms5") as b,
    ):
        b.server.feed.samples(0, LATE)  # somebody has read it before: it begins later
        devices = [
            {"driver": "drivers.iio:Iio", "name": name, "params": {"uri": unit.uri, "n_samples": 2048}}
            for name, unit in (("a", a), ("b", b))
        ]
        yield devices


def read(devices, n, **params):
    array = {"kind": "ula", "n": 8, "spacing_m": SPACING_M}
    driver = DeviceArray("both", devices=devices, array=array, n_samples=2048, **params)
    try:
        driver.open()
        return read_until(driver, has_data(n))
    finally:
        driver.close()


def test_counts_of_both_boards_side_by_side_then_aligned(two_boards):
    frames = read(two_boards, 12, align="start")
    headers = data(frames)
    assert {h.arrays[0].axes for h in headers} == {("sensor", "snapshot", "component")}
    raw = np.concatenate([f["iq"] for f in frames if f.header.kind == "data"], axis=1)
    n = raw.shape[1]
    assert np.array_equal(raw[:4], quantise(XlArrayDevice(**board()).samples(0, n), 12))
    other = XlArrayDevice(**board(mismatch={"phase_std_rad": 1.0}))
    late = next(t for t in range(4096) if np.array_equal(raw[4:, :16], quantise(other.samples(t, 16), 12)))
    assert late >= LATE
    assert np.array_equal(raw[4:], quantise(other.samples(late, n), 12))

    align = FollowCalibration(
        "align",
        measure="known_source",
        source_m=SOURCE["motion"]["position_m"],
        max_delay_samples=4096,
        n_measure=16384,
    )
    chain = [ToComplex("to"), align, CoherenceCheck("check", n_snapshots=2048)]
    for block in chain:
        frames = [out for frame in frames for _, out in block.feed(next(iter(block.inputs)), frame)]
        if block is align:
            aligned = [f for f in frames if f.header.kind == "data"]
    delays = align._follower.calibration.delay_s * 3e6
    np.testing.assert_allclose(delays, [0, 0, 0, 0, -late, -late, -late, -late], atol=0.01)
    truth = other.descriptors()[1].header.meta["sim"]
    phase = np.angle(np.array(truth["response_real"]) + 1j * np.array(truth["response_imag"]))
    got = align._follower.calibration.offset_rad[4:]
    assert np.abs(np.angle(np.exp(1j * (got - phase)))).max() < 0.01
    x = np.concatenate([f["iq"] for f in aligned], axis=1)
    alike = np.abs(x @ x[0].conj()) / np.linalg.norm(x, axis=1) / np.linalg.norm(x[0])
    assert alike.min() > 0.999
    checked = [f for f in frames if f.header.kind == "data"]
    assert checked and all(f.header.meta["coherent"] and not f.header.meta["unheard"] for f in checked)


def test_boards_without_a_count_of_their_own_cannot_be_aligned_by_it(two_boards):
    with pytest.raises(
        DriverError, match=r"device '[ab]' cannot be aligned by tick: it has no clock .* use align=start"
    ):
        read(two_boards, 1, align="tick")

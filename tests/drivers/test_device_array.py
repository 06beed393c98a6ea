"""Several devices as one: every sample is that of the whole simulated array, or it is counted as missing."""

import time

import numpy as np
import pytest

from blocks.calibration.follow_calibration import FollowCalibration
from drivers.device_array import DeviceArray
from hil.errors import ControlError, DriverError, DriverTimeout, ParamError
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise

ARRAY = {
    "array": {"kind": "ula", "n": 8, "spacing_m": 0.03},
    "sources": [{"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.4, "range_m": 30.0}, "power_db": -15.0}],
    "noise_power_db": -45.0,
    "real_time": False,
}
PATH = "tests.drivers.split_radio:SplitRadio"


def radio(first, last, **params):
    return {"driver": PATH, "name": f"r{first}", "params": {"device": ARRAY, "first": first, "last": last, **params}}


@pytest.fixture
def opened():
    drivers = []

    def open_(*devices, **params):
        array = {"kind": "ula", "n": 8, "spacing_m": 0.03}
        driver = DeviceArray("both", devices=list(devices), **{"array": array, "n_samples": 800, **params})
        drivers.append(driver)
        driver.open()
        return driver

    yield open_
    for driver in drivers:
        driver.close()


def all_of(driver, timeout_s=20.0):
    frames, end = [], time.monotonic() + timeout_s
    while (reading := driver.read(0.2)) is not None:
        assert time.monotonic() < end
        frames += [f for _, f in reading]
    return frames


def data(frames):
    return [f for f in frames if f.header.kind == "data"]


def events(frames):
    return [f.header.meta for f in frames if f.header.kind == "event"]


def check_equal(frames, shift=0):
    device = XlArrayDevice(**ARRAY)
    for f in data(frames):
        at, n = f.header.sample_start + shift, f.header.arrays[0].shape[1]
        assert np.array_equal(f["iq"], device.samples(at, n))


def test_two_devices_give_the_samples_of_the_whole_array(opened):
    frames = all_of(opened(radio(0, 4), radio(4, 8, n=700, n_frames=15)))
    check_equal(frames)
    assert sum(f["iq"].shape[1] for f in data(frames)) == 10_000
    assert [f.header.sample_start for f in data(frames)] == list(range(0, 10_000, 800))
    assert [f.header.seq for f in data(frames)] == list(range(13))
    assert all(f.header.lost.samples == 0 and f.header.epoch == 0 for f in data(frames))
    assert [f.header.time_ns for f in data(frames)] == [1000 * f.header.sample_start for f in data(frames)]
    described = frames[0].header
    assert described.kind == "descriptor"
    assert [d["channels"] for d in described.meta["devices"]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert described.meta["array"]["channel_map"] == list(range(8))


def test_four_devices_of_unlike_sizes_and_an_own_channel_map(opened):
    channel_map = [7, 6, 5, 4, 3, 2, 1, 0]
    parts = [radio(0, 1), radio(1, 4), radio(4, 6), radio(6, 8)]
    frames = all_of(opened(*parts, array={"kind": "ula", "n": 8, "spacing_m": 0.03, "channel_map": channel_map}))
    check_equal(frames)
    assert frames[0].header.meta["array"]["channel_map"] == channel_map


def test_counts_stay_counts(opened):
    frames = all_of(opened(radio(0, 4, raw=True), radio(4, 8, raw=True, n=333, n_frames=30)))
    device = XlArrayDevice(**ARRAY)
    assert frames[0].header.meta["raw"] == {"full_scale": 32768.0}
    for f in data(frames):
        assert f.header.arrays[0].axes == ("sensor", "snapshot", "component")
        n = f["iq"].shape[1]
        assert np.array_equal(f["iq"], quantise(device.samples(f.header.sample_start, n)))
    assert sum(f["iq"].shape[1] for f in data(frames)) == 9990


def test_a_device_that_began_later_gives_the_first_common_sample(opened):
    frames = all_of(opened(radio(0, 4), radio(4, 8, start=1234)))
    check_equal(frames)
    assert data(frames)[0].header.sample_start == 1234
    assert data(frames)[0].header.lost.samples == 0
    assert sum(f["iq"].shape[1] for f in data(frames)) == 10_000 - 1234


def test_by_time_where_counts_differ_but_clocks_agree(opened):
    frames = all_of(opened(radio(0, 4), radio(4, 8, start=1234, own_count=True), align="time"))
    check_equal(frames)
    assert data(frames)[0].header.sample_start == 1234


def test_by_start_then_the_alignment_block_finds_the_rest():
    """Two boards that began 137 samples apart and do not know it: a common signal tells."""
    noise = {**ARRAY, "sources": [{"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.0, "range_m": 1e7}}]}
    parts = [radio(0, 4, own_count=True), radio(4, 8, start=137, own_count=True)]
    for part in parts:
        part["params"] |= {"device": noise, "timebase": "host", "noise_at": tuple(range(1, 12))}
    driver = DeviceArray("both", devices=parts, align="start", n_samples=500)
    driver.open()
    frames = all_of(driver)
    driver.close()
    block = FollowCalibration("align", max_delay_samples=400, n_measure=4096)
    out = [f for frame in frames for _, f in block.feed("iq", frame) if f.header.kind == "data"]
    assert out[-1].header.calibration == "valid"
    device = XlArrayDevice(**noise)
    late = [f for f in out if f.header.sample_start >= 6000]
    assert late
    for f in late:
        n = f["iq"].shape[1]
        # the reference is channel 0: its count is the array's, and all channels are of that sample
        ideal = device.samples(f.header.sample_start, n)
        ratio = (f["iq"] * ideal.conj()).sum(-1) / (np.abs(ideal) ** 2).sum(-1)
        np.testing.assert_allclose(np.abs(ratio), 1, atol=0.02)  # -15 dB of noise in one channel, 500 samples
        assert np.abs(np.angle(ratio * ratio[0].conj())).max() < 0.02


def test_what_one_device_lost_is_lost_for_all_and_counted(opened):
    frames = all_of(opened(radio(0, 4), radio(4, 8, lose={5: 300, 12: 1})))
    check_equal(frames)
    lost = [(f.header.sample_start, f.header.lost.samples) for f in data(frames) if f.header.lost.samples]
    assert lost == [(2800, 300), (6301, 1)]
    assert [e["samples"] for e in events(frames) if e["event"] == "gap"] == [300, 1]
    got = sum(f["iq"].shape[1] for f in data(frames))
    assert got + 301 == data(frames)[-1].header.sample_start + data(frames)[-1]["iq"].shape[1]


def test_pauses_by_design_are_no_losses(opened):
    frames = all_of(opened(radio(0, 4, skip={3: 1000}), radio(4, 8, skip={3: 1000})))
    check_equal(frames)
    assert all(f.header.lost.samples == 0 for f in data(frames))
    assert not events(frames)


def test_an_epoch_of_one_device_begins_at_its_sample(opened):
    frames = all_of(opened(radio(0, 4, retune=(3,)), radio(4, 8, n=700, retune=(3, 9))))
    check_equal(frames)
    first = {}
    for f in data(frames):
        first.setdefault(f.header.epoch, f.header.sample_start)
    assert first == {0: 0, 1: 1500, 2: 2100, 3: 6300}
    assert [(e["event"], e["device"]) for e in events(frames)] == [("retune", "r0"), ("retune", "r4"), ("retune", "r4")]
    kinds = [f.header.kind for f in frames]
    assert kinds.count("descriptor") == 4, "one at the start, one with each epoch"


def test_a_lost_device_stops_the_array_and_its_return_is_an_epoch(opened):
    driver = opened(radio(0, 4, wait_s=0.01, n_frames=80), radio(4, 8, away={4: 0.3}, skip={4: 15_000}, n_frames=40))
    frames = all_of(driver)
    check_equal(frames)
    names = [e["event"] for e in events(frames)]
    assert names[0] == "disconnected"
    assert "reconnect" in names
    assert events(frames)[0]["device"] == "r4"
    by_epoch = {e: [f for f in data(frames) if f.header.epoch == e] for e in (0, 1)}
    assert sum(f["iq"].shape[1] for f in by_epoch[0]) == 2000
    assert by_epoch[1][0].header.sample_start == 17_000
    assert by_epoch[1][0].header.lost.samples == 15_000


def test_or_ends_the_run(opened):
    driver = opened(radio(0, 4), radio(4, 8, away={4: 5.0}), when_lost="fail")
    with pytest.raises(DriverError, match="device 'r4' is lost: unplugged"):
        all_of(driver)


def test_a_loss_of_unknown_length_is_a_new_epoch(opened):
    parts = [radio(0, 4, own_count=True), radio(4, 8, own_count=True, unknown_loss={6: 77})]
    for part in parts:
        part["params"]["timebase"] = "host"
    frames = all_of(opened(*parts, align="start"))
    told = [e for e in events(frames) if e["event"] == "overflow"]
    assert told[0]["device"] == "r4"
    assert {f.header.epoch for f in data(frames)} == {0, 1}


def test_noise_source_of_any_device_flags_the_frame(opened):
    frames = all_of(opened(radio(0, 4, noise_at=(4, 5)), radio(4, 8, noise_at=(99,)), n_samples=500))
    assert [f.header.meta["noise_source"] for f in data(frames)[:8]] == [False] * 4 + [True] * 2 + [False] * 2


def test_verbs_reach_the_devices(opened):
    driver = opened(radio(0, 4, wait_s=0.005, n_frames=60), radio(4, 8, wait_s=0.005, n_frames=60))
    assert driver.ask_device(1, "add", {"a": 2, "b": 3}) == 5
    with pytest.raises(ControlError, match="add: argument 'b' is missing"):
        driver.ask_device(1, "add", {"a": 2})
    with pytest.raises(ControlError, match="device 2, there are 2"):
        driver.ask_device(2, "add", {})
    assert driver.tune(4e9) == [4e9, 4e9]
    frames = all_of(driver)
    assert [e["event"] for e in events(frames)] == ["retune", "retune"]
    assert data(frames)[-1].header.frequency_hz == 4e9
    assert data(frames)[-1].header.epoch == 2
    assert driver.capabilities().channels == 8
    assert driver.capabilities().sync


@pytest.mark.parametrize(
    ("second", "params", "message"),
    [
        ({"fail_open": True}, {}, r"SplitRadio 'both/r4': no radio answers: it is off; switch it on"),
        ({"fail_at": 3}, {}, "it burns"),
        ({"timebase": "host"}, {}, "device 'r4' cannot be aligned by tick: it has no clock .* use align=start"),
        ({"raw": True}, {}, "device 'r4' gives other samples than 'r0': int16"),
        ({"sample_rate_hz": 2e6}, {}, r"complex64 \[sensor, snapshot\] at 2000000.0 Hz, not .* 1000000.0 Hz"),
        ({"last": 7}, {}, r"8 channels are declared, the devices give \[4, 3\]"),
    ],
)
def test_one_clear_error(opened, second, params, message):
    with pytest.raises(DriverError, match=message):
        all_of(opened(radio(0, 4), radio(4, **{"last": 8, **second}), **params))


def test_a_device_that_does_not_open_in_time_is_named(opened):
    with pytest.raises(DriverTimeout, match=r"device 'r4' is not open after 0.1 s"):
        opened(radio(0, 4), radio(4, 8, hang_open_s=0.5), open_timeout_s=0.1)


def test_wrong_names_are_refused(opened):
    with pytest.raises(DriverError, match=r"there is no driver drivers\.nowhere:Nothing"):
        opened(radio(0, 4), {"driver": "drivers.nowhere:Nothing"})
    with pytest.raises(DriverError, match=r"hil\.errors:HilError is no driver"):
        opened(radio(0, 4), {"driver": "hil.errors:HilError", "params": {}})
    with pytest.raises(DriverError, match="devices need names of their own"):
        opened(radio(0, 4), radio(0, 4))
    with pytest.raises(ParamError, match="length >= 2"):
        DeviceArray("both", devices=[radio(0, 4)])

import itertools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from drivers.xl_array import XlArray
from hil.errors import ControlError, DriverError, DriverTimeout, ParamError
from hil.frame import NO_LOSS, Loss

SOURCE = {"id": 1, "motion": {"kind": "stand", "position_m": [1.0, 5.0, 0.0]}}
DEVICE = {"array": {"kind": "ula", "n": 4}, "frame_period_s": 0, "sources": [SOURCE]}
FREE = {**DEVICE, "real_time": False}
REAL_TIME = {**DEVICE, "sample_rate_hz": 1e5, "n_snapshots": 500}


@pytest.fixture
def opened():
    drivers = []

    def open_(**params):
        driver = XlArray("sim", **params)
        drivers.append(driver)
        driver.open()
        return driver

    yield open_
    for driver in drivers:
        driver.close()


@pytest.fixture
def start_device():
    children = []

    def start(params, *arguments):
        settings = [f"{k}={json.dumps(v)}" for k, v in params.items()]
        child = subprocess.Popen(
            [sys.executable, "-m", "sim_device.serve", *arguments, *settings], stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child, json.loads(child.stdout.readline())

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdout.close()


def read_until(driver, enough, timeout_s=30.0):
    """All that comes until ``enough(items)``; fails after a while."""
    items, end = [], time.monotonic() + timeout_s
    while not enough(items):
        assert time.monotonic() < end, f"waited {timeout_s} s; {len(items)} frames came"
        reading = driver.read(0.2)
        assert reading is not None, "the stream ended"
        items += reading
    return items


def headers(items, port="iq", kind="data"):
    return [f.header for p, f in items if p == port and f.header.kind == kind]


def has_data(n, port="iq"):
    return lambda items: len(headers(items, port)) >= n


def test_an_embedded_device_that_runs_free_gives_every_frame_once_and_ends(opened):
    driver = opened(embedded=True, device={**FREE, "n_frames": 50})
    items = []
    while (reading := driver.read(5.0)) is not None:
        items += reading
    for port in ("iq", "truth"):
        got = headers(items, port)
        assert [h.seq for h in got] == list(range(50))
        assert {(h.stream, h.epoch, h.lost) for h in got} == {(f"sim.{port}", 0, NO_LOSS)}
        assert all(h.host_time_ns is not None for h in got)
        assert headers(items, port, "descriptor")
    times = {port: [h.time_ns for h in headers(items, port)] for port in ("iq", "truth")}
    assert times["iq"] == times["truth"]
    assert items[0][1].header.kind == "descriptor"
    assert driver.stats() == {
        "frames": 50, "frames_lost": 0, "samples_lost": 0, "samples_clipped": 0, "reconnects": 0, "connected": True,
    }  # fmt: skip
    assert driver.read(0.0) is None


def test_an_embedded_device_in_real_time_begins_when_the_driver_listens(opened):
    driver = opened(embedded=True, device=REAL_TIME)
    items = read_until(driver, lambda items: has_data(1)(items) and has_data(1, "truth")(items))
    for port in ("iq", "truth"):
        first = headers(items, port)[0]
        assert (first.seq, first.sample_start, first.timebase) == (first.lost.frames, 500 * first.seq, "utc")


def test_the_embedded_device_is_gone_after_close():
    before = set(psutil.Process().children())
    driver = XlArray("sim", embedded=True, device=REAL_TIME)
    driver.open()
    (child,) = set(psutil.Process().children()) - before
    driver.close()
    assert not child.is_running()


def test_capabilities_are_known_once_open(opened):
    closed = XlArray("sim", embedded=True).capabilities()
    assert closed.channels is None
    known = opened(embedded=True, device=REAL_TIME).capabilities()
    assert (known.channels, known.timebase, known.sync) == (4, "utc", True)
    assert known.tune_hz is not None


def test_verbs_reach_the_device_and_its_refusals_come_back(opened):
    driver = opened(embedded=True, device=FREE)
    assert driver.device_get("sources.0.power_db") == -30.0
    assert driver.device_set("sources.0.power_db", -25.0) == -25.0
    assert driver.inject_fault([1, 2], kind="dead") == [1, 2]
    assert [f["element"] for f in driver.faults()] == [1, 2]
    assert driver.clear_fault() == []
    driver.add_source({"id": 2, "motion": SOURCE["motion"]})
    driver.move_source(2, [0.0, 4.0, 0.0])
    driver.set_power(2, -40.0)
    driver.drop_samples(10)
    assert driver.tune(6e9) == 1
    assert driver.set_gain(3.0) == 2
    assert driver.set_sample_rate(2e6) == 3
    driver.remove_source(1)
    items = read_until(driver, lambda items: any(h.epoch == 3 for h in headers(items)))
    events = [h.meta["event"] for h in headers(items, kind="event")]
    assert sorted(events) == ["gain", "gap", "retune", "sample_rate"]
    assert sum(h.lost.samples for h in headers(items)) == 10
    assert driver.device_stats()["epoch"] == 3
    driver.stop()
    driver.start()
    driver.stall(0.01)
    with pytest.raises(ControlError, match=r"`float` <= 120.0 - at `\$.gain_db`"):
        driver.set_gain(1e9)
    with pytest.raises(ControlError, match="source 9: there are 2"):
        driver.move_source(9, [0.0, 1.0, 0.0])


def test_every_verb_is_a_method_that_says_what_it_does():
    for verb in XlArray.verbs:
        assert getattr(XlArray, verb).__doc__


def test_a_slow_reader_in_real_time_loses_frames_and_each_is_counted(opened):
    driver = opened(embedded=True, device={**REAL_TIME, "n_snapshots": 100, "queue_frames": 2})
    items = []
    while not any(h.lost.frames for h in headers(items)):
        time.sleep(0.05)
        items += driver.read(1.0)
    got = headers(items)
    for before, after in itertools.pairwise(got):
        missing = after.seq - before.seq - 1
        assert after.lost == Loss(frames=missing, samples=100 * missing)
    assert driver.stats()["frames_lost"] == sum(h.lost.frames for h in got)


@pytest.mark.slow
def test_a_device_that_is_killed_and_started_again_goes_on_in_a_new_epoch(opened, start_device):
    child, told = start_device(REAL_TIME)
    driver = opened(endpoint=told["endpoint"])
    items = read_until(driver, has_data(3))
    driver.tune(6e9)
    items += read_until(driver, lambda items: any(h.epoch == 1 for h in headers(items)))
    child.send_signal(signal.SIGKILL)
    child.wait()
    items += read_until(driver, lambda items: len(headers(items, kind="event")) >= 3 and not headers(items[-3:]))
    gone = [h for h in headers(items, kind="event") if h.meta["event"] == "disconnected"]
    assert len(gone) >= 2
    assert gone[1].host_time_ns - gone[0].host_time_ns >= 1e9
    assert not driver.stats()["connected"]
    start_device(REAL_TIME, "--endpoint", told["endpoint"])
    again = read_until(driver, lambda items: has_data(3)(items) and has_data(3, "truth")(items))
    (event,) = [h for h in headers(again, kind="event") if h.meta["event"] == "reconnect"]
    assert event.meta == {"event": "reconnect", "restarted": True}
    last, first = headers(items)[-1], headers(again)[0]
    assert first.epoch == event.epoch == last.epoch + 1
    assert first.seq == last.seq + 1 + first.lost.frames
    assert first.lost.samples == 500 * first.lost.frames
    kinds = [f.header.kind for p, f in again if p == "iq" and f.header.epoch == event.epoch]
    assert kinds[:3] == ["event", "descriptor", "data"]
    joined = {h.seq: h.time_ns for h in headers(again, "truth")}
    assert all(joined.get(h.seq, h.time_ns) == h.time_ns for h in headers(again))
    assert driver.device_get("frequency_hz") == 5e9, "commands go to the new device, on a new control socket"


def test_a_device_that_runs_free_is_started_again_after_a_restart(opened, start_device):
    child, told = start_device(FREE)
    driver = opened(endpoint=told["endpoint"])
    read_until(driver, has_data(3))
    child.kill()
    child.wait()
    start_device(FREE, "--endpoint", told["endpoint"])
    items = read_until(driver, lambda items: any(h.epoch == 1 for h in headers(items)))
    got = [h for h in headers(items) if h.epoch == 1]
    assert got[0].lost == NO_LOSS


def test_a_restarted_device_that_does_not_answer_at_once_is_asked_again(opened, start_device, monkeypatch):
    device = {**FREE, "descriptor_period_s": 0.2}
    child, told = start_device(device)
    driver = opened(endpoint=told["endpoint"])
    read_until(driver, has_data(3))
    child.kill()
    child.wait()
    connect, tries = driver._connect_control, []

    def busy_at_first(*arguments):
        tries.append(arguments)
        if len(tries) < 3:
            raise ControlError("no answer")
        connect(*arguments)

    monkeypatch.setattr(driver, "_connect_control", busy_at_first)
    start_device(device, "--endpoint", told["endpoint"])
    read_until(driver, lambda items: any(h.epoch == 1 for h in headers(items)))
    assert len(tries) >= 3


def test_reads_return_in_time_while_the_device_is_gone(opened, start_device):
    child, told = start_device(REAL_TIME)
    driver = opened(endpoint=told["endpoint"])
    child.kill()
    child.wait()
    for _ in range(30):
        reading = driver.read(0.01)
        assert reading is not None
    read_until(driver, lambda items: bool(headers(items, kind="event")))


def test_a_driver_that_was_restarted_tells_what_was_missed(opened, start_device):
    _, told = start_device(REAL_TIME)
    first = opened(endpoint=told["endpoint"])
    seen = headers(read_until(first, has_data(3)))[-1].seq
    first.close()
    second = XlArray("sim", endpoint=told["endpoint"])
    second.resume(seen)
    second.open()
    try:
        header = headers(read_until(second, has_data(1)))[0]
    finally:
        second.close()
    assert header.lost.frames == header.seq - seen - 1


def test_a_driver_that_was_restarted_numbers_on_from_a_device_that_was_too():
    driver = XlArray("sim", embedded=True, device={**FREE, "n_frames": 5})
    driver.resume(1000)
    driver.open()
    try:
        items = read_until(driver, lambda items: has_data(5)(items) and has_data(5, "truth")(items))
    finally:
        driver.close()
    for port in ("iq", "truth"):
        assert [h.seq for h in headers(items, port)] == [1001, 1002, 1003, 1004, 1005]
        assert headers(items, port)[0].lost == NO_LOSS
        assert all(h.seq > 1000 for h in headers(items, port, "descriptor"))


def test_arrays_stay_valid_after_the_next_read(opened):
    driver = opened(embedded=True, device={**FREE, "n_frames": 40})
    items = []
    while (reading := driver.read(5.0)) is not None:
        items += reading
    iq = [f["iq"] for p, f in items if p == "iq" and f.header.kind == "data"]
    again = opened(embedded=True, device={**FREE, "n_frames": 40})
    for port, frame in read_until(again, has_data(40)):
        if port == "iq" and frame.header.kind == "data":
            np.testing.assert_array_equal(frame["iq"], iq[frame.header.seq])


# -- refusals ------------------------------------------------------------------------------------------------------


def test_a_wrong_address_is_an_error_that_says_what_why_and_what_to_do():
    driver = XlArray("sim", endpoint="tcp://127.0.0.1:9", connect_timeout_s=0.3)
    try:
        with pytest.raises(
            DriverTimeout,
            match=r"XlArray 'sim': no simulated array answers at tcp://127.0.0.1:9: nothing came for 0.3 s; start one",
        ):
            driver.open()
    finally:
        driver.close()


def test_a_wrong_control_address_is_an_error(start_device):
    _, told = start_device(REAL_TIME)
    driver = XlArray("sim", endpoint=told["endpoint"], control_endpoint="tcp://127.0.0.1:9")
    try:
        with pytest.raises(
            DriverError, match=r"takes no commands: tcp://127.0.0.1:9 did not answer .* correct control"
        ):
            driver.open()
    finally:
        driver.close()


def test_parameters_that_the_embedded_device_refuses_come_back_in_its_words():
    driver = XlArray("sim", embedded=True, device={"array": {"kind": "ula", "n": 0}})
    try:
        with pytest.raises(DriverError, match=r"sim_device.serve did not start: it ended with status 1: .*\$.array.n"):
            driver.open()
    finally:
        driver.close()


def test_an_embedded_device_that_dies_ends_the_driver_with_an_error(opened):
    before = set(psutil.Process().children())
    driver = opened(embedded=True, device=REAL_TIME)
    (child,) = set(psutil.Process().children()) - before
    read_until(driver, has_data(1))
    child.kill()
    with pytest.raises(DriverError, match="the embedded device ended with status -9"):
        read_until(driver, lambda items: False)


@pytest.mark.parametrize("params", [{}, {"endpoint": "tcp://127.0.0.1:9", "embedded": True}])
def test_either_an_endpoint_or_embedded(params):
    with pytest.raises(ParamError, match="give either endpoint"):
        XlArray("sim", **params)


def test_verbs_before_open_are_refused():
    with pytest.raises(ControlError, match="sim: tune: the driver is not open"):
        XlArray("sim", embedded=True).tune(1e9)


def test_the_driver_imports_no_device():
    program = "import sys, drivers.xl_array; sys.exit(any(m.startswith('sim_device') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from hil.errors import ControlError, RunError
from hil.frame import NO_LOSS
from hil.runtime.frame_client import FrameClient
from sim_device.device import XlArrayDevice
from sim_device.server import DeviceServer
from tests.sim_device.running import frames_until_end, next_data, running

SOURCE = {"id": 1, "motion": {"kind": "stand", "position_m": [1.0, 5.0, 0.0]}}
COMMAND = [sys.executable, "-m", "sim_device.serve"]


def accounted(frames):
    """Every number that is missing is reported as lost by the next header, and nothing else is."""
    expected = frames[0].header.seq
    for frame in frames:
        assert frame.header.seq - expected == (frame.header.lost.frames if frame is not frames[0] else 0)
        expected = frame.header.seq + 1


def test_as_fast_as_it_can_nothing_is_lost_to_a_slow_client():
    params = {
        "sources": [SOURCE],
        "real_time": False,
        "n_frames": 60,
        "queue_frames": 4,
        "n_snapshots": 50,
        "frame_period_s": 0,
    }
    with running(**params) as device:
        client = device.client("iq")
        assert client.receive(20.0).header.kind == "descriptor"
        device.control.request("start")
        reference = XlArrayDevice(array={"kind": "ula", "n": 4}, **params)
        for k, frame in enumerate(frames_until_end(client)):
            if k % 20 == 0:
                time.sleep(0.05)
            assert (frame.header.seq, frame.header.lost) == (k, NO_LOSS)
            np.testing.assert_array_equal(frame["iq"], reference.samples(50 * k, 50))
        assert k == 59


def test_without_a_client_the_time_of_a_device_that_runs_free_stands_still():
    with running(real_time=False, autostart=True, sources=[SOURCE]) as device:
        time.sleep(0.2)
        assert device.control.request("stats")["seq"] == 0
        client = device.client("iq")
        assert next_data(client).header.seq == 0


def test_a_client_that_vanishes_does_not_hold_the_device():
    with running(real_time=False, autostart=True, queue_frames=2) as device:
        gone = FrameClient(device.server.frames.endpoint, streams=["iq"])
        next_data(gone)
        gone.socket.close(0)  # without a word, as of a process that is killed
        other = device.client("iq")
        assert next_data(other).header.lost == NO_LOSS
        for _ in range(10):
            next_data(other)


def test_real_time_frames_carry_utc_and_keep_their_distance():
    with running(sample_rate_hz=1e5, n_snapshots=500) as device:
        client = device.client("iq")
        frames = [next_data(client) for _ in range(5)]
        accounted(frames)
        times = [f.header.time_ns for f in frames]
        assert np.all(np.diff(times) == 5_000_000 * np.diff([f.header.seq for f in frames]))
        assert frames[0].header.timebase == "utc"
        assert abs(times[0] - time.time_ns()) < 60e9


def test_a_stall_in_real_time_loses_frames_and_says_how_many():
    with running(sample_rate_hz=1e5, n_snapshots=500) as device:
        client = device.client("iq")
        frames = [next_data(client)]
        device.control.request("stall", seconds=0.5)
        while not frames[-1].header.lost.frames:
            frames.append(next_data(client).copy())
        accounted(frames)
        lost = frames[-1].header.lost
        assert lost.samples == 500 * lost.frames
        assert device.control.request("stats")["frames_overrun"] == lost.frames


def test_a_slow_client_in_real_time_loses_frames_and_says_how_many():
    with running(sample_rate_hz=1e5, n_snapshots=200, queue_frames=2) as device:
        client = device.client("iq")
        frames = [next_data(client)]
        while not frames[-1].header.lost.frames:
            time.sleep(0.05)
            frames.append(next_data(client).copy())
        accounted(frames)
        assert device.control.request("stats")["frames_dropped"] > 0


def test_commands_take_effect_while_the_stream_runs():
    with running(real_time=False, sources=[SOURCE]) as device:
        client, ask = device.client("iq"), device.control.request
        ask("start")
        before = next_data(client)
        assert before.header.epoch == 0
        assert ask("tune", frequency_hz=6e9) == 1
        frames = []
        while not frames or frames[-1].header.epoch == 0 or frames[-1].header.kind != "data":
            frames.append(client.receive(20.0))
        *_, event, descriptor, first = [f.header for f in frames]
        assert (event.kind, event.meta) == ("event", {"event": "retune", "frequency_hz": 6e9})
        assert (descriptor.kind, descriptor.epoch, descriptor.frequency_hz) == ("descriptor", 1, 6e9)
        assert (first.epoch, first.frequency_hz) == (1, 6e9)
        assert first.seq == event.seq


def test_control_answers():
    with running(sources=[SOURCE], real_time=False) as device:
        ask = device.control.request
        told = ask("describe")
        assert told["params"]["sources"][0]["id"] == 1
        assert told["schema"]["$ref"].endswith("XlArrayParams")
        assert {"move_source", "inject_fault", "tune"} <= set(told["verbs"])
        assert {"get", "set", "start", "stop", "stall", "stats"} <= set(told["control_verbs"])
        assert told["endpoint"] == device.server.frames.endpoint
        assert ask("get", path="sources.0.power_db") == -30.0
        assert ask("set", path="sources.0.power_db", value=-20.0) == -20.0
        assert ask("get")["sources"][0]["power_db"] == -20.0
        assert ask("inject_fault", element=2, kind="dead") == [2]
        assert ask("faults") == [{"element": 2, "amplitude": 0.0, "phase_rad": 0.0}]
        assert ask("clear_fault") == []
        ask("add_source", source={"id": 2, "motion": {"kind": "bearing", "azimuth_rad": 0.1, "range_m": 9.0}})
        ask("move_source", id=2, position_m=[0, 3, 0])
        assert ask("get", path="sources.1.motion") == {"kind": "stand", "position_m": [0.0, 3.0, 0.0]}


@pytest.mark.parametrize(
    ("verb", "args", "message"),
    [
        ("fly", {}, "unknown verb 'fly': there are add_source, clear_fault, .*stop, tune"),
        ("tune", {}, "tune: argument 'frequency_hz' is missing"),
        ("tune", {"frequency_hz": 0.0}, r"tune: Expected `float` > 0.0 - at `\$.frequency_hz`"),
        ("set_gain", {"gain_db": 500.0}, r"`float` <= 120.0 - at `\$.gain_db`"),
        ("inject_fault", {"element": 1, "kind": "melt"}, r"Invalid enum value 'melt' - at `\$.kind`"),
        ("inject_fault", {"element": 9}, "this array has elements 0 to 3"),
        ("move_source", {"id": 1, "position_m": [0, 1]}, r"length 3.*\$.position_m"),
        ("move_source", {"id": 5, "position_m": [0, 1, 0]}, "source 5: there are 1"),
        ("add_source", {"source": {"id": 1, "motion": SOURCE["motion"]}}, "an id of its own"),
        ("drop_samples", {"n": 0}, r"`int` >= 1 - at `\$.n`"),
        ("stall", {"seconds": -1.0}, r">= 0.0 - at `\$.seconds`"),
        ("set", {"path": "seed", "value": 4}, "seed is fixed while the device runs"),
        ("set", {"path": "noise", "value": 4}, "no parameter 'noise'; there are array, sources"),
        ("set", {"path": "sources.0.power_db", "value": 1e6}, r"<= 100.0 - at `\$.sources\[0\].power_db`"),
        ("get", {"path": "sources.3"}, "expected a place from 0 to 0, got '3'"),
    ],
)
def test_control_refusals(verb, args, message):
    with running(sources=[SOURCE], real_time=False) as device, pytest.raises(ControlError, match=message):
        device.control.request(verb, **args)


def test_stop_and_start_make_a_new_epoch():
    with running(sample_rate_hz=1e5, n_snapshots=200) as device:
        client, ask = device.client("iq"), device.control.request
        first = next_data(client)
        ask("stop")
        assert not ask("stats")["streaming"]
        ask("start")
        ask("start")  # it runs already
        seen = []
        while not seen or seen[-1].epoch == 0 or seen[-1].kind != "data":
            seen.append(client.receive(20.0).header)
        assert [h.meta for h in seen if h.kind == "event"] == [{"event": "restart"}]
        assert seen[-1].epoch == 1
        numbers = [h.seq for h in seen if h.kind == "data"]
        assert numbers == list(range(first.header.seq + 1, first.header.seq + 1 + len(numbers))), "a stop loses nothing"
        assert seen[-1].time_ns > first.header.time_ns


def test_descriptors_come_to_a_late_client_and_name_the_control_socket():
    with running(sample_rate_hz=1e5, descriptor_period_s=0.05) as device:
        next_data(device.client("iq"))
        late = device.client("truth")
        frame = late.receive(20.0)
        assert (frame.header.kind, frame.header.stream) == ("descriptor", "truth")
        assert frame.header.meta["link"]["control"] == device.server.control.endpoint
        kinds = {late.receive(20.0).header.kind for _ in range(300)}
        assert kinds == {"data", "descriptor"}


def test_an_address_in_use_is_refused_and_leaves_nothing_open():
    with running() as device, pytest.raises(RunError, match=r"cannot bind .* choose another port"):
        DeviceServer({}, device.server.frames.endpoint)
    with running() as device, pytest.raises(ControlError, match="cannot bind the control socket"):
        DeviceServer({}, control_endpoint=device.server.control.endpoint)


# -- the process ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_tells_its_addresses_and_ends_cleanly_on_a_signal(number, tmp_path):
    config = tmp_path / "device.json"
    config.write_text(json.dumps({"sources": [SOURCE], "array": {"kind": "ula", "n": 4}}))
    child = subprocess.Popen(
        [*COMMAND, "--config", str(config), "seed=5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with child:
        told = json.loads(child.stdout.readline())
        assert told["pid"] == child.pid
        assert set(told) == {"endpoint", "control", "pid"}
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err) == (0, "", "")


def test_wrong_parameters_are_one_line_and_a_status():
    done = subprocess.run([*COMMAND, "array.n=0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "ParamError" in done.stderr
    assert "`int` >= 1 - at `$.array.n`" in done.stderr


def test_the_process_dies_with_its_parent():
    program = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen({COMMAND!r} + ['--parent', str(os.getpid())], stdout=sys.stdout)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with parent:
        child = psutil.Process(json.loads(parent.stdout.readline())["pid"])
        os.kill(parent.pid, signal.SIGKILL)
        gone, _ = psutil.wait_procs([child], timeout=20)
        assert gone

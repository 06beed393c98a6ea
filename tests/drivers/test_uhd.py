"""The driver of USRPs, through the real UHD, against simulated boards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers import uhd_interpreter
from drivers.uhd import Uhd, _time_ns
from hil.errors import ControlError, DriverError
from hil.frame import Frame
from sim_device.device import XlArrayDevice
from sim_device.servers.sample_feed import SampleFeed
from sim_device.servers.usrp.server import UsrpServer
from tests.drivers.live_jig import Served, data, event, events, has_data, has_event, read_until, served

needs_uhd = pytest.mark.skipif(uhd_interpreter.first_usable() is None, reason="needs Debian's python3-uhd")

RATE_HZ = 250e3
DEVICE = {"array": {"kind": "ula", "n": 2}, "frequency_hz": 2.4e9, "sample_rate_hz": RATE_HZ, "seed": 3}


@contextmanager
def boards(n: int = 2, **params: Any) -> Iterator[Served]:
    device = {**DEVICE, "array": {"kind": "ula", "n": n}}
    with served(
        UsrpServer, **{"host": "auto", "loop_ticks": 50_000, "fifo_s": 3.0, "device": device, **params}
    ) as usrp:
        yield usrp


@contextmanager
def opened(uri: str, **params: Any) -> Iterator[Uhd]:
    driver = Uhd(
        "radio", **{"uri": uri, "sample_rate_hz": RATE_HZ, "frequency_hz": 2.45e9, "n_samples": 5000, **params}
    )
    try:
        driver.open()
        yield driver
    finally:
        driver.close()


def arrays(frames: list[Frame]) -> list[np.ndarray[Any, Any]]:
    return [f.arrays["iq"] for f in frames if f.header.kind == "data"]


def contiguous(frames: list[Frame]) -> bool:
    headers = data(frames)
    ends = [h.sample_start + h.arrays[0].shape[1] for h in headers if h.sample_start is not None]
    starts = [h.sample_start for h in headers]
    return ends[:-1] == starts[1:]


# -- samples ----------------------------------------------------------------------------------------------------------


@needs_uhd
def test_frames_of_two_boards_are_the_samples_of_their_ticks() -> None:
    device = {**DEVICE, "array": {"kind": "ula", "n": 4}, "real_time": False}
    with boards(4, device=device, loop_ticks=None) as usrp, opened(usrp.uri, n_samples=4097) as driver:
        frames = read_until(driver, has_data(8))
        offsets = usrp.control.request("stats")["tick_offsets"]
        capabilities = driver.capabilities()
    assert frames[0].header.kind == "descriptor" and frames[0].header.meta["raw"]["full_scale"] == 32768.0
    assert (capabilities.channels, capabilities.sync, capabilities.timebase) == (4, True, "device")
    assert capabilities.tune_hz == (70e6, 6e9)
    assert offsets[0] == offsets[1]
    assert contiguous(frames)
    feed = SampleFeed(XlArrayDevice("other", **{**device, "frequency_hz": 2.45e9}))
    for header, samples in zip(data(frames), arrays(frames), strict=True):
        assert header.sample_start is not None and header.sample_rate_hz == RATE_HZ
        assert header.frequency_hz == 2.45e9 and header.lost == (0, 0, 0)
        assert header.time_ns == header.sample_start * 4000
        assert samples.shape == (4, 4097, 2) and samples.dtype == np.int16
        np.testing.assert_array_equal(samples, feed.counts(header.sample_start - offsets[0], 4097))


@pytest.mark.slow
@needs_uhd
def test_time_is_utc_where_it_is_asked_for_and_channels_can_be_chosen() -> None:
    with boards() as usrp, opened(usrp.uri, set_time="utc", channels=[1]) as driver:
        frames = read_until(driver, has_data(3))
    for header in data(frames):
        assert header.timebase == "utc" and header.time_ns is not None and header.host_time_ns is not None
        assert abs(header.host_time_ns - header.time_ns) < 20e9
        assert header.arrays[0].shape == (1, 5000, 2)


@pytest.mark.slow
@needs_uhd
def test_another_rate_than_the_boards_ran_at_leaves_the_ticks_exact() -> None:
    """UHD 4.3 tells the time of samples inside a packet at the rate that the device was opened with."""
    with boards(2, device={**DEVICE, "sample_rate_hz": 2 * RATE_HZ}) as usrp, opened(usrp.uri) as driver:
        frames = read_until(driver, has_data(12))
    assert contiguous(frames) and events(frames) == []
    assert {h.sample_rate_hz for h in data(frames)} == {RATE_HZ}


def test_time_of_a_tick_is_exact() -> None:
    tick = 1_700_000_000 * 61_440_000 + 1
    assert _time_ns(tick, 61.44e6) == 1_700_000_000 * 10**9 + 16


# -- verbs ------------------------------------------------------------------------------------------------------------


@needs_uhd
def test_settings_begin_epochs_and_no_frame_has_two_of_them() -> None:
    with boards() as usrp, opened(usrp.uri) as driver:
        frames = read_until(driver, has_data(3))
        assert driver.tune(2.5e9) == 1
        frames += read_until(driver, has_event("retune", 3))
        assert driver.set_gain(7.0) == 2
        frames += read_until(driver, has_event("gain", 3))
        assert usrp.server.feed.frequency_hz == 2.5e9 and usrp.server.feed.gain_db == 7.0
        assert {(h.epoch, h.frequency_hz) for h in data(frames)} == {(0, 2.45e9), (1, 2.5e9), (2, 2.5e9)}
        # what was taken in between is left out, and counted
        expected = next_tick = None
        for header in data(frames):
            if next_tick is not None:
                assert header.sample_start == next_tick + header.lost.samples
            next_tick = (header.sample_start or 0) + header.arrays[0].shape[1]
            expected = header
        assert expected is not None and sum(h.lost.samples for h in data(frames)) == driver.stats()["samples_lost"]
        assert driver.set_sample_rate(500e3) == 3
        after = read_until(driver, has_event("sample_rate", 4))
        headers = [h for h in data(after) if h.epoch == 3]
        assert all(h.sample_rate_hz == 500e3 and h.lost == (0, 0, 0) for h in headers)
        with pytest.raises(ControlError, match=r"1e\+10 Hz lies outside 7e\+07 to 6e\+09"):
            driver.tune(1e10)
        with pytest.raises(ControlError, match="lies outside 0 to 76"):
            driver.set_gain(100.0)
        read_until(driver, has_data(2))


# -- what goes wrong --------------------------------------------------------------------------------------------------


@needs_uhd
def test_faults_of_a_running_stream_are_told_apart_and_counted() -> None:
    with boards(4) as usrp, opened(usrp.uri) as driver:
        frames = read_until(driver, has_data(3))
        usrp.fault("lose_packets", 3)
        lost = read_until(driver, has_event("gap", 3))
        assert events(lost) == ["sequence_error", "gap"] and event(lost, "gap")["samples"] % 2000 == 0
        assert {h.epoch for h in data(lost)} == {0}
        usrp.fault("overrun")
        overrun = read_until(driver, has_event("gap", 3))
        assert events(overrun)[:2] == ["overflow", "gap"] and data(overrun)[-1].epoch == 1
        usrp.fault("clock_jump", 0.5)
        jumped = read_until(driver, has_event("clock_jump", 3))
        assert event(jumped, "clock_jump")["seconds"] == 0.5
        assert data(jumped)[-1].epoch == 2 and all(h.lost.samples == 0 for h in data(jumped))
        frames += lost + overrun + jumped
        # every tick is in a frame, or was counted as lost, or skipped by the clock
        headers = data(frames)
        total = (headers[-1].sample_start or 0) + headers[-1].arrays[0].shape[1] - (headers[0].sample_start or 0)
        received = sum(h.arrays[0].shape[1] for h in headers)
        skipped = event(jumped, "clock_jump")["ticks"]
        assert skipped == 125_000
        assert total == received + sum(h.lost.samples for h in headers) + skipped
        assert [h.seq for h in headers] == list(range(len(headers)))


@pytest.mark.slow
@needs_uhd
def test_a_corrupt_packet_is_an_event_and_a_gap() -> None:
    with boards() as usrp, opened(usrp.uri) as driver:
        read_until(driver, has_data(3))
        usrp.fault("corrupt")
        frames = read_until(driver, has_event("gap", 2))
        assert events(frames)[0] == "bad_packet" and event(frames, "gap")["samples"] % 2000 == 0


@pytest.mark.slow
@needs_uhd
def test_a_board_that_drops_its_host_is_found_again() -> None:
    with boards() as usrp, opened(usrp.uri, silence_s=0.7) as driver:
        read_until(driver, has_data(3))
        usrp.fault("drop_connection")
        frames = read_until(driver, has_event("reconnect", 3), timeout_s=40.0)
        assert events(frames)[0] == "disconnected"
        assert data(frames)[-1].epoch == 1


@pytest.mark.slow
@needs_uhd
def test_a_killed_process_is_started_again_though_its_claim_lives() -> None:
    with boards() as usrp, opened(usrp.uri) as driver:
        read_until(driver, has_data(3))
        assert driver._link is not None
        os.kill(driver._link._child.pid, signal.SIGKILL)
        frames = read_until(driver, has_event("reconnect", 3), timeout_s=40.0)
        assert "has ended" in event(frames, "disconnected")["why"]


@pytest.mark.slow
@needs_uhd
def test_the_process_dies_with_its_parent() -> None:
    script = (
        "import os, sys; from drivers.uhd import Uhd\n"
        "d = Uhd('radio', uri=sys.argv[1], sample_rate_hz=250e3)\n"
        "d.open(); print(d._link._child.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    with boards() as usrp:
        done = subprocess.run([sys.executable, "-c", script, usrp.uri], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


# -- errors -----------------------------------------------------------------------------------------------------------


def _cannot_open(uri: str, match: str, **params: Any) -> None:
    driver = Uhd("radio", **{"uri": uri, "sample_rate_hz": RATE_HZ, **params})
    with pytest.raises(DriverError, match=match):
        driver.open()
    driver.close()


@needs_uhd
def test_no_device_at_an_address() -> None:
    _cannot_open("addr=127.255.1.9", r"no USRP answers at addr=127.255.1.9: .*; see to power and network, or correct")


@needs_uhd
@pytest.mark.parametrize(
    ("params", "match"),
    [
        (
            {"sample_rate_hz": 100e6},
            r"the sample rate cannot be had .*1e\+08 Hz cannot be had \(220000 to 6.144e\+07\)",
        ),
        ({"frequency_hz": 9e9}, r"the frequency cannot be had .*; correct `frequency_hz`"),
        pytest.param(
            {"channels": (0, 7)}, "there is no such channel .*there are channels 0 to 1, not 7", marks=pytest.mark.slow
        ),
        pytest.param(
            {"antennas": ("RX9",)},
            "there is no such antenna .*channel 0 has RX2, TX/RX, not 'RX9'",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"clock_source": "sundial"},
            "there is no such clock source .*'sundial' is none of internal",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"array": {"kind": "ula", "n": 5, "spacing_m": 0.1}},
            "5 channels are declared, the device gives 2",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_device_cannot_do_is_said(params: dict[str, Any], match: str) -> None:
    with boards() as usrp:
        _cannot_open(usrp.uri, match, **params)


@pytest.mark.slow
@needs_uhd
def test_a_firmware_that_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim_device.servers.usrp.mpm.COMPAT", (5, 0))
    with boards() as usrp:
        _cannot_open(usrp.uri, "the USRP's firmware does not fit this UHD .*ompat")


def test_no_interpreter_names_the_package() -> None:
    _cannot_open(
        "addr=127.0.0.1", "there is no Python that has UHD: .*; install python3-uhd", interpreter=sys.executable
    )
    _cannot_open("addr=127.0.0.1", "it cannot be run: .*No such file", interpreter="/nowhere/python3")


def test_interpreters_are_listed_with_why_not() -> None:
    found = uhd_interpreter.find_interpreters()
    assert sys.executable in [i.path for i in found]
    assert all((i.version is None) == (i.why_not is not None) for i in found)


def test_an_old_uhd_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho found 3.15.0 1.24.2\n")
    old.chmod(0o755)
    assert uhd_interpreter.probe(str(old)).why_not == "its UHD is 3.15.0; the driver needs 4.0 or newer"


def test_the_child_needs_nothing_of_this_project() -> None:
    text = (Path(uhd_interpreter.__file__).parent / "uhd_child.py").read_text()
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}

"""The unmodified UHD against the simulated boards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.uhd_interpreter import first_usable
from hil.errors import DriverError, ParamError
from sim_device.device import XlArrayDevice
from sim_device.servers.sample_feed import SampleFeed
from sim_device.servers.usrp.server import UsrpServer
from tests.drivers.live_jig import served

HOST = Path(__file__).with_name("usrp_host.py")
ENVIRONMENT = {**os.environ, "UHD_LOG_CONSOLE_LEVEL": "error", "UHD_LOG_FASTPATH_DISABLE": "1"}


def device(n: int, **more: Any) -> dict[str, Any]:
    """A scene: two sources in front of a line of ``n`` elements."""
    sources = [
        {"id": i, "motion": {"kind": "stand", "position_m": [3.0 * i - 4.0, 20.0, 0.0]}, "power_db": -20.0}
        for i in (1, 2)
    ]
    array = {"kind": "ula", "n": n}
    fixed = {"frequency_hz": 2.4e9, "sample_rate_hz": 1e6, "real_time": False, "seed": 5}
    return {"array": array, "sources": sources, **fixed, **more}


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip("needs Debian's uhd-host")
    return path


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def host(*arguments: str) -> dict[str, Any]:
    found = first_usable()
    if found is None:
        pytest.skip("needs Debian's python3-uhd")
    told: dict[str, Any] = json.loads(run(found.path, str(HOST), *arguments).splitlines()[-1])
    return told


def test_uhd_finds_and_probes_a_board() -> None:
    find, probe = program("uhd_find_devices"), program("uhd_usrp_probe")
    with served(UsrpServer, host="auto", device=device(2)) as usrp:
        found = run(find, "--args", usrp.uri)
        assert "product: e320" in found and "serial: 51A0000" in found and "claimed: False" in found
        told = run(probe, "--args", usrp.uri)
        for line in ("RFNoC blocks on this device", "0/Radio#0:1==>0/SEP#1:0", "70.000 to 6000.000 MHz", "ref_locked"):
            assert line in told


def test_eight_channels_of_four_boards_start_at_the_commanded_tick_bit_for_bit(tmp_path: Path) -> None:
    n = 50_001  # the last packet is a short one
    with served(UsrpServer, host="auto", device=device(8)) as usrp:
        told = host(usrp.uri, "2e6", str(n), "0.3", str(tmp_path / "samples.npz"))
        offsets = usrp.control.request("stats")["tick_offsets"]
        assert told["boards"] == 4 and told["channels"] == 8
        assert told["synchronized"] and told["ref_locked"]
        assert (told["got"], told["error"], told["end_of_burst"]) == (n, "none", True)
        assert told["first_tick"] == told["commanded_tick"]
        assert offsets == [offsets[0]] * 4
        # the sample function at the same ticks, with the settings that the host chose, in another instance
        feed = SampleFeed(XlArrayDevice("other", **device(8)))
        state = usrp.server.feed.device.state
        other = feed.device
        other.tick = state.tick
        other.set_params(sample_rate_hz=2e6, frequency_hz=2.45e9, gain_db=3.0)
        expected = feed.counts(told["first_tick"] - offsets[0], n)
    samples = np.load(tmp_path / "samples.npz")["samples"].view(np.int16).reshape(8, n, 2)
    np.testing.assert_array_equal(samples, expected)
    assert len(np.unique(samples[:, :8, 0], axis=0)) == 8  # each channel has its own


@pytest.mark.slow
def test_a_start_in_the_past_is_reported_as_late() -> None:
    with served(UsrpServer, host="auto", device=device(2, real_time=True), loop_ticks=10_000) as usrp:
        told = host(usrp.uri, "1e6", "1000", "-0.5")
        assert (told["got"], told["error"]) == (0, "late")
        assert usrp.control.request("stats")["late"] == 2


def test_an_odd_array_is_refused() -> None:
    with pytest.raises(ParamError, match="a board has 2 channels, the array has 3"):
        UsrpServer({"host": "auto", "device": device(3)})


def test_an_address_that_is_taken_names_the_remedy() -> None:
    with (
        served(UsrpServer, host="auto", device=device(2)) as usrp,
        pytest.raises(DriverError, match="give another `host`, or auto"),
    ):
        UsrpServer({"host": usrp.uri.removeprefix("addr="), "device": device(2)})


def test_the_server_runs_as_a_module() -> None:
    from drivers.embedded import EmbeddedDevice

    child = EmbeddedDevice("sim_device.servers.usrp", {"host": "auto", "device": device(4)})
    try:
        addresses = child.addresses(30.0)
        assert addresses is not None and addresses["uri"].count("addr") == 2
    finally:
        child.close()

"""USRPs with a driver each, one pulse a second for all: put together by their clocks, to the sample."""

import numpy as np
import pytest

from drivers import uhd_interpreter
from drivers.device_array import DeviceArray
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise
from sim_device.servers.usrp.server import UsrpServer
from tests.drivers.live_jig import data, has_data, read_until, served

RATE_HZ = 1e6
ARRAY = {"kind": "ula", "n": 4, "spacing_m": 0.0625}
SCENE = {
    "array": ARRAY,
    "sources": [{"id": 1, "motion": {"kind": "stand", "position_m": [-2.0, 5.0, 0.0]}, "power_db": -15.0}],
    "frequency_hz": 2.4e9,
    "sample_rate_hz": RATE_HZ,
    "seed": 3,
}


@pytest.mark.slow
def test_two_drivers_two_boards_one_array():
    if uhd_interpreter.first_usable() is None:
        pytest.skip("needs python3-uhd")
    with served(UsrpServer, device=SCENE, host="auto") as unit:
        addresses = [part.partition("=")[2] for part in unit.uri.split(",") if part.startswith("addr")]
        assert len(addresses) == 2
        own = {"sample_rate_hz": RATE_HZ, "set_time": "utc", "clock_source": "external", "time_source": "external"}
        devices = [
            {"driver": "drivers.uhd:Uhd", "name": f"board{i}", "params": {"uri": f"addr={a}", "n_samples": 1000, **own}}
            for i, a in enumerate(addresses)
        ]
        driver = DeviceArray("four", devices=devices, align="time", array=ARRAY, n_samples=1500)
        try:
            driver.open()
            frames = read_until(driver, has_data(20), timeout_s=40)
        finally:
            driver.close()
        headers = data(frames)
        assert all(h.lost.samples == 0 and h.timebase == "utc" for h in headers)
        samples = np.concatenate([f["iq"] for f in frames if f.header.kind == "data"], axis=1)
        device = XlArrayDevice(**{**SCENE, "real_time": False})
        # the clocks began with some pulse: the tick is known up to whole seconds
        first = headers[0].time_ns // 1000 % 1_000_000
        ticks = [first + 1_000_000 * k for k in range(120)]
        begin = [t for t in ticks if np.array_equal(quantise(device.samples(t, 32), 16), samples[:, :32])]
        assert len(begin) == 1
        assert np.array_equal(samples, quantise(device.samples(begin[0], samples.shape[1]), 16))

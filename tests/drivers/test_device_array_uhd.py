"""USRPs with a driver each, one pulse a second for all: put together by their clocks, to the sample."""

import numpy as np
import pytest

from drivers import uhd_interpreter
from drivers.device_array import DeviceArray
from sim_device.device import XlArrayDevice
from sim_device.servers.quantise import quantise
from sim_device.servers.usrp.server import UsrpServer
from tests.drivers.live_jig import data, has_data, read_until, served

RATE_HZ, LOOP = 250e3, 50_000
ARRAY = {"kind": "ula", "n": 4, "spacing_m": 0.0625}
SCENE = {
    "array": ARRAY,
    "sources": [{"id": 1, "motion": {"kind": "stand", "position_m": [-2.0, 5.0, 0.0]}, "power_db": -15.0}],
    "frequency_hz": 2.4e9,
    "sample_rate_hz": RATE_HZ,
    "seed": 3,
}


@pytest.mark.slow
@pytest.mark.parametrize("n_boards", [2, 4])
def test_a_driver_a_board_one_array(n_boards):
    if uhd_interpreter.first_usable() is None:
        pytest.skip("needs python3-uhd")
    array = {**ARRAY, "n": 2 * n_boards}
    scene = {**SCENE, "array": array, "sample_rate_hz": RATE_HZ}
    # a period that is repeated, so that four processes of UHD and the boards share two processors; it divides a second
    with served(UsrpServer, device=scene, host="auto", loop_ticks=LOOP, fifo_s=5.0) as unit:
        addresses = [part.partition("=")[2] for part in unit.uri.split(",") if part.startswith("addr")]
        assert len(addresses) == n_boards
        own = {"sample_rate_hz": RATE_HZ, "set_time": "utc", "clock_source": "external", "time_source": "external"}
        devices = [
            {"driver": "drivers.uhd:Uhd", "name": f"board{i}", "params": {"uri": f"addr={a}", "n_samples": 1000, **own}}
            for i, a in enumerate(addresses)
        ]
        driver = DeviceArray("four", devices=devices, align="time", array=array, n_samples=1500)
        try:
            driver.open()
            frames = read_until(driver, has_data(20), timeout_s=40)
        finally:
            driver.close()
        headers = data(frames)
        assert all(h.lost.samples == 0 and h.timebase == "utc" for h in headers)
        samples = np.concatenate([f["iq"] for f in frames if f.header.kind == "data"], axis=1)
        period = quantise(XlArrayDevice(**{**scene, "real_time": False}).samples(0, LOOP), 16)
        # the clocks began with some pulse, and whole seconds are whole periods
        begin = headers[0].time_ns * round(RATE_HZ) // 1_000_000_000 % LOOP
        ticks = (begin + np.arange(samples.shape[1])) % LOOP
        assert np.array_equal(samples, period[:, ticks])

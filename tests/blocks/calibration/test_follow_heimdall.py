"""A KrakenSDR that leaves its delays and phases uncorrected: the graph corrects them, after each retune by itself."""

import numpy as np

from blocks.calibration.follow_calibration import FollowCalibration
from blocks.front_end.to_complex import ToComplex
from drivers.heimdall import Heimdall
from sim_device.device import XlArrayDevice
from sim_device.servers.heimdall.server import HeimdallServer
from tests.drivers.live_jig import served

N, RATE_HZ = 2048, 1e6
ARRAY = {"kind": "uca", "n": 5, "radius_m": 0.294, "array_id": "kraken"}
DEVICE = {
    "array": ARRAY,
    "sources": [{"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.6, "range_m": 200.0}, "power_db": -20}],
    "frequency_hz": 433.92e6,
    "sample_rate_hz": RATE_HZ,
    "noise_power_db": -60.0,
    "real_time": False,
    "gain_db": 0.0,
}
UNIT = {"n_samples": N, "calibration_s": 20 * N / RATE_HZ, "corrects": False, "device": DEVICE}


def follow(driver, blocks, until, n_most=400):
    """Data frames and calibration events behind the blocks, until ``until(data, events)``."""
    data, events = [], []
    for _ in range(n_most):
        frames = driver.read(1.0)
        assert frames is not None
        for block in blocks:
            frames = [out for _, frame in frames for out in block.feed(next(iter(block.inputs)), frame)]
        for _, frame in frames:
            if frame.header.kind == "data":
                data.append(frame.copy())
            elif frame.header.kind == "event" and frame.header.meta["event"] == "calibration":
                events.append(frame.header.meta)
        if until(data, events):
            return data, events
    raise AssertionError(f"not in {n_most} readings: {events[-10:]}")


def error_rad(frame, ideal):
    ratio = (frame["iq"] * ideal.conj()).sum(-1)
    return np.abs(np.angle(ratio * ratio[0].conj())).max()


def test_delays_and_phases_follow_each_retune():
    with served(HeimdallServer, **UNIT) as unit:
        driver = Heimdall("kraken", uri=unit.uri, array=ARRAY, require_sync=False)
        driver.open()
        noise_source = {"verb": "recalibrate", "on": {}, "off": None, "control": unit.server.control.endpoint}
        blocks = [
            ToComplex("to"),
            FollowCalibration(
                "cal", max_delay_samples=32, n_measure=4096, noise_source=noise_source, while_stale="drop"
            ),
        ]
        try:
            for frequency_hz in (433.92e6, 434.6e6):
                if frequency_hz != 433.92e6:
                    driver.tune(frequency_hz)
                # frames of the old frequency are on their way when the command has been answered
                data, events = follow(
                    driver, blocks, lambda data, events, f=frequency_hz: [h for h in data if h.header.frequency_hz == f]
                )
                result = events[-1]
                assert (result["result"], result["state"]) == ("redone", "valid")
                stored = blocks[1]._follower.calibration
                receiver = unit.server.receiver
                # the server's rows begin ``delay`` samples later in time, so they are early by that
                late = -(receiver.delay - receiver.delay[0])
                np.testing.assert_allclose(stored.delay_s * RATE_HZ, late, atol=5e-3)
                np.testing.assert_allclose(
                    np.exp(1j * stored.offset_rad), receiver.phase / receiver.phase[0], atol=5e-3
                )
                frame = data[-1]
                assert frame.header.calibration == "valid"
                # channel 0 is itself ahead of the scene by its own delay
                start = frame.header.sample_start + int(receiver.delay[0])
                device = XlArrayDevice(**{**DEVICE, "frequency_hz": frequency_hz})
                assert error_rad(frame, device.samples(start, frame["iq"].shape[1])) < 0.01
        finally:
            for block in blocks:
                block.close()
            driver.close()

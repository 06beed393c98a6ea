"""What all live drivers do with a device that comes and goes, on one that is a script."""

import time

import numpy as np
import pytest

from drivers.live import ConnectionLost, LiveDriver
from hil.errors import DriverError, ParamError
from hil.streams import RAW_IQ, port_of


class Scripted(LiveDriver):
    """Gives a frame a read; ``gone`` and ``absent`` are what the device does."""

    outputs = {"iq": port_of(RAW_IQ)}

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.gone = self.absent = self.silent = False
        self.n_disconnects = self.n_tries = 0

    def connect(self, timeout_s):
        self.n_tries += 1
        if self.absent:
            raise self.failure("no radio at " + self.uri, "connection refused", "switch it on")
        self.keep_ledger(2, 1e9)

    def fetch(self, timeout_s):
        if self.gone:
            self.gone = False
            raise ConnectionLost("reset by peer")
        if self.silent:
            time.sleep(timeout_s)
            return []
        iq = np.zeros((2, 4, 2), np.int16)
        frames = self.ledger.data(
            tick=self.ledger.next_tick or 0,
            n_samples=4,
            time_ns=None,
            timebase=None,
            iq=(iq, "sensor snapshot component", "count"),
        )
        return [("iq", f) for f in frames]

    def disconnect(self):
        self.n_disconnects += 1


@pytest.fixture
def driver():
    driver = Scripted("radio", uri="x:1", silence_s=0.1)
    yield driver
    driver.close()


def kinds(driver, n, timeout_s=0.05):
    return [
        f.header.meta.get("event", f.header.kind) if f.header.kind == "event" else f.header.kind
        for _ in range(n)
        for _, f in driver.read(timeout_s)
    ]


def until(driver, word):
    seen = []
    for _ in range(200):
        seen += kinds(driver, 1)
        if word in seen:
            return seen
    raise AssertionError(f"no {word} in {seen}")


def test_begins_with_what_the_array_is(driver):
    driver.open()
    assert kinds(driver, 3) == ["descriptor", "data", "data"]


def test_a_device_that_is_not_there_at_first_is_one_clear_error(driver):
    driver.absent = True
    with pytest.raises(DriverError, match=r"Scripted 'radio': no radio at x:1: connection refused; switch it on"):
        driver.open()
    assert driver.n_disconnects == 1


def test_a_device_that_goes_is_found_again_in_a_new_epoch(driver):
    driver.open()
    kinds(driver, 3)
    driver.gone = driver.absent = True
    assert kinds(driver, 1) == ["disconnected"]
    assert not driver.stats()["connected"]
    until(driver, "disconnected")
    driver.absent = False
    assert until(driver, "reconnect")[-2:] == ["reconnect", "descriptor"]
    assert kinds(driver, 1) == ["data"]
    assert (driver.ledger.epoch, driver.n_reconnects, driver.ledger.seq) == (1, 1, 3)


def test_the_waits_between_attempts_grow(driver, monkeypatch):
    driver.open()
    driver.read(0)
    now = time.monotonic()
    monkeypatch.setattr("drivers.live.time.monotonic", lambda: now)
    monkeypatch.setattr("drivers.live.time.sleep", lambda s: None)
    driver.gone = driver.absent = True
    driver.read(0)
    tries = []
    for _ in range(3000):
        before = driver.n_tries
        driver.read(0.05)
        if driver.n_tries > before:
            tries.append(now)
        now += 0.01
    waits = np.diff(tries)
    np.testing.assert_allclose(waits[:5], [0.2, 0.4, 0.8, 1.6, 2.0], atol=0.05)
    np.testing.assert_allclose(waits[5:], 2.0, atol=0.05)


def test_a_device_that_falls_silent_counts_as_gone(driver):
    driver.open()
    kinds(driver, 2)
    driver.silent = True
    until(driver, "disconnected")
    driver.silent = False
    until(driver, "reconnect")


def test_gives_up_where_it_is_told_to():
    driver = Scripted("radio", uri="x:1", reconnect_s=0.2)
    driver.open()
    driver.read(0)
    driver.gone = driver.absent = True
    with pytest.raises(DriverError, match="has been gone for"):
        until(driver, "never")
    driver.close()


def test_an_array_that_does_not_fit_the_device_is_refused():
    driver = Scripted("radio", uri="x:1", array={"kind": "ula", "n": 5})
    with pytest.raises(DriverError, match="5 channels are declared, the device gives 2"):
        driver.open()


@pytest.mark.parametrize("params", [{}, {"uri": "x:1", "embedded": True}])
def test_needs_one_place_where_the_device_is(params):
    with pytest.raises(ParamError, match=r"either uri .* or embedded"):
        Scripted("radio", **params)

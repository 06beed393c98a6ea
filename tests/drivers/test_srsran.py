"""The driver of srsRAN's ZeroMQ radio against the simulated one, and the server against a plain REQ socket."""

import random
import socket
import threading

import numpy as np
import pytest
import zmq

from drivers.srsran import SrsRan
from hil.errors import DriverError, DriverTimeout
from sim_device.device import XlArrayDevice
from sim_device.servers.srsran.server import SrsRanServer
from tests.drivers.live_jig import data, event, events, has_data, has_event, read_until, served

N, RATE_HZ = 500, 1.92e6
SOURCES = [{"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.6, "range_m": 200.0}, "power_db": -20}]
DEVICE = {
    "real_time": False, "sources": SOURCES, "sample_rate_hz": RATE_HZ, "array": {"kind": "ula", "n": 2},
    "frequency_hz": 3.5e9,
}  # fmt: skip
RADIO = {"n_samples": 300, "device": DEVICE}


@pytest.fixture
def opened():
    drivers = []

    def open_(uri, **params):
        known = {"n_samples": N, "frequency_hz": 3.5e9, "sample_rate_hz": RATE_HZ}
        driver = SrsRan("radio", uri=uri, **{**known, **params})
        drivers.append(driver)
        driver.open()
        return driver

    yield open_
    for driver in drivers:
        driver.close()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_samples_are_those_of_the_array_and_time_is_their_count(opened, n):
    device = {**DEVICE, "array": {"kind": "ula", "n": n}}
    with served(SrsRanServer, n_samples=300, device=device) as radio:
        driver = opened(radio.uri)
        frames = read_until(driver, has_data(4))
        x = np.concatenate([f["iq"] for f in frames if f.header.kind == "data"], axis=1)
        np.testing.assert_array_equal(x, XlArrayDevice(**device).samples(0, x.shape[1]))
        headers = data(frames)
        assert [h.sample_start for h in headers] == [N * i for i in range(len(headers))]
        assert [h.time_ns for h in headers] == [int(N * i * 1e9 / RATE_HZ) for i in range(len(headers))]
        assert {(h.timebase, h.frequency_hz, h.sample_rate_hz) for h in headers} == {("device", 3.5e9, RATE_HZ)}
        assert events(frames) == [] and driver.capabilities().channels == n


def test_a_plain_request_socket_reads_it():
    with served(SrsRanServer, **RADIO) as radio:
        context = zmq.Context()
        asks = context.socket(zmq.REQ)
        asks.setsockopt(zmq.RCVTIMEO, 3000)
        try:
            asks.connect("tcp://" + radio.uri.removeprefix("srsran://").partition(",")[0])
            came = []
            for request in (b"\xff", b"", b"longer than one"):
                asks.send(request)
                came.append(np.frombuffer(asks.recv(), "<c8"))
            np.testing.assert_array_equal(np.concatenate(came), XlArrayDevice(**DEVICE).samples(0, 900)[0])
        finally:
            asks.close(0)
            context.term()


@pytest.mark.parametrize("fault", ["drop_connection", "short_read", "stall"])
def test_what_breaks_the_connection_and_how_it_is_told(opened, fault):
    with served(SrsRanServer, **RADIO) as radio:
        driver = opened(radio.uri, silence_s=0.3)
        read_until(driver, has_data(2))
        radio.fault(fault, 1.0 if fault == "stall" else None)
        frames = read_until(driver, has_event("reconnect", 2))
        why = {
            "drop_connection": "connection was closed",
            "short_read": "of 2397 bytes ends within a sample",
            "stall": "nothing came for 0.3 s",
        }[fault]
        assert why in event(frames, "disconnected")["why"]
        after = data(frames)[-1]
        assert after.epoch == 1 and after.sample_start % N == 0
        assert after.meta == {"usable": False, "why": "channels may be shifted since the connection broke"}


def test_one_channel_cannot_be_shifted(opened):
    with served(SrsRanServer, n_samples=300, device={**DEVICE, "array": {"kind": "ula", "n": 1}}) as radio:
        driver = opened(radio.uri)
        read_until(driver, has_data(2))
        radio.fault("drop_connection")
        assert data(read_until(driver, has_event("reconnect", 2)))[-1].meta == {}


def test_what_the_protocol_cannot_tell(opened):
    """Samples that are damaged or left out are nowhere numbered: no driver could see it. The docs say so."""
    with served(SrsRanServer, **RADIO) as radio:
        driver = opened(radio.uri)
        read_until(driver, has_data(2))
        radio.fault("lose_packets", 2)
        radio.fault("corrupt", 4)
        frames = read_until(driver, lambda frames: radio.server.faults.n_waiting == 0 and has_data(8)(frames))
        assert events(frames) == [] and driver.stats()["samples_lost"] == 0


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = SrsRan("radio", uri=f"srsran://127.0.0.1:{port}", connect_timeout_s=0.3, frequency_hz=3.5e9)
    with pytest.raises(DriverTimeout, match=f"nothing answers at tcp://127.0.0.1:{port}: .*device_driver zmq"):
        driver.open()


@pytest.mark.parametrize("uri", ["srsran://host", "srsran://host:1,x", "http://x", "host:2000"])
def test_addresses_that_are_none(uri):
    with pytest.raises(DriverError, match=r"there is no such address.*a port a channel"):
        SrsRan("radio", uri=uri, frequency_hz=3.5e9).open()


def test_an_array_that_needs_a_frequency(opened):
    with served(SrsRanServer, **RADIO) as radio, pytest.raises(DriverError, match="give frequency_hz"):
        opened(radio.uri, frequency_hz=None)


def test_answers_of_any_length_and_content(opened):
    """10,000 answers: whole samples are taken as they are, anything else ends the connection."""
    rng, context, ended = random.Random(1), zmq.Context(), threading.Event()
    answers = context.socket(zmq.REP)
    answers.setsockopt(zmq.RCVTIMEO, 20)
    port = answers.bind_to_random_port("tcp://127.0.0.1")
    sent = []

    def answer():
        while not ended.is_set():
            try:
                answers.recv()
            except zmq.Again:
                continue
            sent.append(rng.randbytes(8 * rng.randint(0, 30) + (5 if len(sent) == 10_000 else 0)))
            answers.send(sent[-1])

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        driver = opened(f"tcp://127.0.0.1:{port}", n_samples=1000)
        frames = read_until(driver, has_event("disconnected"))
        assert "ends within a sample" in event(frames, "disconnected")["why"]
        came = b"".join(f["iq"].tobytes() for f in frames if f.header.kind == "data")
        assert b"".join(sent[:10_000]).startswith(came) and len(came) > 100_000
    finally:
        driver.close()
        ended.set()
        thread.join()
        answers.close(0)
        context.term()

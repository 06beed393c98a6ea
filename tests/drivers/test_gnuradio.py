"""The driver of GNU Radio's ZeroMQ sinks against the simulated flowgraph: samples, tags, faults, errors."""

import random
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import zmq

from drivers.gnuradio import GnuRadio
from drivers.gnuradio_address import Form, parse_address
from drivers.gnuradio_tags import read_hz, read_time
from hil.errors import DriverError, DriverTimeout, ParamError
from hil.formats import gr_zeromq, pmt
from sim_device.device import XlArrayDevice
from sim_device.servers.gnuradio.server import GnuRadioServer
from tests.drivers.live_jig import data, event, events, has_data, has_event, read_until, served

N = 500
SOURCES = [{"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.6, "range_m": 200.0}, "power_db": -20}]
DEVICE = {
    "real_time": False, "sources": SOURCES, "sample_rate_hz": 1e5, "array": {"kind": "ula", "n": 3},
    "frequency_hz": 2.4e9,
}  # fmt: skip
PUSH = {"socket": "push", "n_samples": 300, "device": DEVICE}
ARRAY = {"kind": "ula", "n": 3, "spacing_m": 0.06}


@pytest.fixture
def opened():
    drivers = []

    def open_(uri, **params):
        driver = GnuRadio("flowgraph", uri=uri, **{"n_samples": N, "array": ARRAY, **params})
        drivers.append(driver)
        driver.open()
        return driver

    yield open_
    for driver in drivers:
        driver.close()


@contextmanager
def pushing(messages):
    """A PUSH socket that hands out ``messages``; gives its endpoint."""
    context = zmq.Context()
    sink = context.socket(zmq.PUSH)
    sink.setsockopt(zmq.SNDHWM, 0)
    port = sink.bind_to_random_port("tcp://127.0.0.1")
    ended = threading.Event()

    def send():
        for message in messages:
            while not ended.is_set():
                try:
                    sink.send(message, zmq.NOBLOCK)
                    break
                except zmq.Again:  # nobody is there yet
                    ended.wait(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        ended.set()
        thread.join()
        sink.close(0)
        context.term()


def iq(frames):
    return np.concatenate([f["iq"] for f in frames if f.header.kind == "data"], axis=1)


@pytest.mark.parametrize("layout", ["vector", "channels"])
@pytest.mark.parametrize("content", ["stream", "tagged"])
@pytest.mark.parametrize("kind", ["push", "rep"])
def test_samples_are_those_of_the_array(opened, kind, content, layout):
    with served(GnuRadioServer, **{**PUSH, "socket": kind, "content": content, "layout": layout}) as flowgraph:
        frames = read_until(opened(flowgraph.uri), has_data(4))
        x = iq(frames)
        np.testing.assert_array_equal(x, XlArrayDevice(**DEVICE).samples(0, x.shape[1]))
        headers = data(frames)
        assert [h.sample_start for h in headers] == [N * i for i in range(len(headers))]
        assert {h.arrays[0].shape for h in headers} == {(3, N)} and events(frames) == []
        if content == "tagged":
            assert {(h.timebase, h.frequency_hz, h.sample_rate_hz) for h in headers} == {("device", 2.4e9, 1e5)}
            assert set(np.diff([h.time_ns for h in headers])) == {N * 10_000}
        else:
            assert {(h.timebase, h.frequency_hz, h.sample_rate_hz) for h in headers} == {("host", None, None)}


def test_pub_in_real_time_with_a_key(opened):
    device = {**DEVICE, "real_time": True, "sources": []}
    with served(GnuRadioServer, socket="pub", key="site", n_samples=300, tag_every_s=0.01, device=device) as flowgraph:
        driver = opened(flowgraph.uri, tag_timebase="utc")
        frames = read_until(driver, lambda f: has_data(3)(f) and data(f)[-1].timebase == "utc")
        assert abs(data(frames)[-1].time_ns - time.time_ns()) < 5e9
        x, start = frames[-1]["iq"], data(frames)[-1].sample_start
        origin = flowgraph.server._clock.tick(start)
        np.testing.assert_array_equal(x, XlArrayDevice(**device).samples(origin, x.shape[1]))


def test_a_retune_is_a_new_epoch_from_its_very_item_on(opened):
    with served(GnuRadioServer, **PUSH) as flowgraph:
        driver = opened(flowgraph.uri)
        read_until(driver, has_data(1))
        flowgraph.fault("retune", 2.5e9)
        frames = read_until(driver, has_event("retune", 2))
        assert event(frames, "retune")["frequency_hz"] == 2.5e9
        headers = data(frames)
        assert all((h.epoch, h.frequency_hz) in ((0, 2.4e9), (1, 2.5e9)) for h in headers)
        starts = [h.sample_start + h.arrays[0].shape[1] for h in headers]
        assert starts[:-1] == [h.sample_start for h in headers[1:]]  # a short frame before it, nothing is lost
        assert next(h.sample_start for h in headers if h.epoch == 1) == flowgraph.server._clock.newest.item
        flowgraph.control.request("set_sample_rate", sample_rate_hz=2e5)
        frames = read_until(driver, has_event("sample_rate", 2))
        assert (data(frames)[-1].sample_rate_hz, data(frames)[-1].epoch) == (2e5, 2)


def test_samples_that_a_sink_dropped_are_counted_exactly(opened):
    with served(GnuRadioServer, **PUSH) as flowgraph:
        driver = opened(flowgraph.uri)
        read_until(driver, has_data(2))
        flowgraph.fault("lose_packets", 3)
        frames = read_until(driver, has_event("gap", 1))
        assert event(frames, "gap")["samples"] == 900
        assert sum(h.lost.samples for h in data(frames)) == 900
        after = next(f for f in frames if f.header.lost.samples)
        np.testing.assert_array_equal(
            after["iq"], XlArrayDevice(**DEVICE).samples(after.header.sample_start, after["iq"].shape[1])
        )
        assert driver.stats()["epoch"] == 0


@pytest.mark.parametrize("kind", ["push", "rep"])
def test_samples_that_the_hardware_lost_are_told_by_the_time(opened, kind):
    with served(GnuRadioServer, **{**PUSH, "socket": kind, "layout": "channels"}) as flowgraph:
        driver = opened(flowgraph.uri)
        read_until(driver, has_data(2))
        flowgraph.fault("overrun", 1234)
        frames = read_until(driver, has_event("overflow", 1))
        assert event(frames, "overflow")["samples"] == event(frames, "gap")["samples"] == 1234
        after = next(f for f in frames if f.header.lost.samples)
        assert after.header.lost.samples == 1234
        x = XlArrayDevice(**DEVICE).samples(after.header.sample_start, after["iq"].shape[1])
        np.testing.assert_array_equal(after["iq"], x)


def test_a_clock_that_is_set_back(opened):
    with served(GnuRadioServer, **PUSH) as flowgraph:
        driver = opened(flowgraph.uri)
        read_until(driver, has_data(2))
        flowgraph.fault("clock_jump", -2.0)
        frames = read_until(driver, has_event("clock_jump", 1))
        assert event(frames, "clock_jump")["seconds"] == pytest.approx(-2.0, abs=1e-6)
        assert driver.stats()["samples_lost"] == 0


@pytest.mark.parametrize("fault", ["corrupt", "short_read"])
def test_a_damaged_message_is_left_out_and_counted(opened, fault):
    with served(GnuRadioServer, **PUSH) as flowgraph:
        driver = opened(flowgraph.uri)
        read_until(driver, has_data(2))
        flowgraph.fault(fault)
        frames = read_until(driver, has_event("gap", 1))
        assert "corrupt" in events(frames)
        assert event(frames, "gap")["samples"] == (300 if fault == "corrupt" else 1)
        assert driver.stats()["bad_messages"] == 1


@pytest.mark.parametrize("kind", ["pub", "push", "rep"])
def test_a_lost_connection_is_found_again(opened, kind):
    device = {**DEVICE, "real_time": kind == "pub", "sources": []}
    with served(GnuRadioServer, **{**PUSH, "socket": kind, "device": device, "hwm": 2}) as flowgraph:
        driver = opened(flowgraph.uri)
        read_until(driver, has_data(2))
        flowgraph.fault("drop_connection")
        frames = read_until(driver, has_event("reconnect", 2))
        names = events(frames)
        assert names.index("disconnected") < names.index("reconnect")
        assert "connection was closed" in event(frames, "disconnected")["why"]
        assert data(frames)[-1].epoch == names.count("reconnect")


def test_what_a_lost_connection_to_a_running_flowgraph_cost_is_counted(opened):
    device = {**DEVICE, "real_time": True, "sources": []}
    with served(GnuRadioServer, **{**PUSH, "socket": "pub", "device": device}) as flowgraph:
        driver = opened(flowgraph.uri)
        before = read_until(driver, has_data(200))
        flowgraph.fault("drop_connection")
        frames = before + read_until(driver, has_event("reconnect", 5))
        headers = data(frames)
        n_came = sum(h.arrays[0].shape[1] for h in headers)
        last = headers[-1]
        assert last.epoch == 1 and "restart" not in events(frames)
        n_lost = last.sample_start + last.arrays[0].shape[1] - headers[0].sample_start - n_came
        assert n_lost == sum(h.lost.samples for h in headers) > 0


def test_a_damaged_message_without_tags_ends_its_frame(opened):
    items = np.arange(700, dtype=np.complex64).tobytes()
    with pushing([items, items[:-3], items]) as endpoint:
        form = {"socket": "pull", "content": "stream"}
        driver = opened(endpoint, form=form, array={**ARRAY, "n": 1}, sample_rate_hz=1e5)
        frames = read_until(driver, lambda frames: sum(h.arrays[0].shape[1] for h in data(frames)) >= 1899)
    assert [h.arrays[0].shape[1] for h in data(frames)][:4] == [500, 500, 399, 500]
    assert event(frames, "corrupt")["samples"] is None


def test_a_flowgraph_that_stalls_counts_as_gone(opened):
    with served(GnuRadioServer, **PUSH) as flowgraph:
        driver = opened(flowgraph.uri, silence_s=0.3, hwm=1)
        read_until(driver, has_data(2))
        flowgraph.fault("stall", 1.0)
        frames = read_until(driver, has_event("reconnect", 1))
        assert "nothing came for 0.3 s" in event(frames, "disconnected")["why"]


def test_a_flowgraph_that_was_started_anew_counts_from_0(opened):
    items = np.arange(1000, dtype=np.complex64).tobytes()
    with pushing([gr_zeromq.encode_tags(offset) + items for offset in (5000, 6000, 0, 1000)]) as endpoint:
        driver = opened(endpoint, form={"socket": "pull"}, array={**ARRAY, "n": 1})
        frames = read_until(driver, has_data(8))
        assert events(frames) == ["restart"]
        assert [(h.epoch, h.sample_start) for h in data(frames)] == [
            *((0, 5000 + N * i) for i in range(4)), *((1, N * i) for i in range(4)),
        ]  # fmt: skip


def test_pdus(opened):
    with served(GnuRadioServer, **{**PUSH, "content": "pdu"}) as flowgraph:
        driver = opened(flowgraph.uri)
        frames = read_until(driver, has_data(4))
        x = iq(frames)
        np.testing.assert_array_equal(x, XlArrayDevice(**DEVICE).samples(0, x.shape[1]))
        header = data(frames)[0]
        assert (header.frequency_hz, header.sample_rate_hz, header.sample_start) == (2.4e9, 1e5, None)
        flowgraph.fault("corrupt")
        frames = read_until(driver, has_event("corrupt", 1))
        flowgraph.fault("retune", 2.5e9)
        frames = read_until(driver, has_event("retune", 1))
        assert data(frames)[-1].frequency_hz == 2.5e9


def test_shorts(opened):
    counts = np.arange(1000 * 2 * 2, dtype=np.int16).reshape(1000, 2, 2)  # item, channel, component
    with pushing([counts.tobytes()]) as endpoint:
        form = {"socket": "pull", "content": "stream", "vlen": 2}
        frames = read_until(opened(endpoint, form=form, item="int16", array={**ARRAY, "n": 2}), has_data(2))
        assert next(f for f in frames if f.header.kind == "descriptor").header.meta["raw"] == {"full_scale": 32768.0}
        np.testing.assert_array_equal(iq(frames), counts.transpose(1, 0, 2))
        assert data(frames)[0].arrays[0].axes == ("sensor", "snapshot", "component")


# -- errors ----------------------------------------------------------------------------------------------------------


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = GnuRadio("flowgraph", uri=f"tcp://127.0.0.1:{port}", connect_timeout_s=0.3)
    with pytest.raises(DriverTimeout, match=f"nothing answers at tcp://127.0.0.1:{port}: .* start the flowgraph"):
        driver.open()


def test_another_form_than_the_sink_has(opened):
    for content, declared, why in (("stream", "tagged", "has no tags"), ("tagged", "stream", "the stream has tags")):
        with (
            served(GnuRadioServer, **{**PUSH, "content": content, "n_samples": 301}) as flowgraph,
            pytest.raises(DriverError, match=why),
        ):
            opened(flowgraph.uri.replace(f"content={content}", f"content={declared}"))
    with (
        served(GnuRadioServer, **{**PUSH, "content": "stream"}) as flowgraph,
        pytest.raises(DriverError, match="items are not of 56 bytes: a message of 7200 bytes"),
    ):
        opened(flowgraph.uri.replace("vlen=3", "vlen=7"))
    with (
        served(GnuRadioServer, **PUSH) as flowgraph,
        pytest.raises(DriverError, match=r"does not answer: .*another kind of socket.*one that sub connects to"),
    ):
        opened(flowgraph.uri.replace("socket=pull", "socket=sub"))


@pytest.mark.parametrize(
    ("uri", "form", "why"),
    [
        ("tcp://h:1,tcp://h:2", {"content": "stream"}, "cannot be put side by side"),
        ("tcp://h:1,tcp://h:2", {"content": "pdu"}, "PDUs come from one socket"),
        ("tcp://h:1", {"content": "pdu", "socket": "req"}, "PDUs are read by sub and pull"),
        ("http://h:1", {}, "there is no such address"),
        ("gnuradio://h", {}, "there is no such address"),
        ("gnuradio://h:1?x=1", {}, "unknown field `x`"),
        ("gnuradio://h:1?vlen=0", {}, "vlen"),
    ],
)
def test_what_cannot_be(uri, form, why):
    with pytest.raises(DriverError, match=why):
        GnuRadio("flowgraph", uri=uri, form=form, connect_timeout_s=0.2).open()


def test_an_array_that_needs_a_frequency(opened):
    with (
        served(GnuRadioServer, **{**PUSH, "content": "stream"}) as flowgraph,
        pytest.raises(DriverError, match="give frequency_hz"),
    ):
        opened(flowgraph.uri, array=None)


def test_addresses():
    assert parse_address("tcp://a:1, tcp://b:2", Form()) == (["tcp://a:1", "tcp://b:2"], Form())
    endpoints, form = parse_address("gnuradio://a:1,2?socket=pull&vlen=4", Form(key="k"))
    assert endpoints == ["tcp://a:1", "tcp://a:2"]
    assert (form.socket, form.vlen, form.key) == ("pull", 4, "k")
    with pytest.raises(ParamError, match="address"):
        parse_address("gnuradio://a:99999", Form())


@pytest.mark.parametrize("value", [None, 5, (1,), (True, 0.5), (-1, 0.5), (1, 1.0), (1, "x"), (2**40, 0.0), [1, 0.5]])
def test_times_that_are_none(value):
    assert read_time(value) is None


@pytest.mark.parametrize("value", [None, "x", True, 0, -1.0, float("nan"), float("inf")])
def test_rates_that_are_none(value):
    assert read_hz(value) is None


def test_a_tag_that_cannot_be_is_told(opened):
    head = gr_zeromq.encode_tags(0, [gr_zeromq.Tag(0, "rx_freq", "high")])
    with pushing([head + np.zeros(N, np.complex64).tobytes()]) as endpoint:
        frames = read_until(opened(endpoint, form={"socket": "pull"}, array={**ARRAY, "n": 1}), has_data(1))
        assert event(frames, "bad_tag") == {"event": "bad_tag", "key": "rx_freq", "value": "high"}


# -- outside bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["tagged", "pdu", "stream"])
def test_damaged_messages_do_not_stop_the_driver(opened, content):
    rng = random.Random(1)
    items = np.arange(30 * 3, dtype=np.complex64)
    tags = [gr_zeromq.Tag(5, "rx_time", (pmt.Uint64(5), 0.5)), gr_zeromq.Tag(9, "rx_freq", 1e9)]

    def message(i):
        if content == "tagged":
            return gr_zeromq.encode_tags(30 * i, tags if i == 0 else []) + items.tobytes()
        return pmt.encode(pmt.Pair({"rx_freq": 1e9}, items)) if content == "pdu" else items.tobytes()

    def damaged(i):
        wire = bytearray(message(i))
        for _ in range(rng.randint(1, 5)):
            wire[rng.randrange(len(wire))] = rng.randrange(256)
        return bytes(wire[: rng.randint(0, len(wire))] if rng.random() < 0.3 else wire)

    messages = [message(0), *(damaged(i) for i in range(1, 3000)), message(3000)]
    with pushing(messages) as endpoint:
        driver = opened(endpoint, form={"socket": "pull", "content": content, "vlen": 3}, hwm=100)
        frames = read_until(driver, lambda frames: driver.stats()["bad_messages"] > 100 and has_data(1)(frames), 10.0)
        assert all(f["iq"].shape[0] == 3 for f in frames if f.header.kind == "data")


def test_the_flowgraph_outlives_requests_that_are_none(opened):
    with served(GnuRadioServer, **{**PUSH, "socket": "rep", "content": "stream"}) as flowgraph:
        context = zmq.Context()
        asks = context.socket(zmq.REQ)
        asks.setsockopt(zmq.RCVTIMEO, 3000)
        try:
            asks.connect("tcp://" + flowgraph.uri.removeprefix("gnuradio://").partition("?")[0])
            for request in (b"", b"abc", bytes(100), bytes(4), b"\xff\xff\xff\xff"):
                asks.send(request)
                assert len(asks.recv()) % 24 == 0
        finally:
            asks.close(0)
            context.term()
        assert data(read_until(opened(flowgraph.uri), has_data(2)))

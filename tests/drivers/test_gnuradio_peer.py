"""Both ways against real GNU Radio: its sinks to our driver, our simulated flowgraph to its sources."""

import itertools
import json
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest

from drivers.gnuradio import GnuRadio
from sim_device.device import XlArrayDevice
from sim_device.servers.gnuradio.server import PEERS, GnuRadioServer
from tests.drivers.gnuradio_here import PEER, gnuradio_python
from tests.drivers.live_jig import data, has_data, has_event, read_until, served

SLOW = pytest.mark.slow
VLEN, N = 3, 500
SOURCES = [{"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.6, "range_m": 200.0}, "power_db": -20}]
DEVICE = {
    "real_time": False, "sources": SOURCES, "sample_rate_hz": 1e5, "array": {"kind": "ula", "n": VLEN},
    "frequency_hz": 2.4e9,
}  # fmt: skip


@contextmanager
def sending(socket, content, vlen=VLEN):
    """A flowgraph that sends; gives its endpoint."""
    command = [gnuradio_python(), str(PEER), "send", socket, content, str(vlen)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child.stdout.readline().strip()
        finally:
            child.stdin.close()
            try:
                child.wait(3.0)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def opened(uri, **params):
    driver = GnuRadio("flowgraph", uri=uri, n_samples=N, frequency_hz=2.4e9, **params)
    try:
        driver.open()
        yield driver
    finally:
        driver.close()


def check_ramp(frames, first=None):
    for f in frames:
        if f.header.kind == "data":
            start = f.header.sample_start if first is None else first
            i = (start + np.arange(f["iq"].shape[1])) % 10_000 % 4096
            np.testing.assert_array_equal(f["iq"], i + 1j * np.arange(len(f["iq"]))[:, None])


@pytest.mark.parametrize("socket", ["pub", pytest.param("push", marks=SLOW), pytest.param("rep", marks=SLOW)])
def test_our_driver_reads_its_sinks_with_tags(socket):
    form = {"socket": PEERS[socket], "content": "tagged", "vlen": VLEN}
    with sending(socket, "tagged") as endpoint, opened(endpoint, form=form, array=DEVICE["array"]) as driver:
        frames = read_until(driver, has_event("retune", 3))
        check_ramp(frames)
        retune = next(i for i, f in enumerate(frames) if f.header.meta.get("event") == "retune")
        headers = data(frames[retune:])
        # the tag stands at an item, and so does the new epoch, whatever the messages are cut into
        assert headers[0].sample_start % 10_000 in (0, 3000)
        assert {h.epoch for h in data(frames[:retune])} | {headers[0].epoch - 1} == {headers[0].epoch - 1}
        assert driver.stats()["bad_messages"] == 0
        assert sum(h.lost.samples for h in data(frames)) == driver.stats()["samples_lost"]
        if socket == "push":  # from the first item on
            assert data(frames)[0].sample_start == 0
            assert data(frames)[0].time_ns == 1_700_000_000_000_000_000
            assert data(frames)[0].sample_rate_hz == 1e6


@pytest.mark.parametrize("socket", [pytest.param("push", marks=SLOW), "rep"])
def test_our_driver_reads_its_sinks_without_tags(socket):
    form = {"socket": PEERS[socket], "content": "stream", "vlen": VLEN}
    with sending(socket, "stream") as endpoint, opened(endpoint, form=form) as driver:
        frames = read_until(driver, has_data(6))
        check_ramp(frames)
        assert {h.timebase for h in data(frames)} == {"host"}


@pytest.mark.parametrize("socket", ["pub", pytest.param("push", marks=SLOW)])
def test_our_driver_reads_its_pdus(socket):
    form = {"socket": PEERS[socket], "content": "pdu", "vlen": VLEN}
    with sending(socket, "pdu") as endpoint, opened(endpoint, form=form) as driver:
        frames = read_until(driver, has_data(3))
        check_ramp(frames, first=0)
        header = data(frames)[0]
        assert (header.frequency_hz, header.time_ns) == (2.4e9, 1_700_000_000_000_000_000)
        assert header.arrays[0].shape == (VLEN, 100)


def received(uri, socket, content, vlen, n, tmp_path):
    """What a GNU Radio source makes of our server."""
    endpoint = "tcp://" + uri.removeprefix("gnuradio://").partition("?")[0]
    path = tmp_path / "items.npy"
    command = [gnuradio_python(), str(PEER), "receive", PEERS[socket], content, str(vlen), endpoint, str(n), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return np.load(path), json.loads(done.stdout)


@pytest.mark.parametrize("socket", [pytest.param("pub", marks=SLOW), "push", pytest.param("rep", marks=SLOW)])
def test_its_sources_read_our_server_with_tags(socket, tmp_path):
    device = {**DEVICE, "real_time": socket == "pub", "sources": [] if socket == "pub" else SOURCES}
    params = {"socket": socket, "content": "tagged", "tag_every_s": 0.01, "n_samples": 300, "device": device}
    with served(GnuRadioServer, **params) as flowgraph:
        items, tags = received(flowgraph.uri, socket, "tagged", VLEN, 2500, tmp_path)
        assert items.shape == (2500, VLEN)
        keys = {key for _, key, _, _ in tags}
        assert keys >= {"rx_time", "rx_rate", "rx_freq"}
        assert {value for _, key, value, _ in tags if key == "rx_freq"} == {2.4e9}
        assert {source for *_, source in tags} == {"sim_device"}
        # its sources put the tags of our items at their own: the time between them is that of the items
        times = sorted((offset, seconds + fraction) for offset, key, (seconds, fraction), _ in
                       [t for t in tags if t[1] == "rx_time"])  # fmt: skip
        for (a, at_a), (b, at_b) in itertools.pairwise(times):
            assert at_b - at_a == pytest.approx((b - a) / 1e5, abs=2e-6)
        reference = XlArrayDevice(**DEVICE).samples(0, 2500).T
        if socket != "pub":
            np.testing.assert_array_equal(items, reference)


@pytest.mark.parametrize("socket", [pytest.param("push", marks=SLOW), "rep"])
def test_its_sources_read_our_server_without_tags(socket, tmp_path):
    params = {"socket": socket, "content": "stream", "n_samples": 300, "device": DEVICE}
    with served(GnuRadioServer, **params) as flowgraph:
        items, _ = received(flowgraph.uri, socket, "stream", VLEN, 2000, tmp_path)
        np.testing.assert_array_equal(items, XlArrayDevice(**DEVICE).samples(0, 2000).T)


def test_its_sources_read_our_pdus(tmp_path):
    with served(GnuRadioServer, socket="push", content="pdu", n_samples=300, device=DEVICE) as flowgraph:
        items, metas = received(flowgraph.uri, "push", "pdu", VLEN, 4, tmp_path)
        np.testing.assert_array_equal(items.reshape(-1, VLEN), XlArrayDevice(**DEVICE).samples(0, 1200).T)
        assert {meta["rx_freq"] for meta in metas} == {2.4e9}


def test_one_sink_a_channel_in_step():
    """Two flowgraphs, each with one channel and started at its own time, are put side by side by their items."""
    form = {"socket": "sub", "content": "tagged"}
    with (
        sending("pub", "tagged", 1) as one,
        sending("pub", "tagged", 1) as other,
        opened(f"{one},{other}", form=form) as driver,
    ):
        frames = read_until(driver, has_data(4))
        for f in frames:
            if f.header.kind == "data":
                np.testing.assert_array_equal(f["iq"][0], f["iq"][1])

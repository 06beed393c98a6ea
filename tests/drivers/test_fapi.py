"""The FAPI driver against the simulated base station, in each byte-order profile, and when things go wrong."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from drivers.fapi import Fapi
from hil.errors import DriverError
from hil.formats.fapi import PROFILES, Profile, SrsIndication, encode_segments, encode_srs_indication
from hil.frame import Frame
from sim_device.servers.gnodeb.server import GnodebServer
from tests.drivers.live_jig import Served, data, event, events, read_until, served

#: 24 blocks, each of three terminals every 10 ms.
SRS = {"n_rb": 24, "n_fft": 512, "c_srs": 6, "period_slots": 20}


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def receiving(profile: Profile = "nfapi", /, **params: Any) -> Iterator[tuple[Served, Fapi]]:
    """A base station and an open driver."""
    port = free_port()
    told = {"srs": SRS, "fapi_to": f"127.0.0.1:{port}", "fapi_profile": profile, **params}
    with served(GnodebServer, **told) as base:
        driver = Fapi("gnb", uri=f"udp://127.0.0.1:{port}", profile=profile, srs={"n_rb": 24})
        driver.open()
        try:
            yield base, driver
        finally:
            driver.close()


def first(driver: Fapi, n: int) -> list[Frame]:
    return read_until(driver, lambda got: len(data(got)) >= n)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("representation", "scale", "dtype"),
    [("int8", 128.0, np.int8), ("int16", 32768.0, np.int16), ("float32", 1, np.float32)],
)
def test_channel_matrices_in_each_profile(profile: Profile, representation: str, scale: float, dtype: type) -> None:
    with receiving(profile, fapi_representation=representation, prg_size=2) as (base, driver):
        frames = [f for f in first(driver, 6) if f.header.kind == "data"]
        cell = base.server._cell  # type: ignore[attr-defined]
        for frame in frames:
            assert frame["cfr"].dtype == dtype and frame["cfr"].shape == (4, 12, 2)
            np.testing.assert_array_equal(frame["subcarrier_hz"], 30e3 * (24 * np.arange(12) - 144))
            h = (frame["cfr"][..., 0] + 1j * frame["cfr"][..., 1].astype(float)) / scale
            truth = cell.response(cell.terminals[int(frame["rnti"]) - 0x4601], 0)[0][:, ::24]
            error_db = 10 * np.log10(np.mean(np.abs(h - truth) ** 2) / np.mean(np.abs(truth) ** 2))
            # noise of -20 dB; of int8 a step is 1/128, uniform: -43 dB less than the signal's -20 gives -23
            assert error_db < (-17.0 if representation == "int8" else -18.5)
            assert frame.header.timebase == "device"
    assert {int(f["rnti"]) for f in frames} == {0x4601, 0x4602, 0x4603}
    assert [h.seq for h in data(frames)] == list(range(len(frames)))


def test_time_is_that_of_frames_and_slots() -> None:
    with receiving() as (_, driver):
        headers = data(first(driver, 6))
    for header in headers:
        assert header.time_ns == round((header.meta["frame"] * 20 + header.meta["slot"]) * 0.5e6)


def test_ports_are_frames_of_their_own() -> None:
    with receiving(srs={**SRS, "n_ports": 2}) as (_, driver):
        assert [h.meta["port"] for h in data(first(driver, 4))][:4] == [0, 1, 0, 1]


def test_an_array_too_large_for_one_datagram_comes_in_segments() -> None:
    device = {"array": {"kind": "ula", "n": 64}}
    with receiving(srs={"period_slots": 80}, device=device) as (_, driver):
        driver_srs = first(driver, 2)
    assert next(f for f in driver_srs if f.header.kind == "data")["cfr"].shape == (64, 272, 2)


def test_lost_messages_and_occasions_are_counted() -> None:
    with receiving() as (base, driver):
        first(driver, 15)  # the period is learnt
        base.fault("lose_packets", 4)
        frames = read_until(driver, lambda got: sum(h.lost.frames for h in data(got)) >= 4)
        assert event(frames, "messages_lost")["messages"] == 4
        assert sum(h.lost.frames for h in data(frames)) == 4
        assert driver.stats()["messages_lost"] == 4 and driver.stats()["frames_lost"] == 4


@pytest.mark.parametrize("fault", ("corrupt", "short_read"))
def test_a_message_that_cannot_be_read_is_told_and_lost(fault: str) -> None:
    with receiving() as (base, driver):
        first(driver, 15)
        base.fault(fault)
        frames = read_until(driver, lambda got: sum(h.lost.frames for h in data(got)) >= 1)
        assert "corrupt" in events(frames)
        assert sum(h.lost.frames for h in data(frames)) == 1
        assert driver.stats()["reconnects"] == 0


def test_what_came_while_the_base_station_was_thought_gone_is_counted() -> None:
    port = free_port()
    with served(GnodebServer, srs=SRS, fapi_to=f"127.0.0.1:{port}") as base:
        driver = Fapi("gnb", uri=f"udp://127.0.0.1:{port}", srs={"n_rb": 24}, silence_s=0.3)
        driver.open()
        try:
            before = first(driver, 15)
            base.fault("stall", 1.0)
            frames = read_until(driver, lambda got: len(data(got)) > 9 and data(got)[-9].epoch >= 1)
            assert events(frames)[0] == "disconnected" and "restart" not in events(frames)
            by_terminal: dict[int, list[int]] = {}
            for frame in before + frames:
                if frame.header.kind == "data":
                    by_terminal.setdefault(int(frame["rnti"]), []).append(frame.header.meta["frame"])
            missing = sum(((b - a) % 1024) - 1 for f in by_terminal.values() for a, b in itertools.pairwise(f))
            assert missing == sum(h.lost.frames for h in data(frames)) > 100
        finally:
            driver.close()


def test_a_base_station_that_is_started_anew_is_noticed_without_a_silence() -> None:
    with receiving() as (base, driver):
        first(driver, 15)
        server = base.server
        occasion = server._cell.measure(server._cell.terminals[0], 0)  # type: ignore[attr-defined]
        pdu = server._fapi.pdu(occasion)  # type: ignore[attr-defined]
        base.server.end()
        place = driver._clock._last
        assert place is not None
        anew = (place[0] // 20 + 512) % 1024
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for i in range(4):
                body = encode_srs_indication(SrsIndication((anew + i) % 1024, 2, (pdu,)), "nfapi")
                for datagram in encode_segments(body, "nfapi", sequence=i, time_us=0):
                    sender.sendto(datagram, ("127.0.0.1", int(driver.uri.rpartition(":")[2])))
        frames = read_until(driver, lambda got: "restart" in events(got) and data(got)[-1].epoch >= 1)
        assert data(frames)[-1].lost.frames == 0
        assert driver.stats()["frames_lost"] == 0


def test_silence_counts_as_gone_and_ends() -> None:
    port = free_port()
    with served(GnodebServer, srs=SRS, fapi_to=f"127.0.0.1:{port}") as base:
        driver = Fapi("gnb", uri=f"udp://127.0.0.1:{port}", srs={"n_rb": 24}, silence_s=0.3)
        driver.open()
        try:
            first(driver, 3)
            base.fault("stall", 1.0)
            frames = read_until(driver, lambda got: bool(data(got)) and data(got)[-1].epoch >= 1)
            assert "nothing came" in event(frames, "disconnected")["why"]
            assert "reconnect" in events(frames)
        finally:
            driver.close()


def test_nothing_comes() -> None:
    driver = Fapi("gnb", uri="udp://127.0.0.1:0", connect_timeout_s=0.2)
    with pytest.raises(DriverError, match=r"no SRS.indication at udp.*nothing came.*let the base station send"):
        driver.open()


def test_another_profile() -> None:
    port = free_port()
    with served(GnodebServer, srs=SRS, fapi_to=f"127.0.0.1:{port}", fapi_profile="packed"):
        driver = Fapi("gnb", uri=f"udp://127.0.0.1:{port}", connect_timeout_s=0.5)
        with pytest.raises(DriverError, match="is the profile 'nfapi' right"):
            driver.open()


def test_reports_without_a_matrix() -> None:
    port = free_port()
    with served(GnodebServer, srs=SRS, fapi_to=f"127.0.0.1:{port}", fapi_report="beam_management"):
        driver = Fapi("gnb", uri=f"udp://127.0.0.1:{port}", connect_timeout_s=0.5)
        with pytest.raises(DriverError, match=r"came without a channel matrix.*usage codebook"):
            driver.open()


@pytest.mark.parametrize(
    ("uri", "match"), [("tcp://1.2.3.4:5", "is no address"), ("udp://203.0.113.7:9", "cannot receive at")]
)
def test_addresses_that_cannot_be(uri: str, match: str) -> None:
    with pytest.raises(DriverError, match=match):
        Fapi("gnb", uri=uri).open()


def test_mutated_datagrams_are_told_and_never_raised() -> None:
    """10,000 datagrams between good ones: frames and events, nothing piles up, and good ones still arrive."""
    with receiving() as (base, driver):
        first(driver, 3)
        pdu_frames = first(driver, 3)
        assert data(pdu_frames)
        server = base.server
        occasion = server._cell.measure(server._cell.terminals[0], 0)  # type: ignore[attr-defined]
        pdu = server._fapi.pdu(occasion)  # type: ignore[attr-defined]
        (good,) = encode_segments(
            encode_srs_indication(SrsIndication(1, 2, (pdu,)), "nfapi"), "nfapi", sequence=0, time_us=0
        )
        rng, port = random.Random(4), int(driver.uri.rpartition(":")[2])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for i in range(10_000):
                bad = bytearray(good)
                for _ in range(rng.randint(1, 4)):
                    bad[rng.randrange(60)] = rng.randrange(256)
                sender.sendto(bad[: rng.randrange(len(bad)) if i % 5 == 0 else len(bad)], ("127.0.0.1", port))
                if i % 100 == 99:
                    driver.read(0.0)
        frames = read_until(driver, lambda got: len({int(f["rnti"]) for f in got if f.header.kind == "data"}) >= 3)
        assert data(frames)
        assert len(driver._parts) <= 128 and len(driver._problems) <= 64

"""The T tracer driver against the simulated base station: what comes, what is lost, what is told."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.oai_tracer import OaiTracer
from drivers.oai_tracer_file import OaiTracerFile
from hil.descriptor import array_of
from hil.errors import DriverError, ParamError
from hil.formats.srs import Srs, srs_symbol
from hil.formats.t_tracer import encode_text
from hil.frame import Frame
from sim_device.servers.gnodeb.messages import TEXTS
from sim_device.servers.gnodeb.server import GnodebServer
from tests.drivers.live_jig import Served, data, event, events, read_until, served

#: A small carrier, so that a real-time test gives occasions often: 24 blocks, each terminal every 10 ms.
SRS = {"n_rb": 24, "n_fft": 512, "c_srs": 6, "period_slots": 20}
CARRIER = {"n_rb": 24, "n_subcarriers": 288}


def gnodeb(**params: Any) -> Any:
    return served(GnodebServer, srs={**SRS, **params.pop("srs", {})}, **params)


def tracer(at: Served | str, srs: dict[str, Any] | None = None, **params: Any) -> OaiTracer:
    uri = at if isinstance(at, str) else at.uri
    return OaiTracer("gnb", uri=uri, srs={**CARRIER, **(srs or {})}, **params)


@pytest.fixture
def base() -> Iterator[Served]:
    with gnodeb() as it:
        yield it


def first_frames(driver: OaiTracer, n: int) -> list[Frame]:
    return read_until(driver, lambda got: len(data(got)) >= n)


def close_to_the_truth(frames: list[Frame], server: GnodebServer, snr_db: float) -> None:
    """Each frame is the channel of its terminal, in counts, within the noise."""
    cell = server._cell
    for frame in frames:
        terminal = next(t for t in cell.terminals if t.rnti == int(frame["rnti"]))
        counts = frame["cfr"].astype(np.float64)
        h = (counts[..., 0] + 1j * counts[..., 1]) / 32768
        truth = cell.response(terminal, 0)[frame.header.meta["port"]]
        error_db = 10 * np.log10(np.mean(np.abs(h - truth) ** 2) / np.mean(np.abs(truth) ** 2))
        assert error_db < -snr_db + 1.0


def test_channel_estimates_of_each_terminal(base: Served) -> None:
    driver = tracer(base)
    driver.open()
    try:
        frames = first_frames(driver, 9)
    finally:
        driver.close()
    descriptor = next(f for f in frames if f.header.kind == "descriptor")
    assert len(array_of(descriptor).channel_map) == 4
    got = [f for f in frames if f.header.kind == "data"]
    assert got[0]["cfr"].dtype == np.int16 and got[0]["cfr"].shape == (4, 288, 2)
    np.testing.assert_array_equal(got[0]["subcarrier_hz"], 30e3 * (np.arange(288) - 144))
    assert {int(f["rnti"]) for f in got} == {0x4601, 0x4602, 0x4603}
    close_to_the_truth(got, base.server, 20.0)  # type: ignore[arg-type]
    headers = data(frames)
    assert [h.seq for h in headers] == list(range(len(headers)))
    assert {h.timebase for h in headers} == {"utc"}
    assert all(h.frequency_hz == 3.5e9 and h.epoch == 0 and h.lost.frames == 0 for h in headers)
    assert all(b.time_ns > a.time_ns for a, b in itertools.pairwise(headers))  # type: ignore[operator]
    # the nearest of the terminals is 40 m away: 133 ns, less one step of the advance
    toa = {int(f["rnti"]): f.header.meta["toa_ns"] for f in got}
    assert all(len(t) == 4 and abs(t[0]) <= 200 for t in toa.values())
    assert driver.capabilities().channels == 4 and driver.capabilities().timebase == "utc"
    assert events(frames) == []


def test_every_client_gets_the_same(base: Served) -> None:
    drivers = [tracer(base), tracer(base)]
    for driver in drivers:
        driver.open()
    try:
        late = by_occasion(first_frames(drivers[1], 6))
        # both were connected by then: what the second got, the first got too
        early = by_occasion(read_until(drivers[0], lambda got: late.keys() <= by_occasion(got).keys()))
    finally:
        for driver in drivers:
            driver.close()
    for key, cfr in late.items():
        np.testing.assert_array_equal(early[key], cfr)


def by_occasion(frames: list[Frame]) -> dict[tuple[int, int], Any]:
    """Estimates by terminal and frame."""
    return {(int(f["rnti"]), f.header.meta["frame"]): f["cfr"] for f in frames if f.header.kind == "data"}


def test_the_older_form_has_one_antenna() -> None:
    with gnodeb(form="older") as base:
        driver = tracer(base)
        driver.open()
        frames = first_frames(driver, 4)
        driver.close()
    assert next(f["cfr"].shape for f in frames if f.header.kind == "data") == (1, 288, 2)
    assert "toa_ns" not in data(frames)[0].meta


def test_least_squares_on_the_comb() -> None:
    with gnodeb(srs={"comb": 4, "comb_offset": 1}) as base:
        driver = tracer(base, {"estimate": "least_squares", "first_subcarrier": 1, "n_subcarriers": 287, "step": 4})
        driver.open()
        frames = [f for f in first_frames(driver, 3) if f.header.kind == "data"]
        driver.close()
        assert frames[0]["cfr"].shape == (4, 72, 2)
        number = (frames[0]["subcarrier_hz"] / 30e3).astype(int) + 144
        sent = srs_symbol(base.server._cell.srs, 0, 0)
        np.testing.assert_array_equal(number, sent.subcarrier)
        assert frames[0].header.meta["slot"] in range(20)
        terminal = base.server._cell.terminals[int(frames[0]["rnti"]) - 0x4601]
        truth = base.server._cell.response(terminal, 0)[0][:, number]
        counts = frames[0]["cfr"] / 32768
        error = counts[..., 0] + 1j * counts[..., 1] - truth
        assert 10 * np.log10(np.mean(np.abs(error) ** 2) / np.mean(np.abs(truth) ** 2)) < -19


def test_ports_and_symbols_are_frames_of_their_own() -> None:
    with gnodeb(srs={"n_ports": 2, "n_symbols": 2, "start_symbol": 12}) as base:
        driver = tracer(base, {"n_symbols": 2})
        driver.open()
        headers = data(first_frames(driver, 8))
        driver.close()
    assert [(h.meta["port"], h.meta["symbol"]) for h in headers[:4]] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("first", "n", "step"), [(0, 100, 1), (150, 100, 1), (101, 99, 1), (100, 100, 3), (7, 281, 4), (144, 144, 1)]
)
def test_a_part_of_the_band_is_that_part_of_the_whole(base: Served, first: int, n: int, step: int) -> None:
    """Below the centre, above it, and across it, where the bins of an FFT wrap."""
    whole, part = tracer(base), tracer(base, {"first_subcarrier": first, "n_subcarriers": n, "step": step})
    whole.open()
    part.open()
    try:
        got = by_occasion(frames := first_frames(part, 2))
        reference = by_occasion(read_until(whole, lambda fs: got.keys() <= by_occasion(fs).keys()))
    finally:
        whole.close()
        part.close()
    for key, cfr in got.items():
        np.testing.assert_array_equal(cfr, reference[key][:, first : first + n : step])
    offset_hz = next(f["subcarrier_hz"] for f in frames if f.header.kind == "data")
    np.testing.assert_array_equal(offset_hz, 30e3 * (np.arange(first, first + n, step) - 144))


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_lost_occasions_are_counted(base: Served) -> None:
    driver = tracer(base, {"srs_period_frames": 1})
    driver.open()
    try:
        first_frames(driver, 6)
        base.fault("lose_packets", 5)
        frames = read_until(driver, lambda got: sum(h.lost.frames for h in data(got)) >= 5)
        assert sum(h.lost.frames for h in data(frames)) == 5
        assert "gap" in events(frames)
        assert driver.stats()["frames_lost"] == 5
    finally:
        driver.close()


def test_a_dropped_connection_is_found_again_in_a_new_epoch(base: Served) -> None:
    driver = tracer(base)
    driver.open()
    try:
        first_frames(driver, 3)
        base.fault("drop_connection")
        frames = read_until(driver, lambda got: bool(data(got)) and data(got)[-1].epoch == 1)
        assert events(frames)[:1] == ["disconnected"] and "reconnect" in events(frames)
        assert driver.stats()["reconnects"] == 1
    finally:
        driver.close()


def test_what_a_lost_connection_cost_is_counted(base: Served) -> None:
    driver = tracer(base)
    driver.open()
    try:
        frames = first_frames(driver, 15)
        base.fault("drop_connection")
        frames += read_until(driver, lambda got: len(data(got)) > 9 and data(got)[-9].epoch == 1)
        by_terminal: dict[int, list[int]] = {}
        for frame in frames:
            if frame.header.kind == "data":
                by_terminal.setdefault(int(frame["rnti"]), []).append(frame.header.meta["frame"])
        missing = sum((b - a) % 1024 - 1 for f in by_terminal.values() for a, b in itertools.pairwise(f))
        assert missing == sum(h.lost.frames for h in data(frames)) == driver.stats()["frames_lost"] > 0
    finally:
        driver.close()


def test_a_corrupt_length_costs_the_connection_and_no_more(base: Served) -> None:
    driver = tracer(base)
    driver.open()
    try:
        first_frames(driver, 3)
        base.fault("corrupt")
        frames = read_until(driver, lambda got: bool(data(got)) and data(got)[-1].epoch == 1)
        assert "lost its place" in event(frames, "disconnected")["why"]
    finally:
        driver.close()


def test_a_short_buffer_loses_its_occasion_and_is_never_padded(base: Served) -> None:
    driver = tracer(base)
    driver.open()
    try:
        first_frames(driver, 6)
        base.fault("short_read", 100)
        frames = read_until(
            driver, lambda got: "incomplete" in events(got) and sum(h.lost.frames for h in data(got)) > 0
        )
        short = event(frames, "short_read")
        assert "400 bytes are 100 bins" in short["why"]
        assert event(frames, "incomplete")["antennas"] == [0]
        assert sum(h.lost.frames for h in data(frames)) == 1
        assert all(f["cfr"].shape == (4, 288, 2) for f in frames if f.header.kind == "data")
        assert driver.stats()["reconnects"] == 0
    finally:
        driver.close()


def test_a_stall_is_waited_out_or_counts_as_gone(base: Served) -> None:
    driver = tracer(base, silence_s=0.3)
    driver.open()
    try:
        first_frames(driver, 3)
        base.fault("stall", 1.0)
        frames = read_until(driver, lambda got: bool(data(got)) and data(got)[-1].epoch == 1)
        assert "nothing came" in event(frames, "disconnected")["why"]
    finally:
        driver.close()


def test_a_clock_that_jumps_is_told(base: Served) -> None:
    driver = tracer(base)
    driver.open()
    try:
        first_frames(driver, 3)
        base.fault("clock_jump", 2.5)
        frames = read_until(driver, lambda got: "clock_jump" in events(got))
        # frames are 10 ms: the event cannot tell more closely
        assert event(frames, "clock_jump")["seconds"] == pytest.approx(2.5, abs=0.03)
    finally:
        driver.close()


def test_duplicated_antennas_are_told_and_frames_say_so(base: Served) -> None:
    driver = tracer(base)
    driver.open()
    try:
        first_frames(driver, 3)
        base.control.request("duplicate_antennas", on=True)
        frames = read_until(driver, lambda got: "duplicate_antennas" in events(got) and len(data(got)) > 2)
        assert event(frames, "duplicate_antennas")["antennas"] == [[0, 2], [1, 3]]
        marked = read_until(driver, lambda got: len(data(got)) >= 2)
        assert data(marked)[-1].meta["duplicate_antennas"] == [[0, 2], [1, 3]]
        base.control.request("duplicate_antennas", on=False)
        frames = read_until(driver, lambda got: "duplicate_antennas" in events(got))
        assert event(frames, "duplicate_antennas")["antennas"] == []
    finally:
        driver.close()


# -- errors ------------------------------------------------------------------------------------------------------------


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    driver = tracer(f"tcp://127.0.0.1:{port}", connect_timeout_s=1.0)
    with pytest.raises(DriverError, match=r"no T tracer at tcp://127.0.0.1:.*refused.*start the base station"):
        driver.open()


def test_an_address_that_is_none() -> None:
    with pytest.raises(DriverError, match="is no address: expected tcp://host:port"):
        tracer("udp://127.0.0.1:2021").open()


def test_no_terminal() -> None:
    with gnodeb(device={"sources": []}) as base:
        with pytest.raises(DriverError, match=r"no channel estimates came.*no terminal is connected.*n_antennas"):
            tracer(base, connect_timeout_s=0.3).open()
        driver = tracer(base, {"n_antennas": 4}, connect_timeout_s=0.3)
        driver.open()  # to wait for one
        source = {"id": 1, "motion": {"kind": "stand", "position_m": [3.0, 9.0, 0.0]}, "power_db": -20.0}
        base.control.request("add_source", source=source)
        assert len(data(first_frames(driver, 2))) >= 2
        driver.close()


def test_a_release_without_the_event() -> None:
    with gnodeb(form="older") as base, pytest.raises(DriverError, match="has no event GNB_PHY_SRS_LS_ESTIMATE"):
        tracer(base, {"estimate": "least_squares", "step": 2}).open()


def test_an_array_that_does_not_fit(base: Served) -> None:
    driver = tracer(base, {"n_antennas": 4}, array={"kind": "ula", "n": 8})
    with pytest.raises(DriverError, match="8 channels are declared, the device gives 4"):
        driver.open()


def test_a_band_that_does_not_fit_the_carrier() -> None:
    with pytest.raises(ParamError, match="3264 subcarriers from 0 on do not fit 24 blocks"):
        OaiTracer("gnb", uri="tcp://x:1", srs={"n_rb": 24})


def garbage_server(answers: list[bytes]) -> tuple[socket.socket, threading.Thread]:
    """Gives each of its clients one answer and closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10.0)

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener, thread


def test_something_else_that_listens_there() -> None:
    answers = [b"HTTP/1.0 400 Bad Request\r\n\r\n" * 4, b"", encode_text("no events here", 0)]
    listener, thread = garbage_server(answers)
    try:
        for match in ("does not speak", "closed the connection", "does not speak"):
            driver = tracer(f"tcp://127.0.0.1:{listener.getsockname()[1]}", connect_timeout_s=2.0)
            with pytest.raises(DriverError, match=match):
                driver.open()
    finally:
        thread.join()
        listener.close()


# -- record files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of some 60 occasions."""
    path = tmp_path_factory.mktemp("records") / "record.raw"
    with gnodeb(record_to=str(path), device={"real_time": False}) as base:
        while base.control.request("stats")["occasions"] < 60:
            pass
    return path


def file_frames(path: Path, **params: Any) -> list[Frame]:
    driver = OaiTracerFile("file", path=str(path), srs=CARRIER, **params)
    driver.open()
    out: list[Frame] = []
    while (reading := driver.read(1.0)) is not None:
        out += [f for _, f in reading]
    driver.close()
    return out


def test_a_record_file_gives_the_same_frames_as_the_live_feed(recorded: Path) -> None:
    frames = file_frames(recorded)
    assert frames[0].header.kind == "descriptor"
    got = [f for f in frames if f.header.kind == "data"]
    assert len(got) >= 60 and events(frames) == []
    with gnodeb(device={"real_time": False}) as base:
        driver = tracer(base)
        driver.open()
        live = [f for f in first_frames(driver, 20) if f.header.kind == "data"]
        driver.close()
    for a, b in zip(got, live, strict=False):
        assert (int(a["rnti"]), a.header.meta) == (int(b["rnti"]), {**b.header.meta, **_recorded(a)})
        np.testing.assert_array_equal(a["cfr"], b["cfr"])


def _recorded(frame: Frame) -> dict[str, Any]:
    return {k: v for k, v in frame.header.meta.items() if k == "recorded_host_time_ns"}


def test_a_record_file_is_served_again(recorded: Path) -> None:
    with gnodeb(replay_from=str(recorded), device={"real_time": False}) as base:
        driver = tracer(base)
        driver.open()
        frames = [f for f in first_frames(driver, 50) if f.header.kind == "data"]
        driver.close()
    for a, b in zip([f for f in file_frames(recorded) if f.header.kind == "data"], frames, strict=False):
        assert a.header.time_ns == b.header.time_ns
        np.testing.assert_array_equal(a["cfr"], b["cfr"])


def test_resuming_skips_what_was_delivered(recorded: Path) -> None:
    driver = OaiTracerFile("file", path=str(recorded), srs=CARRIER)
    driver.resume(9)
    driver.open()
    frames: list[Frame] = []
    while len(data(frames)) < 1:
        frames += [f for _, f in driver.read(1.0) or ()]
    assert data(frames)[0].seq == 10


def test_a_cut_file_gives_what_is_whole_and_says_so(recorded: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.raw"
    cut.write_bytes(recorded.read_bytes()[:-1000])
    frames = file_frames(cut)
    assert len(data(frames)) >= 59
    assert "ends in the middle of a record" in str(event(frames, "recording_problem"))


@pytest.mark.parametrize(("content", "match"), [(b"", "no text"), (b"x" * 5000, "record of"), (None, "no such file")])
def test_files_that_are_none(tmp_path: Path, content: bytes | None, match: str) -> None:
    path = tmp_path / "f.raw"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DriverError, match=match):
        OaiTracerFile("file", path=str(path)).open()


# -- mutated -----------------------------------------------------------------------------------------------------------


def test_a_server_survives_clients_that_send_nonsense(base: Served) -> None:
    host, port = base.uri.removeprefix("tcp://").split(":")
    rng = random.Random(1)
    for _ in range(40):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(bytes(rng.randrange(256) for _ in range(rng.randint(1, 200))))
    with socket.create_connection((host, int(port))) as client:
        client.sendall(struct.pack("<bi", 1, 1 << 30))
    driver = tracer(base)
    driver.open()
    assert data(first_frames(driver, 3))
    driver.close()


def test_mutated_events_are_told_and_never_raised() -> None:
    """10,000 records with changed bytes through what gathers antennas: frames and events only, nothing piles up."""
    from drivers.ledger import Ledger
    from drivers.tracer_frames import TracerFrames, TracerSrs
    from hil.array_params import build_array
    from hil.formats.t_tracer import Record, encode_event, parse_messages, split_records

    formats = parse_messages(TEXTS["newer"])
    event_format = formats["GNB_PHY_UL_FREQ_CHANNEL_ESTIMATE"]
    params = TracerSrs(n_rb=4, n_subcarriers=48)
    frames = TracerFrames(params, formats, Ledger("x", build_array(None, 4, 1e9)), 4, live=True)
    rng = random.Random(2)
    values = {"gNB_ID": 0, "rnti": 1, "frame": 0, "subframe": 0, "antenna": 0, "port": 0, "chest_f": bytes(64 * 4)}
    n_data = n_events = 0
    for i in range(10_000):
        told = {**values, "antenna": i % 4, "frame": i // 4 % 1024}
        ((record,), _) = split_records(memoryview(encode_event(event_format, told, i * 2_500_000)))
        payload = bytearray(record.payload)
        if i % 3:
            payload[rng.randrange(28)] = rng.randrange(256)
        if i % 7 == 0:
            payload = payload[: rng.randrange(len(payload))]
        for frame in frames.take(Record(record.time_ns, record.type, memoryview(bytes(payload)))):
            n_data += frame.header.kind == "data"
            n_events += frame.header.kind == "event"
    assert n_data > 10 and n_events > 1000
    assert len(frames._open) <= 64 and len(frames._whole) <= 64


def test_srs_defaults_match_those_of_the_simulated_base_station() -> None:
    defaults = OaiTracer("gnb", embedded=True).params.srs
    assert (defaults.n_rb, defaults.scs_khz, defaults.n_subcarriers) == (Srs().n_rb, Srs().scs_khz, 3264)

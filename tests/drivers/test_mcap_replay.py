"""Replay of MCAP recordings."""

import time

import pytest

from drivers.mcap_replay import McapReplay
from hil.descriptor import array_of
from hil.errors import DriverError, ParamError
from hil.frame import Frame
from hil.record import open_writer
from tests.hil.record.streams import ULA, header, iq, same, session, truth


@pytest.fixture
def path(tmp_path):
    writer = open_writer(tmp_path / "a.mcap", chunk_bytes=4096)
    for frame in session():
        writer.write(frame)
    writer.close()
    return tmp_path / "a.mcap"


def run(driver, n_reads=10_000) -> list[tuple[str, Frame]]:
    driver.open()
    came = []
    for _ in range(n_reads):
        reading = driver.read(0.1)
        if reading is None:
            break
        came += reading
    driver.close()
    return came


def test_ports_are_the_recorded_streams_and_frames_the_same(path):
    driver = McapReplay("replay", path=str(path))
    assert list(driver.outputs) == ["iq", "truth"]
    came = run(driver)
    data = [(p, f) for p, f in came if f.header.kind != "descriptor"]
    expected = [f for f in session() if f.header.kind != "descriptor"]
    assert [p for p, _ in data] == [f.header.stream.split(".")[1] for f in expected]
    for (port, frame), was in zip(data, expected, strict=True):
        h = frame.header
        assert h.stream == f"replay.{port}"
        assert abs(h.host_time_ns - time.time_ns()) < 600e9
        restored = h.replace(stream=was.header.stream, host_time_ns=None)
        assert same(Frame(restored, frame.arrays), was)
    assert array_of(next(f for _, f in came if f.header.kind == "descriptor")) == ULA
    assert driver.finite


def test_when_it_was_received_first_is_kept(tmp_path):
    writer = open_writer(tmp_path / "a.mcap")
    writer.write(iq(0, host_time_ns=12345, meta={"gain_db": 3}))
    writer.close()
    ((_, frame),) = run(McapReplay("replay", path=str(tmp_path / "a.mcap")))
    assert dict(frame.header.meta) == {"gain_db": 3, "recorded_host_time_ns": 12345}
    assert frame.header.host_time_ns > 10**18


def test_ports_can_be_named(path):
    driver = McapReplay("replay", path=str(path), ports={"reference": "sim.truth"})
    came = run(driver)
    assert list(driver.outputs) == ["reference"]
    assert {f.header.stream for _, f in came} == {"replay.reference"}
    assert sum(f.header.kind == "data" for _, f in came) == 38


def test_streams_of_one_last_name_get_their_whole_names(tmp_path):
    writer = open_writer(tmp_path / "a.mcap")
    for stream in ("a.iq", "b.iq", "b.truth"):
        writer.write(iq(0, stream=stream))
    writer.close()
    assert list(McapReplay("r", path=str(tmp_path / "a.mcap")).outputs) == ["a_iq", "b_iq", "truth"]


def test_resumes_behind_what_was_delivered(path):
    whole = run(McapReplay("replay", path=str(path)))
    driver = McapReplay("replay", path=str(path))
    driver.resume(13)
    rest = run(driver)
    assert rest[0][1].header.kind == "descriptor"
    numbers = [f.header.seq for _, f in rest if f.header.kind == "data"]
    assert numbers == [f.header.seq for _, f in whole if f.header.kind == "data" and f.header.seq > 13]


def test_speed(path):
    """40 frames of 16 us, slowed to 0.6 s: not faster than that."""
    driver = McapReplay("replay", path=str(path), speed=640e-6 / 0.6)
    start = time.monotonic()
    came = run(driver)
    assert time.monotonic() - start > 0.55
    assert sum(f.header.kind == "data" for _, f in came) == 76


def test_read_returns_in_time_though_nothing_is_due(tmp_path):
    writer = open_writer(tmp_path / "a.mcap")
    writer.write(iq(0))
    writer.write(iq(1, time_ns=header(0).time_ns + 10**12))
    writer.close()
    driver = McapReplay("replay", path=str(tmp_path / "a.mcap"), speed=1.0)
    driver.open()
    assert len(driver.read(0.1)) == 1
    assert driver.read(0.01) == []
    driver.close()


def test_start_s_and_descriptor(path):
    came = run(McapReplay("replay", path=str(path), start_s=24 * 16e-6))
    data = [f for _, f in came if f.header.kind == "data"]
    assert data[0].header.seq == 24
    assert came[0][1].header.kind == "descriptor"


def test_given_array_where_the_recording_has_none(tmp_path):
    writer = open_writer(tmp_path / "a.mcap")
    writer.write(iq(0, array_id=None))
    writer.write(truth(0))
    writer.close()
    came = run(McapReplay("replay", path=str(tmp_path / "a.mcap"), array=ULA.to_dict()))
    assert [(p, f.header.kind) for p, f in came][:2] == [("iq", "descriptor"), ("iq", "data")]
    assert array_of(came[0][1]) == ULA
    assert came[1][1].header.array_id == "ula4"


def test_damage_comes_as_an_event(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    events = [f.header.meta for _, f in run(McapReplay("replay", path=str(path))) if f.header.kind == "event"]
    assert [m["event"] for m in events if m["event"] != "overflow"] == ["recording_problem"]
    assert any("damaged" in m.get("problem", "") for m in events)


def test_refusals(path, tmp_path):
    with pytest.raises(DriverError, match=r"McapReplay 'replay': cannot read .*none\.mcap: No such file"):
        McapReplay("replay", path=str(tmp_path / "none.mcap"))
    driver = McapReplay("replay", path=str(path), ports={"iq": "sim.qi"})
    with pytest.raises(DriverError, match=r"has no stream 'sim\.qi', it has sim\.iq, sim\.truth"):
        driver.open()
    with pytest.raises(ParamError, match=r"Expected `float` >= 0.0 - at `\$\.speed`"):
        McapReplay("replay", path=str(path), speed=-1)
    with pytest.raises(ParamError, match="array: ArrayGeometry"):
        McapReplay("replay", path=str(path), array={"n": 4})

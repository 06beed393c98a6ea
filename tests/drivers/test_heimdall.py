"""The driver of KrakenSDR against the simulated unit: samples, states of the unit, faults, errors."""

import random
import socket
import threading
import time

import numpy as np
import pytest

from blocks.front_end.to_complex import to_complex
from drivers.heimdall import Heimdall
from drivers.heimdall_address import parse_address
from drivers.heimdall_reader import ReaderV1, ReaderV2
from drivers.live import ConnectionLost
from hil.errors import ControlError, DriverError, DriverTimeout, ParamError
from hil.formats import heimdall
from hil.formats.heimdall import HeaderV1, HeaderV2
from hil.frame import Loss
from sim_device.device import XlArrayDevice
from sim_device.servers.heimdall.server import HeimdallServer
from tests.drivers.live_jig import data, event, events, has_data, has_event, read_until, served

N = 512
RATE_HZ = 1e6
SOURCES = [{"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.6, "range_m": 200.0}, "power_db": -20}]
ARRAY = {"kind": "uca", "n": 5, "radius_m": 0.294, "array_id": "kraken"}
DEVICE = {"real_time": False, "sources": SOURCES, "sample_rate_hz": RATE_HZ, "array": ARRAY, "frequency_hz": 433.92e6}
QUIET = {"n_samples": N, "calibration_s": 0.0, "device": DEVICE}
SETTLED = {"settle_s": 0.0, "noise_settle_s": 0.0, "sample_rate_hz": RATE_HZ}


@pytest.fixture
def opened():
    drivers = []

    def open_(uri, **params):
        driver = Heimdall("kraken", uri=uri, **{"array": ARRAY, **SETTLED, **params})
        drivers.append(driver)
        driver.open()
        return driver

    yield open_
    for driver in drivers:
        driver.close()


def reference(n):
    return XlArrayDevice(**DEVICE).samples(0, n)


def both(**changes):
    return pytest.mark.parametrize("version", [1, 2])


@both()
def test_samples_are_those_of_the_array(opened, version):
    with served(HeimdallServer, version=version, **QUIET) as unit:
        driver = opened(unit.uri)
        frames = read_until(driver, has_data(6))
        raw = [f for f in frames if f.header.kind == "data"]
        expected = reference(6 * N)
        got = np.concatenate([to_iq(f) for f in raw], axis=1)[:, : 6 * N]
        if version == 1:
            np.testing.assert_array_equal(got, expected)
        else:  # half a step of 8 bits in each part, and what float32 rounds
            assert np.abs((got - expected).view(np.float32)).max() <= 0.5 / 127.5 + 1e-6
        headers = [f.header for f in raw]
        assert [h.seq for h in headers] == list(range(len(headers)))
        assert [h.sample_start for h in headers] == [N * i for i in range(len(headers))]
        assert {(h.frequency_hz, h.sample_rate_hz, h.timebase) for h in headers} == {
            (433.92e6, RATE_HZ, "utc" if version == 1 else "host")
        }
        assert all(h.meta["usable"] and not h.meta["noise_source"] for h in headers)
        assert abs(headers[0].time_ns - time.time_ns()) < 60e9
        if version == 1:
            steps = np.diff([h.time_ns for h in headers]) / 1e6
            assert np.abs(steps - N / RATE_HZ * 1e3).max() < 1.0  # whole milliseconds


def to_iq(frame):
    spec = frame.header.arrays[0]
    if spec.dtype == "complex64":
        assert spec.axes == ("sensor", "snapshot")
        return frame["iq"]
    assert (spec.dtype, spec.axes) == ("uint8", ("sensor", "snapshot", "component"))
    return to_complex(frame["iq"], spec.axes, 127.5, 127.5)


@both()
def test_the_unit_calibrates_itself_at_start_and_after_a_retune(opened, version):
    with served(HeimdallServer, version=version, **{**QUIET, "calibration_s": 5 * N / RATE_HZ}) as unit:
        driver = opened(unit.uri, settle_s=6 * N / RATE_HZ, noise_settle_s=2 * N / RATE_HZ)
        done = "synchronized"
        frames = read_until(driver, has_event(done, 3))
        first = [h for h in data(frames) if h.epoch == 0]
        assert not any(h.meta["usable"] for h in first)
        assert {h.meta["noise_source"] for h in first} == {True, False}
        assert event(frames, "noise_source")["on"] is True
        # what the noise source gives before the correction is one signal, delayed and turned in each channel
        noise = next(to_iq(f) for f in frames if f.header.kind == "data" and f.header.meta["noise_source"])
        receiver = unit.server.receiver
        for c in range(1, 5):
            lags = np.correlate(noise[c].astype(complex), noise[0].astype(complex), "full")
            peak = int(np.argmax(abs(lags)))
            assert N - 1 - peak == receiver.delay[c] - receiver.delay[0]
            assert abs(np.angle(lags[peak] * np.conj(receiver.phase[c]))) < 0.1
        epoch = data(frames)[-1].epoch
        assert driver.tune(434.5e6) == 434.5e6
        frames = read_until(driver, has_event(done, 8))
        names = events(frames)
        assert names.index("retune") < names.index("sync_lost") < names.index(done)
        retuned = event(frames, "retune")["frequency_hz"]
        assert retuned == (434.5e6 if version == 1 else float(np.float32(434.5e6)))
        headers = data(frames)
        assert headers[-1].frequency_hz == retuned and headers[-1].epoch == epoch + 2
        assert headers[-1].meta["usable"]
        started = next(i for i, h in enumerate(headers) if h.epoch > epoch)
        usable_again = next(i for i, h in enumerate(headers) if i >= started and h.meta["usable"])
        # version 1 is usable when the noise source is off, version 2 has to settle after that
        assert usable_again - started == {1: 5, 2: 7}[version]
        assert driver.stats()["frames_not_usable"] > 0


def test_a_unit_that_leaves_the_correction_to_the_graph(opened):
    with served(HeimdallServer, **{**QUIET, "corrects": False, "calibration_s": 4 * N / RATE_HZ}) as unit:
        frames = read_until(opened(unit.uri, require_sync=False), has_data(7))
        headers = data(frames)
        assert [h.meta["usable"] for h in headers[:7]] == [not h.meta["noise_source"] for h in headers[:7]]
        assert {h.epoch for h in headers} == {0}
        receiver, x = unit.server.receiver, to_iq([f for f in frames if f.header.kind == "data"][6])
        expected = reference(8 * N)[:, 6 * N :]
        for c in range(5):
            start = receiver.delay[c]
            np.testing.assert_allclose(x[c], expected[c, start : start + N] * receiver.phase[c], rtol=1e-5)


@both()
def test_gain_is_what_the_tuners_have_and_a_new_epoch(opened, version):
    with served(HeimdallServer, version=version, **QUIET) as unit:
        driver = opened(unit.uri)
        before = np.abs(to_iq(read_until(driver, has_data(1))[-1])).mean()
        assert driver.set_gain(13.0) == 12.5
        frames = read_until(driver, has_event("gain", 1))
        assert event(frames, "gain")["gain_db"] == [12.5] * 5
        assert data(frames)[-1].epoch == 1
        louder = 10 ** (12.5 / 20)
        np.testing.assert_allclose(np.abs(to_iq(frames[-1])).mean() / before, louder, rtol=0.15)
        assert driver.set_gain(12.5, channel=2) == 12.5
        with pytest.raises(ControlError, match="channel 7, there are 5"):
            driver.set_gain(1.0, channel=7)


@both()
def test_a_refused_command_is_told(opened, version):
    with served(HeimdallServer, version=version, **QUIET) as unit:
        driver = opened(unit.uri)
        unit.fault("error")
        with pytest.raises(ControlError, match=r"kraken: (FREQ|set_frequency) to 127.0.0.1:\d+: refused"):
            driver.tune(434e6)
        assert driver.tune(434e6) == 434e6


@pytest.mark.slow
def test_packets_that_nothing_numbers_are_missed_by_the_clock(opened):
    device = {**DEVICE, "real_time": True, "sample_rate_hz": 1e5, "sources": []}
    with served(HeimdallServer, version=2, **{**QUIET, "device": device}) as unit:
        driver = opened(unit.uri, sample_rate_hz=1e5)
        read_until(driver, has_data(400))
        unit.fault("lose_packets", 60)
        gap = event(read_until(driver, has_event("gap")), "gap")
        assert gap["samples"] is None and gap["seconds"] == pytest.approx(60 * N / 1e5, abs=0.05)


def test_lost_frames_are_counted_exactly(opened):
    with served(HeimdallServer, **QUIET) as unit:
        driver = opened(unit.uri)
        read_until(driver, has_data(2))
        unit.fault("lose_packets", 3)
        frames = read_until(driver, has_event("gap", 1))
        assert event(frames, "gap") == {"event": "gap", "samples": 3 * N, "frames": 3}
        after = data(frames)[-1]
        assert after.lost == Loss(frames=3, samples=3 * N)
        assert after.sample_start == N * after.seq
        unit.fault("overrun", N + 1)
        frames = read_until(driver, has_event("gap", 1))
        assert event(frames, "gap")["frames"] == 2
        assert driver.stats()["frames_lost"] == 5 and driver.stats()["epoch"] == 0


def test_the_clock_of_the_unit_jumps(opened):
    with served(HeimdallServer, **QUIET) as unit:
        driver = opened(unit.uri)
        read_until(driver, has_data(2))
        unit.fault("clock_jump", -2.0)
        frames = read_until(driver, has_event("clock_jump", 2))
        assert event(frames, "clock_jump")["seconds"] == pytest.approx(-2.0, abs=0.01)
        assert events(frames) == ["clock_jump"]


def test_overdriven_channels_are_told(opened):
    with served(HeimdallServer, **QUIET) as unit:
        driver = opened(unit.uri)
        read_until(driver, has_data(1))
        driver.set_gain(49.6)
        frames = read_until(driver, has_event("overdrive", 2))
        assert event(frames, "overdrive")["channels"] == [0, 1, 2, 3, 4]
        assert data(frames)[-1].meta["overdriven"] == [0, 1, 2, 3, 4]
        assert events(frames).count("overdrive") == 1


@both()
@pytest.mark.parametrize("fault", ["drop_connection", "short_read"])
def test_a_lost_connection_is_found_again(opened, version, fault):
    with served(HeimdallServer, version=version, **QUIET) as unit:
        driver = opened(unit.uri)
        before = data(read_until(driver, has_data(2)))[-1]
        unit.fault(fault)
        frames = read_until(driver, has_event("reconnect", 3))
        names = events(frames)
        assert names.index("disconnected") < names.index("reconnect")
        if fault == "short_read":
            assert "within a frame" in event(frames, "disconnected")["why"]
        headers = data(frames)
        assert all(f["iq"].shape[:2] == (5, N) for f in frames if f.header.kind == "data")
        assert headers[-1].epoch == before.epoch + 1
        if version == 1:  # the frame that was not delivered whole is counted, through the lost connection
            lost = sum(h.lost.frames for h in headers)
            assert headers[-1].seq - before.seq == len(headers) + lost
            assert lost == (1 if fault == "short_read" else 0)
            assert headers[-1].sample_start == N * headers[-1].seq


def test_a_damaged_header_of_version_1_ends_the_connection(opened):
    with served(HeimdallServer, **QUIET) as unit:
        driver = opened(unit.uri)
        read_until(driver, has_data(2))
        unit.fault("corrupt")
        frames = read_until(driver, has_event("reconnect", 2))
        assert "a header was damaged" in event(frames, "disconnected")["why"]
        assert sum(h.lost.frames for h in data(frames)) == 1


def test_a_damaged_header_of_version_2_is_passed_over_and_counted(opened):
    with served(HeimdallServer, version=2, **QUIET) as unit:
        driver = opened(unit.uri)
        read_until(driver, has_data(2))
        unit.fault("corrupt")
        frames = read_until(driver, has_event("resync", 2))
        assert event(frames, "resync") == {"event": "resync", "bytes": 72 + 10 * N, "samples": N}
        assert sum(h.lost.samples for h in data(frames)) == N
        assert {h.epoch for h in data(frames)} == {0} and driver.stats()["resyncs"] == 1


@both()
def test_a_silent_unit_counts_as_gone(opened, version):
    with served(HeimdallServer, version=version, **QUIET) as unit:
        driver = opened(unit.uri, silence_s=0.3)
        read_until(driver, has_data(2))
        unit.fault("stall", 1.0)
        frames = read_until(driver, has_event("reconnect", 1))
        assert "nothing came for 0.3 s" in event(frames, "disconnected")["why"]


def test_a_retune_by_the_device_itself(opened):
    with served(HeimdallServer, version=2, **QUIET) as unit:
        driver = opened(unit.uri)
        read_until(driver, has_data(1))
        unit.fault("retune", 440e6)
        frames = read_until(driver, has_event("retune", 1))
        assert event(frames, "retune")["frequency_hz"] == 440e6
        assert data(frames)[-1].epoch == 1


def test_a_client_that_is_late_in_real_time_misses_frames_and_knows_it(opened):
    real_time = {**DEVICE, "real_time": True, "sample_rate_hz": 50e3, "sources": []}
    with served(HeimdallServer, **{**QUIET, "device": real_time}) as unit:
        driver = opened(unit.uri)
        first = data(read_until(driver, has_data(2)))[0]
        time.sleep(0.15)
        frames = read_until(driver, lambda frames: sum(h.lost.frames for h in data(frames)) > 0)
        late = data(frames)[-1]
        assert late.sample_start - first.sample_start == N * (late.seq - first.seq)
        # in step with the clock of the host, as the device is in this host
        assert abs(late.time_ns - time.time_ns()) < 2e9


def test_an_embedded_unit_and_its_end():
    driver = Heimdall("kraken", embedded=True, device={"version": 2, **QUIET}, **SETTLED)
    try:
        driver.open()
        assert driver.capabilities().channels == 5
        assert data(read_until(driver, has_data(1)))
    finally:
        driver.close()


# -- errors ----------------------------------------------------------------------------------------------------------


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DriverError, match=f"no heimdall answers at 127.0.0.1:{port}: .*refused.*correct `uri`"):
        Heimdall("kraken", uri=f"heimdall://127.0.0.1:{port}").open()


def test_the_wrong_version_is_told(opened):
    with (
        served(HeimdallServer, version=2, **QUIET) as unit,
        pytest.raises(DriverError, match=r"does not speak heimdall 1.*a packet of version 2"),
    ):
        opened(unit.uri.replace("version=2", "version=1"))
    with (
        served(HeimdallServer, version=1, **QUIET) as unit,
        pytest.raises(DriverTimeout, match=r"gives nothing: it is connected, but .* version 1 listens at port 5000"),
    ):
        opened(unit.uri.replace("version=1", "version=2"), connect_timeout_s=0.3)


def test_an_array_of_another_number_of_channels(opened):
    with (
        served(HeimdallServer, **QUIET) as unit,
        pytest.raises(DriverError, match="4 channels are declared, the device gives 5"),
    ):
        opened(unit.uri, array={"kind": "uca", "n": 4, "radius_m": 0.3})


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("kraken.local", ("kraken.local", 5000, 5001, 1)),
        ("heimdall://10.0.0.2:8091", ("10.0.0.2", 8091, 8092, 2)),
        ("heimdall://10.0.0.2?version=2", ("10.0.0.2", 8091, 8092, 2)),
        ("heimdall://10.0.0.2:6000?version=1&control=7000", ("10.0.0.2", 6000, 7000, 1)),
    ],
)
def test_addresses(uri, expected):
    assert parse_address(uri) == expected


@pytest.mark.parametrize(
    "uri", ["tcp://x", "heimdall://", "heimdall://x:y", "heimdall://x?version=3", "heimdall://x?a=1"]
)
def test_addresses_that_are_none(uri):
    with pytest.raises(ParamError, match="address"):
        parse_address(uri)


# -- outside bytes ---------------------------------------------------------------------------------------------------


def fed(reader_type, wire, seed):
    """What a reader makes of ``wire``, which comes in pieces of any size."""
    rng = random.Random(seed)
    ours, theirs = socket.socketpair()
    frames = []

    def write():
        place = 0
        while place < len(wire):
            n = rng.randint(1, 4000)
            theirs.sendall(wire[place : place + n])
            place += n
        theirs.shutdown(socket.SHUT_WR)

    with ours, theirs:
        thread = threading.Thread(target=write)
        thread.start()
        reader = reader_type(ours)
        try:
            while True:
                got = reader.read(time.monotonic() + 5.0)
                assert got is not None
                frames.append(got)
        except ConnectionLost as error:
            ours.close()
            thread.join()
            return frames, str(error)


def test_frames_of_version_1_in_any_pieces():
    rng = np.random.default_rng(1)
    sent, wire = [], b""
    for cpi, n in enumerate((100, 1, 0, 777)):
        header = HeaderV1(n_channels=3, n_samples=n, sample_rate_hz=1000, cpi=cpi)
        x = rng.standard_normal((3, 2 * n), dtype=np.float32).view(np.complex64)
        sent.append(x)
        wire += heimdall.encode_v1(header) + x.tobytes()
    got, error = fed(ReaderV1, wire, 2)
    assert [h.cpi for h, _ in got] == [0, 1, 2, 3] and error == "the device closed the connection"
    for (_, x), y in zip(got, sent, strict=True):
        np.testing.assert_array_equal(x, y)


def packets(n, rng):
    sent = [rng.integers(0, 256, (2, 50, 2), dtype=np.uint8) for _ in range(n)]
    head = heimdall.encode_v2(HeaderV2(2, 50, frequency_hz=(1e8, 1e8), gain_db=(1.0, 1.0)))
    return sent, [head + x.tobytes() for x in sent]


def test_packets_of_version_2_are_found_again():
    sent, wires = packets(5, np.random.default_rng(3))
    garbage = b"MCHQ" + bytes(60) + b"MC"
    got, _ = fed(ReaderV2, garbage + b"".join(wires[:2]) + wires[2][7:] + b"".join(wires[3:]), 4)
    assert len(got) == 4
    for (_, x), y in zip(got, [*sent[:2], *sent[3:]], strict=True):
        np.testing.assert_array_equal(x, y)


def test_damaged_streams_end_or_go_on():
    rng = random.Random(5)
    _, wires = packets(40, np.random.default_rng(6))
    whole = bytearray(b"".join(wires))
    for seed in range(25):
        wire = bytearray(whole)
        for _ in range(rng.randint(1, 40)):
            wire[rng.randrange(len(wire))] = rng.randrange(256)
        got, _ = fed(ReaderV2, bytes(wire), seed)
        assert len(got) <= 40 and all(x.nbytes == h.payload_bytes for h, x in got)


@both()
def test_the_unit_outlives_damaged_requests_and_commands(opened, version):
    rng = random.Random(7)
    with served(HeimdallServer, version=version, **QUIET) as unit:
        address = parse_address(unit.uri)
        good = heimdall.encode_control_v1("FREQ", 434_000_000)
        if version == 2:
            good = heimdall.encode_control_v2("set_frequency", frequency=434_000_000)
        for port, seeds in ((address.control_port, 40), (address.port, 15)):
            for _ in range(seeds):
                message = bytearray(good * 250)
                for _ in range(3):
                    message[rng.randrange(len(message))] = rng.randrange(256)
                with socket.create_connection((address.host, port), 5.0) as client:
                    client.settimeout(5.0)
                    try:
                        client.sendall(message)
                        client.shutdown(socket.SHUT_WR)
                        client.recv(1 << 16)
                    except OSError:
                        pass  # it may close the connection at once
        assert data(read_until(opened(unit.uri), has_data(3)))

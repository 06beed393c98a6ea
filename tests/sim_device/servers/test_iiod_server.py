"""What the iiod server does beside the protocol: radio, overflows, clients, faults, and bytes that are no commands."""

import random
import threading

import numpy as np
import psutil
import pytest

from hil.errors import ControlError, ParamError
from hil.runtime.control import ControlClient
from sim_device.device import XlArrayDevice
from sim_device.servers.iiod import ad9361_chip
from sim_device.servers.iiod.capture import Capture
from sim_device.servers.iiod.radio import AGC_TARGET_DB, AGC_TOLERANCE_DB, Radio
from sim_device.servers.iiod.registers import Registers
from sim_device.servers.iiod.session import Session
from sim_device.servers.iiod.wire import ClientSocket, Gone
from sim_device.servers.quantise import quantise
from sim_device.servers.sample_feed import SampleFeed
from tests.sim_device.servers.iiod_running import exchange, running_iiod

SOURCE = {"id": 1, "motion": {"kind": "stand", "position_m": [3.0, 20.0, 0.0]}, "power_db": -20.0}


def radio(n=4, chips=2, **device):
    parameters = {"frequency_hz": 2.4e9, "sample_rate_hz": 4e6, "real_time": False, "sources": [SOURCE], **device}
    feed = SampleFeed(XlArrayDevice("test", array={"kind": "ula", "n": n}, **parameters))
    return Radio(feed, chips, 12, ad9361_chip.LIMITS, 18e6)


def power_db(counts):
    return 10 * np.log10(np.mean(np.sum((counts / 2048.0) ** 2, axis=-1), axis=-1))


# -- radio -----------------------------------------------------------------------------------------------------------


def test_a_radio_as_it_comes_gives_the_counts_of_the_sample_function():
    r = radio()
    assert np.array_equal(r.counts(100, 500), quantise(r.feed.device.samples(100, 500), 12))


def test_gain_of_one_channel_acts_on_it_alone():
    r = radio()
    before = power_db(r.counts(0, 2000))
    r.set_gain(10, 2)
    after = power_db(r.counts(2000, 2000))
    assert r.gain_db(2) == 10 and r.gain_db(1) == 0
    assert after - before == pytest.approx([0, 0, 10, 0], abs=0.5)


def test_the_lowest_gain_is_the_devices_so_that_nothing_clips_twice():
    r = radio()
    r.set_gain(20, 0, 1, 2, 3)
    assert r.feed.gain_db == 20
    r.set_gain(5, 1)
    assert r.feed.gain_db == 5
    assert [r.gain_db(k) for k in range(4)] == [20, 5, 20, 20]


def test_gain_is_refused_outside_manual_mode_and_beyond_limits():
    r = radio()
    r.set_mode("slow_attack", 0)
    with pytest.raises(OSError, match="manual only"):
        r.set_gain(3, 0)
    with pytest.raises(OSError, match=r"not in -3 \.\. 71"):
        r.set_gain(72, 1)
    with pytest.raises(OSError, match="gain mode 'best'"):
        r.set_mode("best", 0)


def test_automatic_gain_brings_the_power_to_its_target():
    r = radio()
    r.set_mode("fast_attack", 0, 1)
    tick = 0
    for _ in range(4):
        levels = power_db(r.counts(tick, 1000))
        tick += 1000
    assert abs(levels[:2] - AGC_TARGET_DB).max() < AGC_TOLERANCE_DB + 0.6
    assert levels[2:] == pytest.approx([-20, -20], abs=0.7)


def test_bandwidth_below_the_sample_rate_filters_and_above_does_not():
    r = radio(chips=1, sources=[], noise_power_db=-20.0)
    assert r.neutral
    r.set_bandwidth(1e6)
    spectrum = np.abs(np.fft.fft(_complex(r.counts(0, 8192))[0])) ** 2
    assert spectrum[256:768].mean() > 100 * spectrum[2048:6144].mean()


def test_a_filtered_stream_is_the_same_however_it_is_cut():
    whole, parts = radio(chips=1), radio(chips=1)
    for r in (whole, parts):
        r.set_bandwidth(1e6)
    cut = np.concatenate([parts.counts(tick, n) for tick, n in ((0, 10), (10, 200), (210, 46))], axis=1)
    assert np.abs(cut - whole.counts(0, 256)).max() <= 1  # transforms of other lengths round otherwise


def test_a_chip_that_is_tuned_apart_sees_the_source_elsewhere():
    r = radio(sources=[{**SOURCE, "waveform": {"kind": "tone", "frequency_hz": 250e3}}])
    r.tune(2.4e9 + 1e6, chip=1)
    assert (r.frequency_hz(0), r.frequency_hz(1)) == (2.4e9, 2.401e9)
    peaks = np.argmax(np.abs(np.fft.fft(_complex(r.counts(0, 1600)))), axis=1) / 1600 * 4e6
    assert peaks == pytest.approx([250e3, 250e3, 3.25e6, 3.25e6])  # 3.25 MHz is -0.75 MHz
    r.tune(2.401e9)
    assert r.neutral


def _complex(counts):
    return counts[..., 0] + 1j * counts[..., 1]


# -- blocks ----------------------------------------------------------------------------------------------------------


class Clock(SampleFeed):
    """A feed in real time whose time the test sets."""

    def __init__(self):
        super().__init__(XlArrayDevice("test", array={"kind": "ula", "n": 2}, real_time=True))
        self.now = 0

    def now_tick(self):
        return self.now

    def wait_until(self, tick, timeout_s):
        return self.now >= tick


def test_blocks_follow_one_another_while_the_client_keeps_up():
    capture, feed, registers = captured()
    ticks = []
    for now in range(100, 2000, 100):
        feed.now = now
        ticks.append(capture.take(0))
    assert ticks == list(range(0, 1900, 100))
    assert registers.n_overflows == 0


def test_a_client_that_is_too_slow_gets_what_was_queued_and_then_what_comes_now():
    capture, feed, registers = captured()
    feed.now = 10_000
    assert [capture.take(0) for _ in range(4)] == [0, 100, 200, 300]
    assert capture.take(0) is None
    assert registers.n_overflows == 1
    feed.now = 10_100
    assert capture.take(0) == 10_000


def captured():
    feed, registers = Clock(), Registers()
    return Capture(Radio(feed, 1, 12, ad9361_chip.LIMITS, 18e6), registers, 100, 4), feed, registers


# -- clients ---------------------------------------------------------------------------------------------------------

OPEN = b"OPEN cf-ad9361-lpc 16 %s\r\n"


def test_clients_share_the_layout_but_not_the_samples():
    with running_iiod(loop_ticks=16) as server:
        import socket

        with socket.create_connection(("127.0.0.1", server.port), 5) as other:
            other.sendall(OPEN % b"0000000c")
            assert other.recv(100) == b"0\n"
            script = OPEN % b"00000003" + b"READBUF cf-ad9361-lpc 128\r\nEXIT\r\n"
            answer = exchange(server.port, script)
        assert answer.startswith(b"0\n128\n0000000f\n")
        assert len(answer) == len(b"0\n128\n0000000f\n") + 128


def test_gone_clients_leave_nothing_behind():
    with running_iiod(loop_ticks=16) as server:
        for _ in range(20):
            exchange(server.port, OPEN % b"0000000f" + b"READBUF cf-ad9361-lpc 128\r\nEXIT\r\n")
        with ControlClient(server.control.endpoint) as control:
            assert control.request("stats")["clients_seen"] == 20
        assert server.buffers.open_masks["iio:device2"] == []


def test_faults_that_mean_nothing_here_are_refused():
    with running_iiod() as server, ControlClient(server.control.endpoint) as control:
        assert "overrun" in control.request("fault", kind="overrun")
        for kind in ("lose_packets", "clock_jump"):
            with pytest.raises(ControlError, match="this device can do"):
                control.request("fault", kind=kind)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"model": "fmcomms5", "device": {"array": {"kind": "ula", "n": 2}}}, "model fmcomms5 has 4 channels"),
        ({"device": {"frequency_hz": 28e9}}, "an AD9361 has 7e\\+07 .. 6e\\+09"),
        ({"model": "iio", "device": {"array": {"kind": "ula", "n": 300}}}, "at most 256 channels, got 300"),
    ],
)
def test_a_device_that_cannot_be_is_refused(params, why):
    with pytest.raises(ParamError, match=why), running_iiod(**params):
        pass


def test_a_port_in_use_is_one_clear_error():
    with (
        running_iiod() as server,
        pytest.raises(ParamError, match=f"127.0.0.1:{server.port} cannot be bound"),
        running_iiod(port=server.port),
    ):
        pass


# -- bytes from outside ----------------------------------------------------------------------------------------------


class Bytes(ClientSocket):
    """A connection whose client has sent all it ever will, and goes after a while."""

    def __init__(self, data):
        self._buffer = bytearray(data)
        self.n_sent = 0

    def _more(self, at_most):
        raise Gone("end")

    def send(self, *pieces):
        self.n_sent += sum(map(len, pieces))
        if self.n_sent > 1 << 16:
            raise Gone("enough")

    def close(self):
        pass


SEEDS = [
    b"VERSION\r\nPRINT\r\nZPRINT\r\nTIMEOUT 2500\r\n",
    b"READ ad9361-phy INPUT voltage0 hardwaregain\r\nREAD ad9361-phy\r\nREAD ad9361-phy DEBUG\r\n",
    b"WRITE ad9361-phy OUTPUT altvoltage0 frequency 10\r\n2450000000",
    b"WRITE ad9361-phy INPUT voltage0 sampling_frequency 7\r\n3000000",
    b"WRITE ad9361-phy INPUT voltage0 gain_control_mode 6\r\nmanual",
    b"WRITE ad9361-phy filter_fir_config 48\r\nRX 3 GAIN -6 DEC 4\nTX 3 GAIN 0 INT 4\n" + b"1,1\n" * 3,
    b"WRITE cf-ad9361-lpc DEBUG direct_reg_access 12\r\n2147483784 4",
    b"OPEN cf-ad9361-lpc 16 0000000f\r\nREADBUF cf-ad9361-lpc 128\r\nCLOSE cf-ad9361-lpc\r\n",
    b"OPEN cf-ad9361-dds-core-lpc 4 0000000f CYCLIC\r\nWRITEBUF cf-ad9361-dds-core-lpc 32\r\n" + bytes(32),
    b"SET cf-ad9361-lpc BUFFERS_COUNT 4\r\nGETTRIG cf-ad9361-lpc\r\nSETTRIG cf-ad9361-lpc x\r\n",
    b"WRITE ad9361-phy INPUT voltage0 16\r\n\x00\x00\x00\x02" + b"1\0\0\0" + b"\xff\xff\xff\xff\x00\x00\x00\x00",
]


def mutated(rng, seed):
    data = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[place:place] = rng.randbytes(rng.randint(1, 4))
            case 1:
                del data[place : place + rng.randint(1, 6)]
            case 2 if place < len(data):
                data[place] = rng.choice(b"0123456789 \r\n\0-fx\xff")
            case 3:
                data[place:place] = rng.choice(SEEDS)
    return bytes(data)


def test_10_000_mutated_messages_end_in_answers():
    rng = random.Random(1)
    with running_iiod(loop_ticks=16) as server:
        services = server._services
        before = psutil.Process().memory_info().rss
        for _ in range(10_000):
            Session(Bytes(mutated(rng, rng.choice(SEEDS))), services).serve()
        assert server.buffers.open_masks.get("iio:device2", []) == []
        assert psutil.Process().memory_info().rss - before < 32 << 20
        assert exchange(server.port, b"TIMEOUT 0\r\nEXIT\r\n") == b"0\n"
        assert threading.active_count() < 10


def test_a_line_without_an_end_closes_the_connection():
    with running_iiod() as server:
        assert exchange(server.port, b"x" * 20_000) == b""

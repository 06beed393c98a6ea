"""The real iiod, which proxies to the simulated one, is the oracle: one transcript to both, and bytes compared."""

import contextlib
import re
import shutil
import socket
import subprocess
import time

import pytest

from tests.sim_device.servers.iiod_running import exchange, free_port, running_iiod

#: Blocks of so many samples, and a loop as long: every block has the same samples, whoever asks and when.
N = 16


@contextlib.contextmanager
def both(model="ad9361", **device):
    iiod = "/usr/sbin/iiod"
    if shutil.which(iiod) is None:
        pytest.skip("iiod is not installed: Debian package iiod")
    with running_iiod(model=model, loop_ticks=N, device=device) as server:
        port = free_port()
        command = [iiod, "-u", f"ip:127.0.0.1:{server.port}", "-p", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                end = time.monotonic() + 10
                while True:
                    try:
                        socket.create_connection(("127.0.0.1", port), 1).close()
                        break
                    except ConnectionRefusedError:
                        assert time.monotonic() < end and process.poll() is None
                        time.sleep(0.02)
                yield server, port
            finally:
                process.kill()  # asked to end, it waits for its clients for a minute


def ask(server, port, script):
    """What comes for ``script``, from a device that nobody else has open: the daemon, and what it proxies to, give up
    a buffer some time after its client has gone, and meanwhile who opens the device gets that client's channels too."""
    end = time.monotonic() + 10
    while any(server.buffers.open_masks.values()):
        assert time.monotonic() < end, server.buffers.open_masks
        time.sleep(0.001)
    return exchange(port, script)


def opened(adc, mask, *commands, n=N, close=True):
    lines = [f"OPEN {adc} {n} {mask}", *commands, *([f"CLOSE {adc}"] if close else [])]
    return "\r\n".join(lines)


LPC, DDS, PHY = "cf-ad9361-lpc", "cf-ad9361-dds-core-lpc", "ad9361-phy"
TRANSCRIPTS = [
    "PRINT",
    "print",
    "ZPRINT",
    "NONSENSE",
    "PRINT x",
    "",
    "TIMEOUT 2500",
    "timeout 0",
    "READ iio:device0 OUTPUT altvoltage0 frequency",
    f"READ {PHY} OUTPUT RX_LO frequency",
    f"read {PHY} output RX_LO frequency",
    f"READ {PHY} INPUT voltage0",
    f"READ {PHY}",
    f"READ {PHY} DEBUG",
    f"READ {LPC} BUFFER",
    f"READ {LPC} BUFFER data_available",
    "READ nodev x",
    f"READ {PHY} INPUT voltage9 x",
    f"READ {PHY} INPUT voltage0 nope",
    f"READ {PHY} nope",
    f"READ {PHY} INPUT",
    f"READ {PHY} a b c",
    "READ",
    f"WRITE {PHY} OUTPUT altvoltage0 frequency 10\r\n2450000000",
    f"READ {PHY} OUTPUT altvoltage0 frequency",
    f"WRITE {PHY} OUTPUT altvoltage0 frequency 3\r\nabc",
    f"WRITE {PHY} OUTPUT altvoltage0 frequency 11\r\n24500000000",
    f"WRITE {PHY} INPUT voltage0 hardwaregain 2\r\n20READ {PHY} INPUT voltage0 hardwaregain",
    f"WRITE {PHY} INPUT voltage0 gain_control_mode 11\r\nslow_attackREAD {PHY} INPUT voltage0 gain_control_mode",
    f"WRITE {PHY} INPUT voltage0 hardwaregain 2\r\n30",
    f"WRITE {PHY} INPUT voltage0 gain_control_mode 6\r\nmanual",
    f"WRITE {PHY} filter_fir_config 15\r\nRX 3 GAIN\nnever",
    f"WRITE {PHY} INPUT voltage9 x 3\r\nabc",
    "WRITE nodev x 3\r\nabc",
    f"WRITE {PHY} a b 3\r\nabc",
    f"WRITE {PHY} INPUT voltage0 nope 3\r\nabc",
    f"WRITE {PHY} INPUT voltage0 rf_bandwidth_available 3\r\nabc",
    f"WRITE {LPC} DEBUG direct_reg_access 10\r\n2147483784READ {LPC} DEBUG direct_reg_access",
    f"WRITE {LPC} DEBUG direct_reg_access 12\r\n2147483784 4READ {LPC} DEBUG direct_reg_access",
    f"GETTRIG {LPC}",
    f"SETTRIG {LPC}",
    f"SETTRIG {LPC} foo",
    "GETTRIG nodev",
    "SETTRIG nodev",
    f"SET {LPC} BUFFERS_COUNT 4",
    f"SET {LPC} BUFFERS_COUNT 0",
    f"SET {LPC} FOO 4",
    f"SET {LPC}",
    "SET nodev BUFFERS_COUNT 4",
    f"READBUF {LPC} 64",
    f"READBUF {LPC}",
    f"WRITEBUF {DDS} 128",
    f"CLOSE {LPC}",
    "OPEN",
    "OPEN nodev 16 0000000f",
    f"OPEN {LPC} 16 0f",
    f"OPEN {LPC} 16 0000000f foo",
    f"OPEN {LPC} 16 00000000",
    f"OPEN {LPC} 0 0000000f",
    opened(LPC, "0000000f", f"READBUF {LPC} 128"),
    opened(LPC, "0000000F", f"READBUF {LPC} 128", f"READBUF {LPC} 128"),
    opened(LPC, "00000003", f"READBUF {LPC} 64"),
    opened(LPC, "00000009", f"READBUF {LPC} 64"),
    opened(LPC, "0000000f", f"READBUF {LPC} 256"),
    opened(LPC, "0000000f", f"READBUF {LPC} 64", f"READBUF {LPC} 128"),
    opened(LPC, "0000000f", f"READBUF {LPC} 100"),
    opened(LPC, "0000000f", f"READBUF {LPC} 0"),
    opened(LPC, "0000000f CYCLIC"),
    opened(LPC, "0000000f", f"OPEN {LPC} 16 00000003", f"READBUF {LPC} 128"),
    opened(LPC, "0000000f", f"READBUF {LPC} 128", close=False),
    opened(DDS, "0000000f", f"WRITEBUF {DDS} 128\r\n" + 128 * "\0"),
    opened(DDS, "0000000f CYCLIC", f"WRITEBUF {DDS} 128\r\n" + 128 * "\0"),
]


@pytest.mark.filterwarnings("error")
def test_answers_are_those_of_the_real_daemon():
    with both() as (server, real):
        differ = []
        for transcript in TRANSCRIPTS:
            script = transcript.encode() + b"\r\nEXIT\r\n"
            answers = ask(server, server.port, script), ask(server, real, script)
            if answers[0] != answers[1]:
                differ.append((transcript[:80], answers[0][:200], answers[1][:200]))
        assert not differ


@pytest.mark.parametrize(
    ("model", "device", "adc", "mask"),
    [
        ("fmcomms5", {}, "cf-ad9361-A", "000000ff"),
        ("fmcomms5", {}, "cf-ad9361-A", "000000f0"),
        ("iio", {"array": {"kind": "ula", "n": 16}}, "hil-array-adc", "ffffffff"),
        ("iio", {"array": {"kind": "ula", "n": 40}}, "hil-array-adc", "0000ffff0000000000000001"),
    ],
)
def test_so_are_those_of_larger_devices(model, device, adc, mask):
    n_bytes = 2 * N * int(mask, 16).bit_count()
    with both(model, **device) as (server, real):
        for transcript in ("PRINT", opened(adc, mask, f"READBUF {adc} {n_bytes}")):
            script = transcript.encode() + b"\r\nEXIT\r\n"
            answer = ask(server, server.port, script)
            assert len(answer) > n_bytes
            assert answer == ask(server, real, script)


def test_the_version_differs_in_its_tag_only():
    with both() as (server, real):
        answers = [exchange(port, b"VERSION\r\nEXIT\r\n") for port in (server.port, real)]
    assert all(re.fullmatch(rb"0\.24\..{7}\n", answer) for answer in answers)

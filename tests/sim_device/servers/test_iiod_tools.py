"""Unmodified clients of libiio against the simulated devices: its tools, pyadi-iio, GNU Radio."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.sim_device.servers.iiod_running import expected_counts, running_iiod, tool

SOURCE = {"id": 1, "motion": {"kind": "stand", "position_m": [3.0, 20.0, 0.0]}, "power_db": -10.0}


def test_iio_info_reads_every_attribute():
    with running_iiod() as server:
        text = tool("iio_info", "-u", server.uri).decode()
    assert "IIO context has 3 devices" in text
    assert "frequency value: 2400000000" in text
    assert "ERROR" not in text


def test_iio_attr_writes_and_the_radio_acts():
    with running_iiod() as server:
        tool("iio_attr", "-u", server.uri, "-c", "-o", "ad9361-phy", "altvoltage0", "frequency", "2412000000")
        tool("iio_attr", "-u", server.uri, "-c", "-i", "ad9361-phy", "voltage0", "sampling_frequency", "4000000")
        read = tool("iio_attr", "-u", server.uri, "-c", "-i", "ad9361-phy", "voltage0", "sampling_frequency")
        assert b"4000000" in read
        assert (server.feed.frequency_hz, server.feed.sample_rate_hz) == (2.412e9, 4e6)


def test_iio_readdev_gives_the_samples_of_the_sample_function():
    with running_iiod(device={"sources": [SOURCE]}) as server:
        raw = tool("iio_readdev", "-u", server.uri, "-b", "256", "-s", "1024", "cf-ad9361-lpc")
        expected = expected_counts(server, 0, 1024, 12)
    assert np.array_equal(np.frombuffer(raw, "<i2").reshape(1024, 2, 2), expected)


def test_iio_readdev_reads_some_channels_only():
    with running_iiod(device={"sources": [SOURCE]}) as server:
        raw = tool("iio_readdev", "-u", server.uri, "-b", "64", "-s", "64", "cf-ad9361-lpc", "voltage2", "voltage3")
        expected = expected_counts(server, 0, 64, 12)[:, 1]
    assert np.array_equal(np.frombuffer(raw, "<i2").reshape(64, 2), expected)


def test_iio_reg_sees_and_clears_the_overflow():
    with running_iiod() as server:
        server.registers.overflow()
        assert b"0x4" in tool("iio_reg", "-u", server.uri, "cf-ad9361-lpc", "0x80000088")
        tool("iio_reg", "-u", server.uri, "cf-ad9361-lpc", "0x80000088", "4")
        assert b"0x0" in tool("iio_reg", "-u", server.uri, "cf-ad9361-lpc", "0x80000088")


def test_256_channels():
    with running_iiod(model="iio", device={"array": {"kind": "ula", "n": 256}, "sources": [SOURCE]}) as server:
        raw = tool("iio_readdev", "-u", server.uri, "-b", "128", "-s", "256", "hil-array-adc")
        expected = expected_counts(server, 0, 256, 16)
    assert np.array_equal(np.frombuffer(raw, "<i2").reshape(256, 256, 2), expected)


def test_pyadi_ad9361():
    adi = pytest.importorskip("adi", reason="pip install 'hil-receiver[iio]'")
    with running_iiod(device={"sources": [SOURCE]}) as server:
        radio = adi.ad9361(server.uri)
        radio.rx_lo = 2_450_000_000
        radio.sample_rate = 1_000_000
        radio.sample_rate = 30_720_000
        radio.sample_rate = 4_000_000
        radio.rx_rf_bandwidth = 5_000_000
        radio.rx_hardwaregain_chan0 = radio.rx_hardwaregain_chan1 = 6
        assert (radio.rx_lo, radio.sample_rate, radio.rx_rf_bandwidth) == (2_450_000_000, 4_000_000, 5_000_000)
        assert (radio.rx_hardwaregain_chan0, radio.gain_control_mode_chan0) == (6, "manual")
        radio.rx_buffer_size = 512
        got = np.concatenate([np.stack(radio.rx()) for _ in range(3)], axis=1)
        expected = expected_counts(server, 0, 1536, 12).astype(float)
        radio.tx_cyclic_buffer = True
        radio.tx([np.zeros(64, complex)] * 2)
        radio.tx_destroy_buffer()
        radio.rx_destroy_buffer()
    assert np.array_equal(got, (expected[..., 0] + 1j * expected[..., 1]).T)


def test_pyadi_fmcomms5():
    adi = pytest.importorskip("adi", reason="pip install 'hil-receiver[iio]'")
    with running_iiod(model="fmcomms5", device={"sources": [SOURCE]}) as server:
        radio = adi.FMComms5(server.uri)
        radio.rx_lo = radio.rx_lo_chip_b = 5_800_000_000
        radio.sample_rate = 4_000_000
        assert (radio.rx_lo_chip_b, radio.sample_rate) == (5_800_000_000, 4_000_000)
        radio.rx_buffer_size = 256
        got = np.stack(radio.rx())
        expected = expected_counts(server, 0, 256, 12).astype(float)
        radio.rx_destroy_buffer()
    assert np.array_equal(got, (expected[..., 0] + 1j * expected[..., 1]).T)


def test_pyadi_on_any_number_of_channels_takes_three_lines():
    adi = pytest.importorskip("adi", reason="pip install 'hil-receiver[iio]'")

    class Array(adi.rx_tx.rx_def):
        _complex_data, _device_name = True, ""
        _control_device_name, _rx_data_device_name = "hil-array-phy", "hil-array-adc"

    with running_iiod(model="iio", device={"array": {"kind": "ula", "n": 6}}) as server:
        radio = Array(uri=server.uri)
        radio.rx_buffer_size = 128
        got = np.stack(radio.rx())
        expected = expected_counts(server, 0, 128, 16).astype(float)
        radio.rx_destroy_buffer()
    assert np.array_equal(got, (expected[..., 0] + 1j * expected[..., 1]).T)


GNURADIO = """
import os, sys
from gnuradio import blocks, gr, iio
graph = gr.top_block()
source = iio.fmcomms2_source_fc32(sys.argv[1], [True] * 4, 512)
source.set_frequency(2450000000)
source.set_samplerate(3000000)
source.set_gain_mode(0, "manual")
source.set_gain(0, 3.0)
source.set_filter_params("Auto", "", 0, 0)
raw = iio.device_source(sys.argv[2], "hil-array-adc", ["voltage0_i", "voltage0_q"], "hil-array-phy", [], 512)
sinks = []
for block, size, n in ((source, gr.sizeof_gr_complex, 2), (raw, gr.sizeof_short, 2)):
    for port in range(n):
        head = blocks.head(size, 1024)
        sink = blocks.vector_sink_c() if size == gr.sizeof_gr_complex else blocks.vector_sink_s()
        graph.connect((block, port), head, sink)
        sinks.append(sink)
graph.run()
print([len(s.data()) for s in sinks])
print(list(sinks[2].data()[:8]), flush=True)
os._exit(0)  # the overflow thread of fmcomms2_source waits for ever where a run lasts less than a second
"""


def test_gnuradio():
    if not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3: Debian package gnuradio")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
    known = subprocess.run(["/usr/bin/python3", "-c", "import gnuradio.iio"], env=environment, capture_output=True)
    if known.returncode:
        pytest.skip("GNU Radio's IIO blocks are not installed: Debian package gnuradio")
    with running_iiod() as server, running_iiod(model="iio", device={"array": {"kind": "ula", "n": 3}}) as array:
        command = ["/usr/bin/python3", "-c", GNURADIO, server.uri, array.uri]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60, text=True, check=False)
        expected = expected_counts(array, 0, 8, 16)[:, 0, 0].tolist()
        assert server.feed.frequency_hz == 2.45e9
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[1024, 1024, 1024, 1024]" in done.stdout
    assert str(expected) in done.stdout
    assert "warn" not in done.stderr.lower(), done.stderr


def test_a_server_that_cannot_be_says_why():
    command = [
        sys.executable,
        "-m",
        "sim_device.servers.iiod",
        "model=ad9361",
        "device.array.kind=ula",
        "device.array.n=3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "model ad9361 has 2 channels, device.array has 3" in done.stderr

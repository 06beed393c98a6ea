"""Replay of SigMF recordings."""

import json

import numpy as np
import pytest

from drivers.sigmf_replay import SigmfReplay
from hil.descriptor import array_of
from hil.errors import DriverError
from hil.frame import Frame
from hil.record import open_writer
from hil.streams import IQ, TRUTH, port_of
from tests.drivers.test_mcap_replay import run
from tests.hil.record.streams import ULA, header, same, session


def record(path, frames):
    writer = open_writer(path)
    for frame in frames:
        writer.write(frame)
    writer.close()


def test_iq_and_truth_come_through_the_ports_of_a_device(tmp_path):
    record(tmp_path / "a.sigmf-meta", session())
    driver = SigmfReplay("replay", path=str(tmp_path / "a.sigmf-meta"))
    assert driver.outputs["iq"].fields == port_of(IQ).fields
    assert driver.outputs["truth"].fields == port_of(TRUTH).fields
    came = [(p, f) for p, f in run(driver) if f.header.kind == "data"]
    expected = [f for f in session() if f.header.kind == "data"]
    for (port, frame), was in zip(came, expected, strict=True):
        assert port == was.header.stream.split(".")[1]
        restored = frame.header.replace(stream=was.header.stream, host_time_ns=None)
        assert same(Frame(restored, frame.arrays), was)
        driver.outputs[port].check(frame.arrays, {}, port)


def test_integers_become_full_scale_1(tmp_path):
    pairs = np.array([[[16384, -32768], [1, 0]]], np.int16)
    record(tmp_path / "a.sigmf-meta", [Frame.of(header(0, 2), raw=(pairs, "sensor snapshot iq", ""))])
    driver = SigmfReplay("replay", path=str(tmp_path / "a.sigmf-meta"))
    assert list(driver.outputs) == ["iq"]
    ((_, frame),) = run(driver)
    assert np.array_equal(frame["iq"], np.array([[0.5 - 1j, 2**-15]], np.complex64))


def test_recording_made_elsewhere_gets_the_array_that_is_given(tmp_path):
    np.arange(80, dtype=np.float32).tofile(tmp_path / "f.sigmf-data")
    meta = {"global": {"core:datatype": "cf32_le", "core:num_channels": 4}, "captures": [], "annotations": []}
    (tmp_path / "f.sigmf-meta").write_text(json.dumps(meta))
    path = str(tmp_path / "f.sigmf-data")
    came = run(SigmfReplay("replay", path=path, frame_samples=5, array=ULA.to_dict()))
    assert [f.header.kind for _, f in came] == ["descriptor", "data", "data"]
    assert array_of(came[0][1]) == ULA
    assert came[1][1]["iq"].shape == (4, 5)
    assert came[1][1].header.array_id == "ula4"


def test_missing_file(tmp_path):
    with pytest.raises(DriverError, match=r"SigmfReplay 'replay': cannot read .*none\.sigmf-meta"):
        SigmfReplay("replay", path=str(tmp_path / "none.sigmf-meta"))

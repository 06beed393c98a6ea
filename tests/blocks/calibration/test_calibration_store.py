import numpy as np
import pytest

from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.calibration_store import CalibrationStore
from blocks.calibration.device_settings import DeviceSettings, device_settings
from hil.array import ArrayGeometry
from hil.errors import CalibrationError
from hil.frame import Header

HERE = DeviceSettings("sn42", (0, 1), 2.4e9, 30.0, 40.0, 2)


def calibration(name, **changes):
    fields = {
        "offset_rad": np.array([0.0, 1.0]),
        "gain_db": np.zeros(2),
        "device": "sn42",
        "channel_map": (0, 1),
        "frequency_hz": 2.4e9,
        "frequency_tolerance_hz": 1e6,
        "receiver_gain_db": 30.0,
    }
    return ArrayCalibration(calibration_id=name, **{**fields, **changes})


def test_finds_the_one_that_was_made_for_these_settings(tmp_path):
    store = CalibrationStore(tmp_path / "new" / "folder")
    for name, changes in (
        ("other device", {"device": "sn43"}),
        ("other map", {"channel_map": (1, 0)}),
        ("other gain", {"receiver_gain_db": (30.0, 20.0)}),
        ("other frequency", {"frequency_hz": 5e9}),
        ("this one", {}),
    ):
        store.put(calibration(name, **changes))
    assert store.find(HERE).calibration_id == "this one"
    assert store.find(HERE._replace(receiver_gain_db=(30.0, 20.0))).calibration_id == "other gain"
    assert store.find(HERE._replace(frequency_hz=5e9 - 1e5)).calibration_id == "other frequency"


def test_nearest_in_temperature_then_frequency_then_newest(tmp_path):
    store = CalibrationStore(tmp_path)
    store.put(calibration("cold", temperature_c=20.0))
    store.put(calibration("warm", temperature_c=42.0))
    assert store.find(HERE).calibration_id == "warm"
    assert store.find(HERE._replace(temperature_c=25.0)).calibration_id == "cold"
    store.put(calibration("beside", temperature_c=42.0, frequency_hz=2.4e9 + 1e3, made_ns=9))
    assert store.find(HERE).calibration_id == "warm"


def test_one_of_the_same_settings_takes_the_place_of_the_older(tmp_path):
    store = CalibrationStore(tmp_path)
    for i in range(5):
        path = store.put(calibration(f"c{i}"))
    assert store.find(HERE).calibration_id == "c4"
    assert list(tmp_path.iterdir()) == [path]


def test_says_of_each_why_it_does_not_fit(tmp_path):
    store = CalibrationStore(tmp_path)
    with pytest.raises(CalibrationError, match=r"no calibration for device 'sn42', .*: it is empty"):
        store.find(HERE)
    store.put(calibration("a", device="sn43"))
    store.put(calibration("b", receiver_gain_db=10.0))
    (tmp_path / "broken.calibration.npz").write_text("no")
    with pytest.raises(CalibrationError) as refusal:
        store.find(HERE)
    for reason in ("device differs: it was made for 'sn43'", "receiver_gain_db differs", "broken.calibration.npz"):
        assert reason in str(refusal.value)


def test_a_broken_file_hides_no_other(tmp_path):
    store = CalibrationStore(tmp_path)
    store.put(calibration("whole"))
    (tmp_path / "broken.calibration.npz").write_text("no")
    assert store.find(HERE).calibration_id == "whole"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CalibrationError, match=r"file/.*cannot be stored"):
        CalibrationStore(tmp_path / "file").put(calibration("c"))


def test_settings_come_from_the_frame_then_from_the_descriptor():
    array = ArrayGeometry.ula(2, 0.05, channel_map=(1, 0))
    described = {"sim": {"device": "xl-array", "gain_db": 3}, "raw": {"full_scale": 2048}, "temperature_c": 41}
    header = Header("dev.iq", 0, frequency_hz=1e9)
    assert device_settings(header, described, array, 2) == ("xl-array", (1, 0), 1e9, 3.0, 41.0, 2)
    header = header.replace(meta={"gain_db": [5.0, 6.0]})
    assert device_settings(header, described, None, 2) == ("xl-array", None, 1e9, (5.0, 6.0), 41.0, 2)
    assert device_settings(Header("dev.iq", 0), {}, None, 2) == (None, None, None, None, None, 2)
    assert device_settings(Header("s", 0, meta={"gain_db": [4, 4]}), {}, None, 2).receiver_gain_db == 4.0

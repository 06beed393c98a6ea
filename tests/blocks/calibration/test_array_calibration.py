import json

import numpy as np
import pytest

from blocks.calibration.array_calibration import ArrayCalibration
from hil.errors import CalibrationError


def make(**changes):
    fields = {
        "calibration_id": "c1",
        "offset_rad": np.array([0.1, -0.2, 0.3]),
        "gain_db": np.array([0.5, 0.0, -0.5]),
        "scale": 1.05,
        "harmonic_rad": np.array([0.2, 0.1]),
        "device": "sn42",
        "channel_map": (2, 0, 1),
        "frequency_hz": 2.44e9,
        "frequency_tolerance_hz": 40e6,
        "receiver_gain_db": 30.0,
        "delay_s": np.array([0.0, 1e-9, -2e-9]),
        "temperature_c": 40.0,
        "temperature_tolerance_c": 5.0,
        "made_ns": 1_700_000_000_000_000_000,
    }
    return ArrayCalibration(**{**fields, **changes})


def test_comes_back_from_a_file_bit_for_bit(tmp_path):
    saved = make()
    saved.save(tmp_path / "c.npz")
    loaded = ArrayCalibration.load(tmp_path / "c.npz")
    for name in ("offset_rad", "gain_db", "harmonic_rad", "delay_s"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    for name in (
        "calibration_id",
        "scale",
        "device",
        "channel_map",
        "frequency_hz",
        "receiver_gain_db",
        "temperature_c",
        "temperature_tolerance_c",
        "made_ns",
    ):
        assert getattr(loaded, name) == getattr(saved, name)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("device", "sn43", "device differs: it was made for 'sn42', the data have 'sn43'"),
        ("channel_map", (0, 1, 2), r"channel_map differs: it was made for \(2, 0, 1\)"),
        ("frequency_hz", 2.5e9, r"frequency_hz differs: it was made for 2440000000 \+- 40000000, the data have 25"),
        ("receiver_gain_db", 20.0, "receiver_gain_db differs"),
        ("temperature_c", 46.0, r"temperature_c differs: it was made at 40.0 \+- 5.0, the data have 46.0"),
        ("n_sensors", 4, "n_sensors differs: it was made for 3, the data have 4"),
    ],
)
def test_refusal_names_the_field(field, value, message):
    with pytest.raises(CalibrationError, match=message):
        make().require(**{field: value})
    assert not make().applies_to(**{field: value})


def test_what_is_not_known_is_not_compared():
    assert make().applies_to(device="sn42", frequency_hz=2.45e9)
    assert make(device=None, frequency_hz=None).applies_to(device="other", frequency_hz=1e9)


def test_refuses_files_that_are_none(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", header=np.array([{}], dtype=object))
    for name in ("text.npz", "other.npz", "pickle.npz", "absent.npz"):
        with pytest.raises(CalibrationError, match=name):
            ArrayCalibration.load(tmp_path / name)


def test_refuses_arrays_that_do_not_belong_together():
    with pytest.raises(CalibrationError, match=r"got \[3\], \[2\], \[2\], \[3\]"):
        make(gain_db=np.zeros(2))
    with pytest.raises(CalibrationError, match="finite"):
        make(scale=np.nan)


def test_version_1_is_read_without_what_it_did_not_have(tmp_path):
    """As the first release wrote it."""
    header = {
        "format": "hil-array-calibration",
        "version": 1,
        "calibration_id": "old",
        "scale": 1.0,
        "device": "sn42",
        "channel_map": [1, 0],
        "frequency_hz": 2.4e9,
        "frequency_tolerance_hz": 0.0,
        "receiver_gain_db": None,
    }
    np.savez(
        tmp_path / "old.npz",
        header=np.array(json.dumps(header)),
        offset_rad=np.array([0.1, 0.2]),
        gain_db=np.zeros(2),
        harmonic_rad=np.zeros(0),
    )
    old = ArrayCalibration.load(tmp_path / "old.npz")
    assert (old.calibration_id, old.channel_map, old.temperature_c) == ("old", (1, 0), None)
    assert old.delay_s.tolist() == [0, 0]


def test_a_version_of_tomorrow_is_refused(tmp_path):
    make().save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as stored:
        arrays = dict(stored)
    arrays["header"] = np.array(str(arrays["header"]).replace('"version": 2', '"version": 3'))
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(CalibrationError, match="not a hil-array-calibration of version 1 or 2"):
        ArrayCalibration.load(tmp_path / "c.npz")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    make().save(tmp_path / "c.npz")

    def crash(*_):
        raise OSError("power failed")

    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(OSError, match="power failed"):
        make(calibration_id="c2").save(tmp_path / "c.npz")
    assert ArrayCalibration.load(tmp_path / "c.npz").calibration_id == "c1"
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.parametrize("kept", [0, 10, 100, 400])
def test_a_file_cut_short_is_refused(tmp_path, kept):
    make().save(tmp_path / "c.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:kept])
    with pytest.raises(CalibrationError, match="no calibration can be read"):
        ArrayCalibration.load(tmp_path / "c.npz")

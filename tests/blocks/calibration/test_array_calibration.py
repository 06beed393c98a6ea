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
    }
    return ArrayCalibration(**{**fields, **changes})


def test_comes_back_from_a_file_bit_for_bit(tmp_path):
    saved = make()
    saved.save(tmp_path / "c.npz")
    loaded = ArrayCalibration.load(tmp_path / "c.npz")
    for name in ("offset_rad", "gain_db", "harmonic_rad"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    for name in ("calibration_id", "scale", "device", "channel_map", "frequency_hz", "receiver_gain_db"):
        assert getattr(loaded, name) == getattr(saved, name)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("device", "sn43", "device differs: it was made for 'sn42', the data have 'sn43'"),
        ("channel_map", (0, 1, 2), r"channel_map differs: it was made for \(2, 0, 1\)"),
        ("frequency_hz", 2.5e9, r"frequency_hz differs: it was made for 2440000000 \+- 40000000, the data have 25"),
        ("receiver_gain_db", 20.0, "receiver_gain_db differs"),
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
    with pytest.raises(CalibrationError, match=r"\[3\], \[2\], \[2\]"):
        make(gain_db=np.zeros(2))
    with pytest.raises(CalibrationError, match="finite"):
        make(scale=np.nan)

"""The real captures, where they are: ours beats the plain search on positions that taught nothing."""

import json
import math

import numpy as np
import pytest

from benchmarks import ble_uca8
from benchmarks.report import Report
from hil.errors import EstimationError

captures = pytest.mark.skipif(
    not ble_uca8.DEFAULT_DIR.is_dir(), reason=f"captures are not there: {ble_uca8.DEFAULT_DIR}"
)


def test_rotation_is_taken_out():
    error = np.array([0.1, -0.1, 0.2, -0.2])
    np.testing.assert_allclose(ble_uca8.after_circular_mean(error + 3.0), error, atol=1e-12)
    np.testing.assert_allclose(ble_uca8.after_least_absolute(np.array([1.0, 1.0, 1.3])), [0, 0, 0.3], atol=1e-12)


def test_bad_rows_are_left_out_and_counted(tmp_path):
    good = ",".join(["0.5", "2", *["10"] * 111])
    unknown = ",".join(["0.5", "9", *["10"] * 111])
    lines = [good, good.replace("10", "nan", 1), good + ",1", unknown, good.replace("10", "x", 1), good]
    (tmp_path / "x1y3.csv").write_text("\n".join(lines))
    capture = ble_uca8.read_capture(tmp_path / "x1y3.csv")
    assert len(capture.emitter) == 2
    assert capture.n_refused == 4
    np.testing.assert_array_equal(capture.truth_m, [3.0, 9.0])
    assert capture.phase_rad[0, 0, 0] == pytest.approx(10 * math.pi / 201)
    (tmp_path / "x0y0.csv").write_text("no\n")
    with pytest.raises(EstimationError, match="none of 1 lines is 113 numbers"):
        ble_uca8.read_capture(tmp_path / "x0y0.csv")


@captures
@pytest.mark.slow
def test_train_on_some_positions_test_on_others(tmp_path, capsys):
    files = sorted(ble_uca8.DEFAULT_DIR.glob("x*y*.csv"))
    for name, chosen in (("train", files[::2]), ("test", files[1::2])):
        (tmp_path / name).mkdir()
        for file in chosen:
            (tmp_path / name / file.name).symlink_to(file)
    report = Report("ble_uca8", as_json=True)
    ble_uca8.measure(tmp_path / "train", tmp_path / "test", quick=True, report=report, save_to=tmp_path / "learned")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ours = {r["metric"]: r for r in rows if r["case"] == "train to test"}
    for metric in ("packet_median_deg", "packet_p80_deg", "grouped_median_deg", "grouped_p80_deg"):
        assert ours[metric]["ratio"] > 1
    assert ours["positions_lost"]["value"] == 0
    assert {p.name for p in (tmp_path / "learned").iterdir()} == {"calibration.npz", "survey.json"}


@captures
def test_the_recorder_overflows_a_byte():
    """Why phases are read as they are: none is above 127 units, and -128 .. -55 hold twice as many."""
    counts = np.rint(ble_uca8.read_capture(ble_uca8.DEFAULT_DIR / "x2y2.csv").phase_rad / ble_uca8.UNIT_RAD)
    assert counts.max() == 127
    doubled = ((counts >= -128) & (counts <= -55)).sum() / 74
    single = ((counts > -55) & (counts < 128) & (counts != 0)).sum() / 181
    assert 1.7 < doubled / single < 2.3

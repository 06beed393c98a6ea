import numpy as np
import pytest

from blocks.evaluation.position_error import PositionError
from hil.errors import ParamError


def test_summary_of_two_frames_by_hand():
    error = PositionError(gate_m=5.0, cutoff_m=10.0)
    error.add([[0.0, 11.0, 0.0], [3.0, 0.0, 4.0]], [[0.0, 10.0, 0.0], [3.0, 0.0, 4.0]])
    error.add([[0.0, 7.0, 0.0]], [[0.0, 10.0, 0.0], [30.0, 40.0, 0.0]])
    s = error.summary()
    assert (s["n"], s["n_frames"], s["missed"], s["false"]) == (3, 2, 1, 0)
    assert s["rmse_m"] == pytest.approx(np.sqrt((1 + 0 + 9) / 3))
    assert s["median_error_m"] == pytest.approx(1.0, rel=0.0046)
    assert s["range_rmse_m"] == pytest.approx(np.sqrt((1 + 0 + 9) / 3))
    assert s["angle_rmse_rad"] == pytest.approx(0.0, abs=1e-12)
    assert s["rmspe_m"] == pytest.approx((0.5 + 6.5) / 2)
    assert s["rmspe_eq23_m"] == pytest.approx((np.sqrt(0.5) + np.sqrt(109 / 2)) / 2)
    assert s["rmspe_rms_m"] == pytest.approx(np.sqrt((0.5 + 54.5) / 2))


def test_angle_is_seen_from_the_array():
    error = PositionError(gate_m=5.0, cutoff_m=5.0)
    frame = error.add([[1.0, 11.0, 0.0]], [[0.0, 11.0, 0.0]], origin_m=[0.0, 1.0, 0.0])
    assert frame.angle_error_rad == pytest.approx([np.arctan(0.1)])
    assert frame.range_error_m == pytest.approx([np.hypot(1, 10) - 10])


def test_small_angles_keep_their_digits():
    frame = PositionError(gate_m=5.0, cutoff_m=5.0).add([[1e-7, 10.0, 0.0]], [[0.0, 10.0, 0.0]])
    assert frame.angle_error_rad == pytest.approx([1e-8], rel=1e-6)


def test_empty_says_none_where_nothing_is_known():
    s = PositionError(gate_m=5.0, cutoff_m=5.0).summary()
    assert (s["n"], s["rmse_m"], s["median_error_m"], s["rmspe_m"]) == (0, None, None, None)


def test_matches_the_arrays_kept_whole_and_merges():
    rng = np.random.default_rng(5)
    truth = rng.uniform(-20, 20, (300, 2, 3))
    estimate = truth + 0.2 * rng.standard_normal(truth.shape)
    parts, whole = [PositionError(50.0, 50.0) for _ in range(3)], PositionError(50.0, 50.0)
    for i in range(300):
        whole.add(estimate[i, ::-1], truth[i])
        parts[i % 3].add(estimate[i], truth[i])
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    distance = np.linalg.norm(estimate - truth, axis=-1)  # 40 m apart on average: the pairing is never in doubt
    s = whole.summary()
    assert s["rmse_m"] == pytest.approx(np.sqrt((distance**2).mean()))
    assert s["median_error_m"] == pytest.approx(np.median(distance), rel=0.01)
    assert s["rmspe_m"] == pytest.approx(distance.mean())
    assert parts[0].summary() == pytest.approx(s)


def test_refuses_to_merge_other_rules():
    with pytest.raises(ParamError, match=r"expected gate and cut-off \(1.0, 2.0\) m, got \(1.0, 3.0\) m"):
        PositionError(1.0, 2.0).merge(PositionError(1.0, 3.0))

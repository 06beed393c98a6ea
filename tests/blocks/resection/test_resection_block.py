import numpy as np
import pytest

from blocks.calibration.site_survey import SiteSurvey
from blocks.resection.resection_block import Resection
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.resection.test_resect import SQUARE_M, bearings
from tests.jig import check_frames

BEACONS = [{"id": i, "x_m": x, "y_m": y} for i, (x, y) in zip((1, 2, 4, 5), SQUARE_M, strict=True)]


def frame(azimuth, emitter):
    n = len(azimuth)
    return Frame.of(
        Header("bearings", 3, calibration="valid", calibration_id="c1"),
        azimuth_rad=(np.array(azimuth), "source", "rad"),
        elevation_rad=(np.zeros(n), "source", "rad"),
        range_m=(np.full(n, np.inf), "source", "m"),
        emitter=(np.array(emitter, np.int64), "source", ""),
    )


@pytest.mark.parametrize("mean", [True, False])
def test_pose_and_position(mean):
    azimuth = [*bearings(4, 7, 0.3, SQUARE_M), 1.0]

    def check(out):
        pose, positions = (f for _, f in out)
        np.testing.assert_allclose(pose["position_m"], [4, 7, 1.3], atol=0.02)
        assert float(pose["heading_rad"]) == pytest.approx(0.3, abs=0.002)
        assert pose["pose_covariance"].shape == (3, 3)
        assert pose.header.calibration == "valid"
        assert pose.header.meta["n_beacons"] == 4
        np.testing.assert_array_equal(positions["position_m"][0], pose["position_m"])

    make = lambda: Resection("r", beacons=BEACONS, bearing_std_rad=0.005, mean=mean, z_m=1.3)  # noqa: E731
    check_frames(make, [frame(azimuth, [1, 2, 4, 5, 77])], check)


def test_survey_is_undone(tmp_path):
    survey = SiteSurvey(stretch=1.2, emitter=(2,), shift_m=((0.5, -0.2),), bearing_std_rad=0.005)
    survey.save(tmp_path / "survey.json")
    site = [(14.4, 12.0), (0.6, -0.2), (0.0, 12.0), (14.4, 0.0)]
    block = Resection("r", beacons=BEACONS, survey=str(tmp_path / "survey.json"))
    pose = block.feed("bearings", frame(bearings(1.2 * 4, 7, 0.3, site), [1, 2, 4, 5]))[0][1]
    np.testing.assert_allclose(pose["position_m"][:2], [4, 7], atol=0.03)


def test_too_few_known_beacons():
    with pytest.raises(EstimationError, match="r: 2 known beacons are heard, three or more are needed"):
        Resection("r", beacons=BEACONS).feed("bearings", frame([0.1, 0.2, 0.3], [1, 2, 9]))
    with pytest.raises(ParamError, match=r"beacons"):
        Resection("r", beacons=BEACONS[:2])

import math

import numpy as np
import pytest

from blocks.calibration.site_survey import SiteSurvey, bearing_scatter, phase_scatter_exponent
from hil.errors import CalibrationError, EstimationError

SURVEY = SiteSurvey(stretch=1.25, emitter=(3,), shift_m=((1.0, -1.0),), bearing_std_rad=0.05, distance_exponent=0.3)


def test_places_there_and_back():
    np.testing.assert_allclose(SURVEY.place([4.0, 3.0]), [5.0, 3.0])
    np.testing.assert_allclose(SURVEY.on_map([5.0, 3.0]), [4.0, 3.0])
    np.testing.assert_allclose(SURVEY.emitter_place([3, 9], [[3.0, 3.0], [3.0, 3.0]]), [[5.0, 2.0], [3.75, 3.0]])


def test_map_bearing_undoes_the_site():
    position, heading = np.array([2.0, 5.0]), 0.4
    seen = math.atan2(1.25 * (8 + 1 - 2), 9 - 1 - 5) - heading
    got = SURVEY.map_bearing([seen], [3], [[8.0, 9.0]], position, heading)
    assert got[0] == pytest.approx(math.atan2(8 - 2, 9 - 5))


def test_covariance_shrinks_with_the_stretch():
    np.testing.assert_allclose(np.diag(SURVEY.map_covariance(np.eye(3))), [0.64, 1, 1])


def test_comes_back_from_a_file(tmp_path):
    SURVEY.save(tmp_path / "s.json")
    assert SiteSurvey.load(tmp_path / "s.json") == SURVEY


def test_refuses_bad_files_and_fields(tmp_path):
    (tmp_path / "s.json").write_text('{"format": "other"}')
    for name in ("s.json", "absent.json"):
        with pytest.raises(CalibrationError, match=name):
            SiteSurvey.load(tmp_path / name)
    with pytest.raises(CalibrationError, match="above 0"):
        SiteSurvey(stretch=0.0)
    with pytest.raises(CalibrationError, match="1 emitters"):
        SiteSurvey(emitter=(1,))


def test_scatter_leaves_headings_out():
    rng = np.random.default_rng(1)
    place = np.repeat(np.arange(300), 4)
    error = rng.normal(0, 0.05, 1200) + rng.uniform(-3, 3, 300)[place]
    assert bearing_scatter(error, place, np.full(1200, 8.0), 0.0, 8.0) == pytest.approx(0.05, rel=0.05)
    with pytest.raises(EstimationError, match="hear two at a place"):
        bearing_scatter(error[:2], [0, 1], [8.0, 8.0], 0.0, 8.0)


def test_exponent_of_phase_scatter():
    rng = np.random.default_rng(2)
    distance = rng.uniform(3, 15, 2000)
    residual = rng.normal(0, 0.1, (2000, 8)) * (distance**0.5)[:, None]
    assert phase_scatter_exponent(residual, distance) == pytest.approx(0.5, abs=0.05)
    assert phase_scatter_exponent(residual[::-1] / distance[::-1, None], distance[::-1]) == 0.0
    with pytest.raises(EstimationError, match="at least 3"):
        phase_scatter_exponent(residual[:2], distance[:2])

import numpy as np

from benchmarks.nf_speed import batch_methods, frame_methods, measure_speed
from benchmarks.report import Report
from sim_device.near_field_places import NearFieldPlaces


def test_every_row_has_what_it_is_compared_with(capsys):
    report = Report("nf_speed", as_json=True)
    measure_speed(report, rounds=3)
    assert len(report.rows) == 8
    assert all(row.against and row.ratio and row.value > 0 for row in report.rows)
    assert sum(row.target is not None for row in report.rows) == 6
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_what_is_timed_for_one_frame_finds_what_the_batch_does():
    places = NearFieldPlaces({"snr_db": (30, 30), "separation_rad": 0.5, "random_phase": True}, 5, "test")
    batch = places.batch(0, 1)
    one, many = frame_methods(places), batch_methods(places)
    for name, method in one.items():
        np.testing.assert_allclose(
            np.sort(method(batch["samples"]).azimuth_rad),
            np.sort(many[name](batch["samples"]).azimuth_rad[0]),
            atol=5e-3,
        )

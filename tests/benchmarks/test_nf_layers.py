import json

import pytest

from benchmarks.nf_layers import measure_layers
from benchmarks.report import Report


@pytest.mark.slow
def test_all_ways_give_the_same_and_are_timed(capsys, monkeypatch):
    """The check of the results is the benchmark's own: it ends the run."""
    monkeypatch.setattr("shutil.which", lambda name: None)  # compiling takes half a minute
    report = Report("nf_layers", as_json=True)
    measure_layers(report, rounds=2)
    report.finish()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["case"] for row in rows} >= {"dense layers, batch 1", "convolution layers, batch 64"}
    assert all(row["value"] > 0 and row["ratio"] > 0 for row in rows)

import json
import statistics

import numpy as np
import pytest

from benchmarks.report import Report, median_ci95, to_table


def test_targets_are_compared_with_ratio_or_value(capsys):
    report = Report("b", as_json=True)
    assert report.add("c", "m", 2.0, "GB/s", n=3, against="theirs", ratio=0.9, ratio_at_least=0.8).meets is True
    assert report.add("c", "m", 2.0, "us", n=3, at_most=1.0).meets is False
    assert report.add("c", "m", 2.0, "us", n=3, at_least=1.0).target == ">= 1 us"
    assert report.add("c", "m", 2.0, "us", n=3).meets is None
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["meets"] for r in rows] == [True, False, True, None]
    assert set(rows[0]) == {
        *("benchmark", "case", "metric", "value", "unit", "n", "ci95", "against", "ratio", "target", "meets"),
        *("machine", "commit", "cpu_share", "age_ms"),
    }
    assert "| NO |" in to_table(report.rows)


def test_numbers_of_numpy_are_told_as_json(capsys):
    report = Report("b", as_json=True)
    report.add("c", "m", np.float64(2), "us", n=3, ratio=np.float32(2), ratio_at_least=1.5)
    report.add("c", "k", np.float32(2), "us", n=3, at_most=np.float64(3))
    report.finish()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["value"], r["ratio"], r["meets"]) for r in rows] == [(2.0, 2.0, True), (2.0, None, True)]


def test_columns_that_only_some_benchmarks_have():
    report = Report("b")
    report.add("c", "m", 2.0, "us", n=3)
    assert "CPU" not in to_table(report.rows)
    report.add("c", "m", 2.0, "us", n=3, cpu_share=0.256, age_ms=12.3)
    lines = to_table(report.rows).splitlines()
    assert lines[2].endswith("| met | CPU s/s | age ms |")
    assert lines[5].endswith("| 0.256 | 12.3 |")
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_interval_of_the_median_holds_it_in_19_of_20(n_trials=2000):
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(n_trials):
        median, ci95 = median_ci95(rng.exponential(size=41))
        assert ci95 is not None and ci95[0] <= median <= ci95[1]
        held += ci95[0] <= np.log(2) <= ci95[1]
    # binomial: 0.95 with a standard deviation of 0.005
    assert 0.935 < held / n_trials < 0.99


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_samples_have_no_interval(n):
    samples = [3.0, 1.0, 2.0, 5.0, 4.0][:n]
    assert median_ci95(samples) == (statistics.median(samples), None)

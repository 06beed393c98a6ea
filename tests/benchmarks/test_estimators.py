"""The benchmark of the estimators: what it does where a peer is absent, and that wrong results are not timed."""

import importlib

import numpy as np
import pytest

from benchmarks.estimators.line import far_field
from benchmarks.estimators.measured import Wrong, check, in_bounds, scene, take_turns
from benchmarks.report import Report
from hil.array import ArrayGeometry


def test_without_the_peer_it_says_so_and_goes_on(monkeypatch, capsys):
    there = importlib.import_module

    def absent(name, *args):
        if name == "pyroomacoustics":
            raise ImportError(name)
        return there(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    report = Report("estimators")
    far_field(report, 2)
    assert "pip install 'hil-receiver[peers]'" in capsys.readouterr().err
    assert not [row for row in report.rows if "pyroomacoustics" in (row.against or "")]
    plain = [row for row in report.rows if "plain NumPy" in (row.against or "")]
    assert [row.target for row in plain] == ["ratio >= 1", "ratio >= 0.666667"]


def test_what_is_wrong_is_not_timed():
    with pytest.raises(Wrong, match="estimators: azimuths are off"):
        check(False, "azimuths are off")
    array = ArrayGeometry.ula(16, 0.03)
    truth = scene(array, np.array([0.3, -0.2]), np.zeros(2), 100, np.random.default_rng(0))
    assert in_bounds(array, truth, np.array([-0.2, 0.3]))
    assert not in_bounds(array, truth, np.array([-0.2, 0.32]))
    assert not in_bounds(array, truth, np.array([0.3]))


def test_turns_are_of_all():
    took = take_turns({"a": lambda: None, "b": lambda: sum(range(1000))}, 5, slot_s=1e-4)
    assert {name: len(times) for name, times in took.items()} == {"a": 5, "b": 5}
    assert all((times > 0).all() for times in took.values())

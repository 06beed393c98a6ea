"""The worked example of docs/neural.md: its files as they are there, a training of two steps, the block on a stream."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from blocks.neural.run_training import TrainingConfig, run_training
from blocks.neural.systems import find_system
from blocks.neural.weights import load_model
from hil.errors import ParamError
from hil.params import convert_params
from sim_device.near_field_places import NearFieldPlaces

PAGE = Path(__file__).parents[3] / "docs" / "neural.md"
LITTLE = {"steps": 2, "batch_size": 4, "validation_examples": 4}


@pytest.fixture
def example(tmp_path, monkeypatch):
    files = dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL))
    assert set(files) == {"my_network.py", "my_network.toml", "my_flowgraph.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in ("my_network", "my_flowgraph"):
        sys.modules.pop(module, None)


@pytest.mark.slow
def test_it_trains_and_runs(example):
    config = tomllib.loads((example / "my_network.toml").read_text())
    config["train"] |= LITTLE
    path = run_training(convert_params(TrainingConfig, config, "example"), NearFieldPlaces, example / "out/my_network")
    model, card = load_model(path)
    assert card.system == "my_network:MINE"
    with torch.no_grad():
        made = model(torch.randn(3, 15, 100, dtype=torch.complex64))
    torch.testing.assert_close(made, made.mH)
    torch.testing.assert_close(torch.linalg.eigvalsh(made)[:, -1], torch.ones(3, dtype=torch.float64))

    flowgraph = importlib.import_module("my_flowgraph")
    settings = flowgraph.Settings()
    graph = flowgraph.build(settings)
    found = []
    graph.run(frames=3, on_frame={"music.estimates": lambda f: found.append(f)})
    data = [f for f in found if f.header.kind == "data"]
    assert len(data) == 3
    assert all(np.isfinite(f["azimuth_rad"]).all() for f in data)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing_there:MINE", "nothing_there"),
        ("blocks.neural.systems:NONE", "NONE"),
        ("blocks.neural.systems:SYSTEMS", "expected a .*System, got dict"),
        ("nope", "one's own is named module:NAME"),
    ],
)
def test_what_is_no_system_is_named(name, said):
    with pytest.raises(ParamError, match=said):
        find_system(name)

"""From a recording of an array that is not as it is said to be to weights that know where its elements are."""

import numpy as np
import pytest

from blocks.neural import evaluate as evaluation
from blocks.neural.recorded_places import RecordedPlaces
from blocks.neural.run_training import TrainingConfig, run_training
from blocks.neural.weights import load_model
from hil.array import ArrayGeometry
from hil.params import convert_params
from sim_device.displacement import displacement_m
from tests.blocks.neural.captures import SOURCES, record

DISPLACED = {"most_wavelengths": 0.2, "seed": 3}
MODEL = {
    "learn_positions": True,
    "network": {"n_sensors": 9, "layers": "dense", "hidden": 16, "n_blocks": 1, "rank": 2},
}


def config(path, steps, **train):
    return convert_params(
        TrainingConfig,
        {
            "system": "nf_subspacenet",
            "model": MODEL,
            "data_factory": "blocks.neural.recorded_places:RecordedPlaces",
            "data": {"paths": [str(path)], "rounds": 1, "apart_m": 0.3},
            "train": {"steps": steps, "learning_rate": 5e-3, "batch_size": 16, "validate_every": steps, **train},
        },
        "test",
    )


@pytest.mark.parametrize("coherent", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_elements_are_found_where_they_are(tmp_path, coherent):
    """Two sources on the move, positions off by up to 0.2 wavelengths: they come out to a few hundredths.

    What moves all elements alike moves the places alike, by less than what the sources tell: it is taken off.
    """
    together = [{**s, "group": 0, "phase_rad": float(s["id"])} for s in SOURCES]
    capture = record(tmp_path / "a.mcap", displacement=DISPLACED, sources=together if coherent else SOURCES)
    settings = config(capture, 100, warm_up=10)
    path = run_training(settings, RecordedPlaces, tmp_path / "out")
    model, card = load_model(path)
    array = ArrayGeometry.from_dict(card.array)
    true = displacement_m(9, 0.2, 3)
    off = model.positions().detach().numpy() - array.channel_position_m - true  # wavelength 1 m
    assert np.abs(true[:, 0]).max() > 0.15
    assert np.abs(off - off.mean(0)).max() < 0.02
    assert card.snr_db[0] < 20 < card.snr_db[1]
    assert (card.n_sources, card.n_snapshots, card.data["snr_estimated"]) == ((2, 2), (64, 64), True)
    test = RecordedPlaces(card.data, card.seed, "test")
    assert card.measured["validation"]["n"] == RecordedPlaces(card.data, card.seed, "validation").n_examples
    rows = {r.method: r for r in evaluation.evaluate(model, test, test.array, test.wavelength_m, test.range_m, 1000)}
    assert {r.n for r in rows.values()} == {test.n_examples}
    if not coherent:
        assert rows["2D MUSIC + ML, positions learned"].median_m < 0.2 * rows["2D MUSIC + ML"].median_m


def test_an_evaluation_takes_each_example_once_though_the_last_chunk_is_short(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "_CHUNK", 4)
    path = record(tmp_path / "a.mcap", n_frames=60)
    settings = config(path, 1)
    model, _ = load_model(run_training(settings, RecordedPlaces, tmp_path / "out"))
    test = RecordedPlaces(settings.data, 1, "test")
    assert test.n_examples % 4
    asked = []
    examples = test.examples
    monkeypatch.setattr(test, "examples", lambda first, n: asked.append((first, n)) or examples(first, n))
    done = []
    evaluation.evaluate(model, test, test.array, 1.0, test.range_m, 1000, on_done=done.append)
    assert [i for first, n in asked for i in range(first, first + n)] == list(range(test.n_examples))
    assert done[-1] == test.n_examples

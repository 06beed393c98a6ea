import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from blocks.neural.run_training import TrainingConfig, run_training
from blocks.neural.systems import make_model
from blocks.neural.weights import check_fits, load_card, load_model, save_weights
from hil.array import ArrayGeometry
from hil.errors import ParamError, RecordingError
from hil.params import convert_params
from hil.wavefront import wavelength_m
from sim_device.near_field_places import NearFieldPlaces

CONFIG = {
    "system": "nf_subspacenet",
    "model": {"network": {"n_sensors": 8, "n_lags": 3, "channels": [2, 3, 4]}},
    "data": {"array": {"kind": "ula", "n": 8}, "n_snapshots": 20, "snr_db": [5, 15], "coherent": True},
    "data_seed": 4,
    "train": {"steps": 2, "batch_size": 4, "validation_examples": 4},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    config = convert_params(TrainingConfig, CONFIG, "test")
    return run_training(config, NearFieldPlaces, tmp_path_factory.mktemp("training"), commit="abc123")


def test_the_card_says_what_the_weights_are_for(weights):
    card = load_card(weights)
    assert (card.system, card.commit, card.seed, card.coherent) == ("nf_subspacenet", "abc123", 4, True)
    assert (card.n_sources, card.n_snapshots, card.snr_db, card.frequency_hz) == ((2, 2), (20, 20), (5.0, 15.0), 300e6)
    assert card.trained["steps"] == 2
    assert card.measured["validation"]["n"] == 4
    assert ArrayGeometry.from_dict(card.array).n_elements == 8


def test_a_loaded_network_computes_what_the_trained_one_did(weights):
    model, card = load_model(weights)
    array = ArrayGeometry.from_dict(card.array)
    again = make_model("nf_subspacenet", CONFIG["model"], array, wavelength_m(300e6)).eval()
    again.load_state_dict(load_file(weights))
    x = torch.randn(3, 8, 20, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model(x), again(x))
    assert not model.training


def test_weights_in_half_the_size_give_nearly_the_same(weights, tmp_path):
    model, card = load_model(weights)
    save_weights(tmp_path / "half.safetensors", model, card, half=True)
    again, _ = load_model(tmp_path / "half.safetensors")
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    tensors = load_file(tmp_path / "half.safetensors").values()
    assert {t.dtype for t in tensors} == {torch.float16}


def test_first_weights_depend_on_the_seed_alone():
    array = ArrayGeometry.ula(8, 0.5)
    one, same, other = (make_model("nf_subspacenet", CONFIG["model"], array, 1.0, seed) for seed in (1, 1, 2))
    first = "network.encode.0.weight"
    assert torch.equal(one.state_dict()[first], same.state_dict()[first])
    assert not torch.equal(one.state_dict()[first], other.state_dict()[first])


def test_training_begins_with_the_weights_that_are_named(weights, tmp_path):
    config = convert_params(
        TrainingConfig, {**CONFIG, "start": str(weights), "train": {**CONFIG["train"], "learning_rate": 1e-12}}, "test"
    )
    again = run_training(config, NearFieldPlaces, tmp_path / "again")
    for name, value in load_file(weights).items():
        torch.testing.assert_close(load_file(again)[name], value)
    assert load_card(again).trained["start"] == str(weights)
    other = convert_params(TrainingConfig, {**CONFIG, "model": {}, "data": {}, "start": str(weights)}, "test")
    with pytest.raises(RecordingError, match="weights of a nf_subspacenet do not fit the one to be trained"):
        run_training(other, NearFieldPlaces, tmp_path / "other")


def test_what_is_no_weights_file_is_refused(tmp_path, weights):
    with pytest.raises(RecordingError, match="no weights at"):
        load_model(tmp_path / "absent.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00 not json at all ")
    with pytest.raises(RecordingError, match="no weights with a card"):
        load_model(tmp_path / "noise.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(RecordingError, match="no weights with a card"):
        load_model(tmp_path / "bare.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RecordingError):
        load_model(cut)


def test_weights_that_are_not_those_of_their_card_are_refused(tmp_path, weights):
    card = json.loads(json.dumps({**_plain(weights), "model": {"network": {"n_sensors": 8, "n_lags": 4}}}))
    save_file(load_file(weights), tmp_path / "other.safetensors", {"card": json.dumps(card)})
    with pytest.raises(RecordingError, match="do not fit the network on the card"):
        load_model(tmp_path / "other.safetensors")


def _plain(path):
    from hil.params import params_to_plain

    return params_to_plain(load_card(path))


def test_another_array_or_carrier_is_refused_with_both_sides_named(weights):
    card = load_card(weights)
    trained = ArrayGeometry.from_dict(card.array)
    check_fits(card, trained, 300e6, "net")
    check_fits(card, ArrayGeometry.ula(8, wavelength_m(3e9) / 2), 3e9, "net")  # the same in wavelengths
    with pytest.raises(ParamError, match="weights for 8 sensors, the data have 9"):
        check_fits(card, ArrayGeometry.ula(9, 0.5), 300e6, "net")
    with pytest.raises(ParamError, match=r"at 300 MHz, the data come from .* at 310 MHz: elements differ by"):
        check_fits(card, trained, 310e6, "net")


def test_there_is_a_list_of_what_there_is():
    with pytest.raises(ParamError, match="no system 'nope': there are dcd_music, deep_cnn, nf_subspacenet"):
        make_model("nope", {}, ArrayGeometry.ula(8, 0.5), 1.0)

import numpy as np
import pytest

from blocks.neural.evaluate import evaluate
from blocks.neural.neural_music import NeuralMusicParams, NeuralNearFieldMusic, outside_training, surrogate_order
from blocks.neural.weights import SHIPPED, load_card, load_model, weights_path
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import ParamError, RecordingError
from hil.frame import Frame, Header
from hil.wavefront import wavelength_m
from sim_device.near_field_places import NearFieldPlaces

NAME = "nf_subspacenet_n15"
HEADER = Header("sim.iq", 0, frequency_hz=300e6, sample_rate_hz=1e6, sample_start=0)
LINE = ArrayGeometry.ula(15, wavelength_m(300e6) / 2)


def run(block, samples, array=LINE, frequency_hz=300e6):
    header = HEADER._replace(frequency_hz=frequency_hz)
    block.set_up()
    list(block.feed("iq", descriptor_frame(header, array)))
    out = block.feed("iq", Frame.of(header, iq=(samples, "sensor snapshot", "FS")))
    return [f for port, f in out if port == "estimates" and f.header.kind == "data"]


def test_every_shipped_file_is_small_and_says_what_it_is():
    files = list(SHIPPED.glob("*.safetensors"))
    assert files
    for path in files:
        assert path.stat().st_size < 5e6
        assert load_card(path).measured


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.safetensors")))
def test_every_shipped_network_can_be_evaluated(name):
    """On four test places: no more than that it runs, and all methods are there."""
    model, card = load_model(weights_path(name))
    test = NearFieldPlaces(card.data, card.seed, "test")
    rows = evaluate(model, test, test.array, test.wavelength_m, test.range_m, 4)
    assert {"network", "network + ML"} < {row.method for row in rows}
    assert all(row.n == 4 and np.isfinite(row.mean_m) for row in rows)


def test_the_shipped_network_finds_coherent_sources_where_plain_music_does_not():
    """48 test places that no training has seen, two coherent sources at 20 dB; the intervals lie apart."""
    path = weights_path(NAME)
    model, card = load_model(path)
    test = NearFieldPlaces({**card.data, "snr_db": (20, 20)}, card.seed, "test")
    rows = evaluate(model, test, test.array, test.wavelength_m, test.range_m, 48)
    by = {row.method: row for row in rows}
    assert by["network"].mean_m + by["network"].ci95_m < by["2D MUSIC"].mean_m - by["2D MUSIC"].ci95_m
    assert by["network + ML"].median_m < 0.5
    assert {row.n for row in rows} == {48}


def test_the_block_gives_places_and_no_flag_for_data_like_those_trained_for():
    test = NearFieldPlaces({**load_card(weights_path(NAME)).data, "snr_db": (20, 20), "separation_rad": 0.4}, 5, "test")
    batch = test.batch(0, 1)
    (frame,) = run(NeuralNearFieldMusic("net", n_sources=2), batch["samples"][0])
    assert "outside_training" not in frame.header.meta
    found, true = np.sort(frame["azimuth_rad"]), np.sort(batch["azimuth_rad"][0])
    np.testing.assert_allclose(found, true, atol=0.02)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_snapshots": 300, "n_snapshots_most": None}, "300 snapshots, trained for 10 to 200"),
        ({"snr_db": (60, 60)}, "dB over noise, trained for 0 to 30"),
        ({"n_sources": (3, 3)}, "3 sources, trained for 2 to 2"),
    ],
)
def test_data_that_it_was_not_trained_for_are_flagged(changes, reason):
    card = load_card(weights_path(NAME))
    test = NearFieldPlaces({**card.data, "separation_rad": 0.3, "snr_db": (20, 20), **changes}, 5, "test")
    batch = test.batch(0, 1)
    block = NeuralNearFieldMusic("net", n_sources=int(batch["n_sources"][0]))
    (frame,) = run(block, batch["samples"][0])
    assert any(reason in r for r in frame.header.meta["outside_training"])
    assert block.stats()["frames_outside_training"] == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_an_array_that_is_off_in_another_way_than_was_learned_is_flagged(seed):
    """No descriptor tells the two arrays apart: that of the weights (seed 1) and another one."""
    name = "nf_subspacenet_n64_shifted"
    data = {**load_card(weights_path(name)).data, "snr_db": (20, 20), "separation_rad": 0.3}
    test = NearFieldPlaces({**data, "position_error_seed": seed}, 5, "test")
    block = NeuralNearFieldMusic("net", n_sources=2, weights=name)
    (frame,) = run(block, test.batch(0, 1)["samples"][0], test.array, 5e9)
    assert (frame.header.meta.get("outside_training") is not None) == (seed != 1)


def test_inside_training_there_is_no_reason():
    card = load_card(weights_path(NAME))
    assert outside_training(card, 2, 100, np.array([0.0, 31.0])) == []


def test_another_array_ends_the_run_with_a_clear_error():
    block = NeuralNearFieldMusic("net", n_sources=2)
    samples = np.ones((15, 100), np.complex64)
    with pytest.raises(ParamError, match="net: weights for 'xl-array' at 300 MHz, the data come from"):
        run(block, samples, frequency_hz=400e6)


def test_weights_that_are_not_there_are_named():
    with pytest.raises(RecordingError, match="no weights at nowhere"):
        NeuralNearFieldMusic("net", weights="nowhere").set_up()


@pytest.mark.parametrize("n_sources", [2, 4, 6])
def test_the_number_of_sources_is_told_by_the_eigenvalues_of_the_surrogate(n_sources):
    data = load_card(weights_path("nf_subspacenet_n15_m8")).data
    test = NearFieldPlaces(
        {**data, "n_sources": (n_sources, n_sources), "snr_db": (20, 20), "coherent_share": 1}, 3, "test"
    )
    told = []
    for samples in test.batch(0, 10)["samples"]:
        (frame,) = run(NeuralNearFieldMusic("net", weights="nf_subspacenet_n15_m8", keep_unresolved=True), samples)
        told.append(frame.header.meta["n_requested"])
    assert np.mean(np.array(told) == n_sources) >= 0.7


def test_a_threshold_can_tell_the_number_in_place_of_the_criterion():
    eigenvalues = np.array([1.0, 0.4, 0.03, 0.02])
    for threshold, n in ((0.5, 1), (0.1, 2), (0.01, 3)):
        params = NeuralMusicParams(order_threshold=threshold, max_sources=8)
        assert surrogate_order(eigenvalues, 100, params) == n

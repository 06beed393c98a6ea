import numpy as np
import pytest

from blocks.neural.evaluate import evaluate, spectra
from blocks.neural.neural_music import NeuralNearFieldMusic
from blocks.neural.planar_block import NeuralPlanarMusic
from blocks.neural.weights import load_card, load_model, weights_path
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from hil.wavefront import wavelength_m
from sim_device.near_field_places import NearFieldPlaces
from tests.blocks.neural.test_neural_music import run as frames_of

NAME = "nf_subspacenet_ura"
HEADER = Header("sim.iq", 0, frequency_hz=5e9, sample_rate_hz=1e6, sample_start=0)
RECTANGLE = ArrayGeometry.ura(6, 6, wavelength_m(5e9) / 2)


def run(block, samples, array=RECTANGLE, frequency_hz=5e9):
    return frames_of(block, samples, array, frequency_hz)


def places(**changes):
    data = load_card(weights_path(NAME)).data
    return NearFieldPlaces({**data, "snr_db": (20, 20), "separation_rad": 0.5, **changes}, 5, "test")


def in_order(frame):
    order = np.argsort(frame["azimuth_rad"])
    return [frame[k][order] for k in ("azimuth_rad", "elevation_rad", "range_m")]


@pytest.mark.parametrize("coherent", [False, True])
def test_directions_and_ranges_are_found_and_not_flagged(coherent):
    batch = places(coherent=coherent, n_snapshots=100, n_snapshots_most=None).batch(0, 4)
    truth = {k: batch[k] for k in ("azimuth_rad", "elevation_rad", "range_m")}
    for i, samples in enumerate(batch["samples"]):
        (frame,) = run(NeuralPlanarMusic("net"), samples)
        assert "outside_training" not in frame.header.meta
        off = np.array(in_order(frame)) - np.array(in_order({k: v[i] for k, v in truth.items()}))
        bound = np.sqrt(np.diagonal(frame["polar_covariance"], axis1=1, axis2=2))[np.argsort(frame["azimuth_rad"])].T
        bound[2] *= in_order({k: v[i] for k, v in truth.items()})[2] ** 2  # of inverse range
        assert np.all(np.abs(off) < 6 * bound)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_snapshots": 300, "n_snapshots_most": None}, "300 snapshots, trained for 10 to 200"),
        ({"snr_db": (60, 60)}, "dB over noise, trained for 0 to 30"),
        ({"n_sources": (3, 3), "separation_rad": 0.3}, "3 sources, trained for 2 to 2"),
    ],
)
def test_data_that_it_was_not_trained_for_are_flagged(changes, reason):
    batch = places(**changes).batch(0, 1)
    block = NeuralPlanarMusic("net", n_sources=int(batch["n_sources"][0]))
    (frame,) = run(block, batch["samples"][0])
    assert any(reason in r for r in frame.header.meta["outside_training"])
    assert block.stats()["frames_outside_training"] == 1


def test_a_second_opinion_is_taken_where_the_network_is_wrong(monkeypatch):
    batch = places(n_snapshots=100, n_snapshots_most=None).batch(0, 1)
    rng = np.random.default_rng(0)
    k = rng.normal(size=(36, 36)) + 1j * rng.normal(size=(36, 36))
    found = {}
    for second in (False, True):
        block = NeuralPlanarMusic("net", second_opinion=second, keep_unresolved=True)
        block.set_up()
        monkeypatch.setattr(block, "setup", lambda: None)
        monkeypatch.setattr(block, "_surrogate", lambda _: (k @ k.conj().T)[None])
        list(block.feed("iq", descriptor_frame(HEADER, RECTANGLE)))
        out = block.feed("iq", Frame.of(HEADER, iq=(batch["samples"][0], "sensor snapshot", "FS")))
        (frame,) = [f for port, f in out if port == "estimates" and f.header.kind == "data"]
        found[second] = np.sort(frame["azimuth_rad"])
    true = np.sort(batch["azimuth_rad"][0])
    np.testing.assert_allclose(found[True], true, atol=0.02)
    assert found[False].shape != true.shape or np.abs(found[False] - true).max() > 0.02


def test_the_number_of_sources_may_be_left_to_eigenvalues():
    samples = places().batch(0, 1)["samples"][0]
    (frame,) = run(NeuralPlanarMusic("net", n_sources=0, order_threshold=0.5), samples)
    assert 1 <= frame.header.meta["n_requested"] <= 8


def test_arrays_and_weights_that_do_not_go_together_are_refused():
    samples = np.ones((36, 100), np.complex64)
    with pytest.raises(ParamError, match="weights for 36 sensors, the data have 16"):
        run(NeuralPlanarMusic("net"), samples[:16], ArrayGeometry.ura(4, 4, 0.03))
    with pytest.raises(ParamError, match=r"elements differ by .* wavelengths"):
        run(NeuralPlanarMusic("net"), samples, frequency_hz=6e9)
    with pytest.raises(EstimationError, match="no array descriptor"):
        block = NeuralPlanarMusic("net")
        block.set_up()
        block.feed("iq", Frame.of(HEADER, iq=(samples, "sensor snapshot", "FS")))
    with pytest.raises(ParamError, match="nf_subspacenet without elevation"):
        NeuralPlanarMusic("net", weights="nf_subspacenet_n15").set_up()
    with pytest.raises(ParamError, match="take NeuralPlanarMusic"):
        NeuralNearFieldMusic("net", weights=NAME).set_up()


def test_it_is_evaluated_in_space_beside_planar_music():
    """Two coherent sources: plain MUSIC has one null for both, the network one for each."""
    test = places(separation_rad=0.0)
    model, _ = load_model(weights_path(NAME))
    rows = {row.method: row for row in evaluate(model, test, test.array, test.wavelength_m, test.range_m, 20)}
    assert set(rows) == {"network", "network + ML", "planar MUSIC", "planar MUSIC + ML"}
    network, music = rows["network"], rows["planar MUSIC"]
    assert network.mean_m + network.ci95_m < music.mean_m - music.ci95_m
    assert rows["network + ML"].median_m < network.median_m
    pictures = spectra(model, test, test.array, test.wavelength_m)
    assert all(p.truth.shape == (1, 2) and np.isfinite(p.spectrum_db).all() for p in pictures)

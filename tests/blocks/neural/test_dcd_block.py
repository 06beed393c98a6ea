import numpy as np
import pytest

from blocks.neural.dcd_block import NeuralDcdMusic
from blocks.neural.neural_music import NeuralNearFieldMusic
from blocks.neural.weights import load_card, weights_path
from hil.array import fraunhofer_distance
from hil.errors import ParamError
from sim_device.near_field_places import NearFieldPlaces
from tests.blocks.neural.test_neural_music import LINE, run

NAME = "dcd_music_n15"


def example(split="test", **changes):
    data = {**load_card(weights_path(NAME)).data, "snr_db": (20, 20), "separation_rad": 0.4, **changes}
    batch = NearFieldPlaces(data, 11, split).batch(0, 1)
    order = np.argsort(batch["azimuth_rad"][0])
    return batch["samples"][0], batch["azimuth_rad"][0][order], batch["range_m"][0][order]


def test_coherent_sources_are_placed_and_not_flagged():
    samples, azimuth, ranges = example(coherent_share=1.0)
    (frame,) = run(NeuralDcdMusic("net", n_sources=2), samples)
    assert "outside_training" not in frame.header.meta
    order = np.argsort(frame["azimuth_rad"])
    np.testing.assert_allclose(frame["azimuth_rad"][order], azimuth, atol=0.005)
    np.testing.assert_allclose(frame["range_m"][order], ranges, rtol=0.15)
    assert frame.header.meta["far_field"] == [False, False]


def test_angles_of_sources_in_the_far_field_hold_without_training_for_them():
    far = fraunhofer_distance(LINE.aperture_m, 1.0)
    for polish in (True, False):
        samples, azimuth, _ = example(coherent=False, range_m=(5 * far, 50 * far))
        block = NeuralDcdMusic("net", n_sources=2, polish=polish, keep_unresolved=True)
        (frame,) = run(block, samples)
        np.testing.assert_allclose(np.sort(frame["azimuth_rad"]), azimuth, atol=0.002 if polish else 0.03)
        if polish:
            assert frame.header.meta["far_field"] == [True, True]


def test_weights_of_another_network_are_refused():
    with pytest.raises(ParamError, match="has weights of nf_subspacenet, expected dcd_music"):
        NeuralDcdMusic("net", weights="nf_subspacenet_n15").set_up()
    with pytest.raises(ParamError, match="has weights of dcd_music, expected nf_subspacenet"):
        NeuralNearFieldMusic("net", weights=NAME).set_up()


def test_data_that_it_was_not_trained_for_are_flagged():
    samples, *_ = example(n_snapshots=300, n_snapshots_most=None)
    (frame,) = run(NeuralDcdMusic("net", n_sources=2), samples)
    assert "300 snapshots, trained for 10 to 200" in frame.header.meta["outside_training"]

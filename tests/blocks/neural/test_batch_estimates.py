import numpy as np
import pytest

from blocks.neural.batch_estimates import dcd_batch, subspacenet_batch
from blocks.neural.dcd_estimate import dcd_estimate
from blocks.neural.fast_surrogate import FastSurrogate
from blocks.neural.weights import load_card, load_model, weights_path
from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import near_field_from_subspace
from sim_device.near_field_places import NearFieldPlaces

LIKE = {"snr_db": (25, 25), "separation_rad": 0.5, "coherent_share": 1.0}


def examples(name):
    card = load_card(weights_path(name))
    places = NearFieldPlaces({**card.data, **LIKE}, 21, "test")
    return places.batch(0, 5)["samples"], steering_dictionary(places.array, places.wavelength_m)


def test_nulls_of_a_batch_are_those_of_its_frames():
    name = "nf_subspacenet_n15"
    samples, dictionary = examples(name)
    network = FastSurrogate(load_model(weights_path(name))[0].network)
    found = subspacenet_batch(network, samples, 2, dictionary)
    for i, x in enumerate(samples):
        signal = np.linalg.eigh(network(x[None])[0])[1][:, ::-1][:, :2]
        one = near_field_from_subspace(signal, Moments.of_samples(x.astype(complex)), dictionary, polish=False)
        np.testing.assert_allclose(np.sort(found.azimuth_rad[i]), np.sort(one.azimuth_rad), atol=2e-3)


def test_dcd_of_a_batch_is_that_of_its_frames():
    name = "dcd_music_n15"
    samples, dictionary = examples(name)
    model = load_model(weights_path(name))[0]
    angle, distance = FastSurrogate(model.angle), FastSurrogate(model.range)
    found = dcd_batch(angle, distance, samples, 2, dictionary, 0.5)
    for i, x in enumerate(samples):
        plane, spherical = (np.linalg.eigh(f(x[None])[0])[1][:, ::-1][:, :2] for f in (angle, distance))
        moments = Moments.of_samples(x.astype(complex))
        one = dcd_estimate(plane, spherical, moments, dictionary, 0.5, polish=False)
        assert found.azimuth_rad[i] == pytest.approx(one.azimuth_rad, abs=1e-4)
        assert found.depth[i] == pytest.approx(one.depth, abs=1e-3)

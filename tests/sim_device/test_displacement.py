import numpy as np
import pytest

from hil.descriptor import array_of
from hil.wavefront import wavelength_m
from sim_device.device import XlArrayDevice
from sim_device.displacement import displacement_m
from sim_device.near_field_places import NearFieldPlaces
from sim_device.propagation import channel_matrix

QUIET = {
    "array": {"kind": "ula", "n": 16},
    "sources": [{"id": 1, "motion": {"kind": "stand", "position_m": (1.0, 4.0, 0.0)}, "power_db": -10}],
    "noise_power_db": -150,
    "real_time": False,
}


def test_it_is_uniform_along_x_the_same_for_a_seed_and_scales():
    one = displacement_m(4000, 2.0, 3)
    assert np.abs(one[:, 0]).max() == pytest.approx(2.0, rel=0.01)
    assert one[:, 0].std() == pytest.approx(2.0 / np.sqrt(3), rel=0.03)
    assert not one[:, 1:].any()
    np.testing.assert_allclose(displacement_m(4000, 0.5, 3), one / 4)
    assert np.abs(displacement_m(4000, 2.0, 4) - one).max() > 1


@pytest.mark.parametrize("seed", [None, 9])
def test_the_device_receives_where_its_elements_are_and_tells_where_they_ought_to_be(seed):
    device = XlArrayDevice(**QUIET, seed=5, displacement={"most_wavelengths": 0.2, "seed": seed})
    x = device.samples(0, 50)
    ought = device.array.position_m
    true = ought + displacement_m(16, 0.2 * wavelength_m(5e9), 5 if seed is None else seed)
    seen = np.linalg.svd(x)[0][:, 0]
    for position_m, fits in ((true, True), (ought, False)):
        a = channel_matrix(position_m, np.array([[1.0, 4.0, 0.0]]), 5e9)[:, 0]
        match = abs(np.vdot(a, seen)) / np.linalg.norm(a)
        assert (match > 1 - 1e-6) == fits
    iq, truth = device.descriptors()
    np.testing.assert_allclose(array_of(iq).position_m, ought)
    assert "displacement" not in iq.header.meta["sim"]
    assert truth.header.meta["sim"]["displacement"] == {"most_wavelengths": 0.2, "seed": 5 if seed is None else seed}


def test_training_data_and_device_of_one_seed_are_of_one_array():
    """A network trained on the data serves the device."""
    data = {"array": {"kind": "ula", "n": 16}, "frequency_hz": 5e9, "n_sources": (1, 1), "snr_db": (150, 150)}
    off = {"position_error": 0.2, "position_error_of": "array", "position_error_seed": 5}
    batch = NearFieldPlaces({**data, **off}, 1, "train").batch(0, 1)
    azimuth, r = batch["azimuth_rad"][0, 0], batch["range_m"][0, 0]
    at = (float(r * np.sin(azimuth)), float(r * np.cos(azimuth)), 0.0)
    sources = [{"id": 1, "motion": {"kind": "stand", "position_m": at}}]
    device = XlArrayDevice(**{**QUIET, "sources": sources}, seed=5, displacement={"most_wavelengths": 0.2})
    ours, theirs = (np.linalg.svd(x)[0][:, 0] for x in (device.samples(0, 50), batch["samples"][0]))
    assert abs(np.vdot(ours, theirs)) > 1 - 1e-6

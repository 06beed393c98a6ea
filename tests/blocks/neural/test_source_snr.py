import numpy as np
import pytest

from blocks.neural.source_snr import LEAST_DB, mean_source_snr_db
from hil.errors import EstimationError
from sim_device.near_field_places import NearFieldPlaces


@pytest.mark.parametrize("n_snapshots", [6, 20, 200])
@pytest.mark.parametrize("coherent", [False, True])
@pytest.mark.parametrize("snr_db", [0.0, 15.0, 30.0])
def test_is_what_the_samples_were_made_with(n_snapshots, coherent, snr_db):
    """Few snapshots and coherent sources too. Over many frames: sources in phase or out of it even out."""
    data = NearFieldPlaces(
        {"coherent": coherent, "random_phase": True, "snr_db": [snr_db, snr_db], "n_snapshots": n_snapshots}, 3, "train"
    )
    estimate = mean_source_snr_db(data.batch(0, 1000)["samples"], 2)
    assert estimate.shape == (1000,)
    power_db = 10 * np.log10(np.mean(10 ** (estimate / 10)))
    assert power_db == pytest.approx(snr_db, abs=1.5)


def test_does_not_depend_on_level_and_elements():
    x = NearFieldPlaces({"position_error": 0.3}, 3, "train").batch(0, 5)["samples"]
    turned = x * np.exp(2j * np.pi * np.random.default_rng(1).uniform(size=(15, 1)))
    np.testing.assert_allclose(mean_source_snr_db(1e-4 * turned, 2), mean_source_snr_db(x, 2), rtol=1e-4)


def test_noise_alone_and_no_noise_are_finite():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((50, 9, 40, 2)).view(complex)[..., 0]
    assert mean_source_snr_db(noise, 1).max() < 0
    assert mean_source_snr_db(noise, 1).min() >= LEAST_DB
    line = np.ones((9, 1)) * noise[0, :1]
    assert 100 < float(mean_source_snr_db(line, 1)) < 400


@pytest.mark.parametrize(("n", "t", "m"), [(9, 2, 2), (2, 50, 2)])
def test_sources_that_leave_no_noise_are_refused(n, t, m):
    with pytest.raises(EstimationError, match=f"no noise is left of {n} sensors and {t} snapshots with {m} sources"):
        mean_source_snr_db(np.ones((n, t), complex), m)

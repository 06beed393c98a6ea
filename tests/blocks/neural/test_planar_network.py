"""NF-SubspaceNet of arrays in a plane: loss, positions and errors with elevation."""

import numpy as np
import pytest
import torch

from blocks.neural.learned_positions import LearnedPositions
from blocks.neural.run_training import TrainingConfig, run_training
from blocks.neural.systems import make_model
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import convert_params
from hil.wavefront import SPEED_OF_LIGHT_M_S
from sim_device.near_field_places import NearFieldPlaces

RECTANGLE = ArrayGeometry.ura(4, 4, 0.5)
ANGLE = 2 * np.pi * np.arange(12) / 12
CIRCLE = ArrayGeometry.from_positions(np.stack([np.sin(ANGLE), 0 * ANGLE, np.cos(ANGLE)], axis=-1))
SMALL = {"layers": "dense", "hidden": 12, "n_blocks": 1, "rank": 4}
DATA = {
    "frequency_hz": SPEED_OF_LIGHT_M_S,
    "array": {"kind": "ura", "nx": 4, "nz": 4},
    "elevation_limit_rad": 0.6,
    "snr_db": (30, 30),
    "n_sources": (1, 2),
}


def model_of(array=RECTANGLE, **changes):
    network = {**SMALL, "n_sensors": array.n_elements}
    return make_model("nf_subspacenet", {"network": network, "elevation": True, **changes}, array, 1.0)


def wave(position_m, azimuth, elevation, r):
    """Spherical wave with its amplitude, sensor by sensor."""
    source = r * np.array([np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation)])
    distance = np.array([np.linalg.norm(p - source) for p in position_m])
    return r / distance * np.exp(-2j * np.pi * (distance - r))


def batch_of(azimuth, elevation, r):
    """One example as tensors; the samples are those of no noise."""
    n = len(azimuth)
    rng = np.random.default_rng(1)
    a = np.stack([wave(RECTANGLE.position_m, *at) for at in zip(azimuth, elevation, r, strict=True)], axis=-1)
    x = a @ rng.standard_normal((n, 30))
    plain = {"samples": x[None].astype(np.complex64), "n_sources": np.array([n])}
    plain |= {"azimuth_rad": [azimuth], "elevation_rad": [elevation], "range_m": [r]}
    return {k: torch.as_tensor(np.array(v)) for k, v in plain.items()}, a


AZIMUTH, ELEVATION, RANGE = [-0.5, 0.4], [0.5, -0.3], [3.0, 5.0]


def given(model, covariance):
    loaded = torch.from_numpy(covariance + 1e-9 * np.eye(len(covariance)))
    model.forward = lambda samples: loaded.expand(len(samples), -1, -1)


def test_the_loss_is_what_the_true_waves_leave_outside_the_signal_subspace():
    batch, a = batch_of(AZIMUTH, ELEVATION, RANGE)
    model = model_of()
    given(model, a @ a.conj().T)
    assert float(model.loss(batch)[0]) < 1e-10
    rng = np.random.default_rng(2)
    k = rng.standard_normal((16, 16)) + 1j * rng.standard_normal((16, 16))
    given(model, k @ k.conj().T)
    noise = np.linalg.svd(k)[0][:, 2:]
    unit = a / np.linalg.norm(a, axis=0)
    expected = np.linalg.norm(noise.conj().T @ unit) ** 2
    assert float(model.loss(batch)[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("array", [RECTANGLE, CIRCLE], ids=["rectangle", "circle"])
def test_errors_are_distances_in_space(array):
    """A covariance of the true waves leaves none; of a wave elsewhere the distance between the two."""
    at, elsewhere = (0.3, 0.5, 3.0), (0.35, 0.2, 4.0)
    batch = {k: v[:, :1] for k, v in batch_of([at[0]], [at[1]], [at[2]])[0].items() if v.ndim == 2}
    batch |= {"samples": torch.zeros(1, array.n_elements, 20), "n_sources": torch.tensor([1])}
    model = model_of(array).eval()
    a = wave(array.position_m, *at)
    given(model, np.outer(a, a.conj()))
    assert model.error(batch, 10.0)["error_mean_m"] < 1e-3
    b = wave(array.position_m, *elsewhere)
    given(model, np.outer(b, b.conj()))
    place = [r * np.array([np.cos(e) * np.sin(z), np.cos(e) * np.cos(z), np.sin(e)]) for z, e, r in (at, elsewhere)]
    assert model.error(batch, 10.0)["error_mean_m"] == pytest.approx(np.linalg.norm(place[0] - place[1]), abs=1e-3)


def test_misfit_with_elevation_is_what_least_squares_leaves():
    batch, a = batch_of(AZIMUTH, ELEVATION, RANGE)
    rng = np.random.default_rng(3)
    x = batch["samples"][0].numpy() + rng.standard_normal((16, 30))
    left = x - a @ np.linalg.lstsq(a, x, rcond=None)[0]
    got = LearnedPositions(RECTANGLE, 1.0).misfit(
        torch.from_numpy(x)[None],
        batch["azimuth_rad"],
        batch["range_m"],
        torch.ones(1, 2, dtype=torch.bool),
        True,
        elevation_rad=batch["elevation_rad"],
    )
    assert float(got.detach().exp()) == pytest.approx(np.sum(np.abs(left) ** 2) / np.sum(np.abs(x) ** 2), rel=1e-3)


def test_training_lowers_the_loss_and_leaves_weights(tmp_path):
    plain = {
        "system": "nf_subspacenet",
        "model": {"network": {**SMALL, "n_sensors": 16, "hidden": 48}, "elevation": True, "learn_positions": True},
        "data": DATA,
        "train": {
            "steps": 30,
            "batch_size": 24,
            "learning_rate": 3e-3,
            "validate_every": 30,
            "validation_examples": 16,
            "warm_up": 5,
        },
    }
    seen = []
    config = convert_params(TrainingConfig, plain, "test")
    run_training(config, NearFieldPlaces, tmp_path, on_step=lambda _, row: seen.append(row["spectrum"]))
    assert np.mean(seen[-5:]) < 0.9 * np.mean(seen[:5])


def test_what_cannot_see_elevation_is_refused(tmp_path):
    flat = {"system": "nf_subspacenet", "model": {"network": {"n_sensors": 16}}, "data": DATA}
    with pytest.raises(ParamError, match=r"set model\.elevation of an nf_subspacenet"):
        run_training(convert_params(TrainingConfig, flat, "test"), NearFieldPlaces, tmp_path)
    for array in (ArrayGeometry.ula(16, 0.5), ArrayGeometry.uca(16, 1.0)):
        with pytest.raises(ParamError, match="expected an array in the x-z plane"):
            model_of(array)

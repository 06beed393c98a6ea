import numpy as np
import pytest
import torch

from blocks.neural.evaluate import evaluate, spectra
from blocks.neural.places import Places, matched_distance
from blocks.neural.systems import make_model
from blocks.neural.training import TrainParams, train
from hil.errors import ParamError
from hil.params import convert_params
from sim_device.near_field_places import NearFieldPlaces

SMALL = {
    "deep_cnn": {"channels": 4, "units": 8, "n_azimuth": 9, "n_range": 4},
    "trans_music": {"width": 8, "heads": 2, "layers": 1, "units": 8},
}


def places(**params):
    return NearFieldPlaces({"coherent": True, "n_snapshots": 20, "snr_db": (20, 20), **params}, 5, "train")


def model_of(system, **changes):
    data = places()
    return make_model(system, {**SMALL[system], **changes}, data.array, data.wavelength_m, 2)


def tensors(n, **params):
    return {k: torch.as_tensor(v) for k, v in places(**params).batch(0, n).items()}


@pytest.mark.parametrize("system", SMALL)
def test_places_lie_where_sources_are_looked_for(system):
    net, batch = model_of(system).eval(), tensors(5)
    with torch.no_grad():
        found = net(batch["samples"], 2)
    low, high = places().range_m
    assert found.azimuth_rad.shape == found.range_m.shape == (5, 2)
    assert (found.azimuth_rad.abs() <= np.pi / 3 + 1e-6).all()
    assert ((found.range_m >= low * 0.999) & (found.range_m <= high * 1.001)).all()
    assert net.error(batch, 50.0)["error_mean_m"] > 0


@pytest.mark.parametrize("system", SMALL)
def test_gradients_are_finite_and_training_lowers_the_loss(system, tmp_path):
    net, data = model_of(system), places()
    losses = []
    params = convert_params(
        TrainParams,
        {"steps": 40, "batch_size": 32, "examples": 32, "validate_every": 40, "validation_examples": 8},
        "t",
    )
    train(net, data, data, params, tmp_path, on_step=lambda _, row: losses.append(row["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    loss, _ = net.loss(tensors(4))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("system", SMALL)
def test_the_level_of_the_receiver_says_nothing(system):
    net, x = model_of(system).eval(), tensors(3)["samples"]
    with torch.no_grad():
        one, other = net(x, 2), net(30 * x, 2)
    torch.testing.assert_close(one.azimuth_rad, other.azimuth_rad, rtol=1e-4, atol=1e-4)


def test_the_classifier_gives_back_what_it_is_taught():
    """Logits that are the training target: places between cells come out again, one or two sources."""
    net = model_of("deep_cnn", n_azimuth=31, n_range=9).eval()
    low, high = places().range_m
    azimuth, ranges = (
        torch.tensor([[-0.52, 0.41]]),
        1 / torch.tensor([[0.3 / low + 0.7 / high, 0.62 / low + 0.38 / high]]),
    )
    taught = {}

    def record(logits, target, reduction):
        taught["target"] = target.reshape(1, 31, 9)
        return torch.zeros_like(target)

    batch = {"samples": tensors(1)["samples"], "azimuth_rad": azimuth, "range_m": ranges}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "binary_cross_entropy_with_logits", record)
        net.loss(batch)
    net.logits = lambda _: torch.logit(taught["target"].clamp(1e-6, 1 - 1e-6))
    found = net(batch["samples"], 2)
    order = found.azimuth_rad[0].argsort()
    np.testing.assert_allclose(found.azimuth_rad[0, order], azimuth[0], atol=2e-3)
    np.testing.assert_allclose(1 / found.range_m[0, order], 1 / ranges[0], atol=2e-3)


def test_distances_are_those_of_the_best_permutation():
    found = Places(torch.tensor([[0.5, -0.2]]), torch.tensor([[10.0, 20.0]]))
    far = matched_distance(found, torch.tensor([[-0.2, 0.5]]), torch.tensor([[20.0, 13.0]]))
    np.testing.assert_allclose(far[0], [0.0, 3.0], atol=1e-5)


def test_another_number_of_sources_is_refused():
    with pytest.raises(ParamError, match="made for 2 sources, asked for 3"):
        model_of("trans_music")(tensors(2)["samples"], 3)


def test_places_are_evaluated_as_covariances_are_and_have_no_spectrum():
    data = NearFieldPlaces({"coherent": True, "snr_db": (20, 20)}, 5, "test")
    net = model_of("deep_cnn").eval()
    rows = {row.method: row for row in evaluate(net, data, data.array, data.wavelength_m, data.range_m, 12)}
    assert set(rows) == {"network", "network + ML", "2D MUSIC", "2D MUSIC + ML"}
    assert all(row.n == 12 and 0 < row.mean_m <= data.range_m[1] for row in rows.values())
    with pytest.raises(ParamError, match="no spectrum"):
        spectra(net, data, data.array, data.wavelength_m)

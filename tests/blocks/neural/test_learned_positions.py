import numpy as np
import pytest
import torch

from blocks.neural.learned_positions import LearnedPositions, array_as_learned
from blocks.neural.neural_music import NeuralNearFieldMusic
from blocks.neural.run_training import TrainingConfig, run_training
from blocks.neural.systems import make_model
from blocks.neural.weights import load_model
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header
from hil.params import convert_params
from hil.wavefront import steering_vector_polar
from sim_device.displacement import displacement_m
from sim_device.near_field_places import NearFieldPlaces

LINE = ArrayGeometry.ula(9, 0.5)
SMALL = {"n_sensors": 9, "layers": "dense", "hidden": 24, "rank": 4}
DATA = {
    "array": {"kind": "ula", "n": 9},
    "frequency_hz": 299_792_458.0,
    "snr_db": (20.0, 20.0),
    "coherent": True,
    "coherent_share": 0.5,
    "random_phase": True,
    "position_error": 0.2,
    "position_error_of": "array",
    "position_error_seed": 3,
}
TRUE = LINE.channel_position_m + displacement_m(9, 0.2, 3)


def tensors(n, **params):
    batch = NearFieldPlaces({**DATA, **params}, 5, "train").batch(0, n)
    return {k: torch.as_tensor(v) for k, v in batch.items()}


def misfit(positions, batch, amplitude=True):
    n = batch["n_sources"]
    present = torch.arange(batch["azimuth_rad"].shape[-1]) < n[:, None]
    azimuth, ranges = (torch.nan_to_num(batch[k], nan=1.0) for k in ("azimuth_rad", "range_m"))
    return positions.misfit(batch["samples"], azimuth, ranges, present, amplitude)


def test_misfit_is_what_least_squares_leaves_of_the_samples():
    """By scipy's route: lstsq of the samples on steering vectors, one example after the other."""
    batch = tensors(6, n_sources=(1, 3))
    ours = misfit(LearnedPositions(LINE, 1.0), batch).exp().detach().numpy()
    for i, left in enumerate(ours):
        m = int(batch["n_sources"][i])
        place = batch["azimuth_rad"][i, :m].numpy(), batch["range_m"][i, :m].numpy()
        a = steering_vector_polar(LINE.channel_position_m, *place, 1.0, amplitude=True).T
        x = batch["samples"][i].numpy().astype(np.complex128)
        rest = x - a @ np.linalg.lstsq(a, x, rcond=None)[0]
        assert left == pytest.approx(np.sum(np.abs(rest) ** 2) / np.sum(np.abs(x) ** 2), rel=1e-3)


def test_gradient_is_that_of_finite_differences_and_finite_for_two_sources_on_one_spot():
    positions, batch = LearnedPositions(LINE, 1.0).double(), tensors(3)
    torch.nn.init.normal_(positions.offset, std=0.05, generator=torch.Generator().manual_seed(1))
    positions.offset.data[:, 2] = 0
    misfit(positions, batch).sum().backward()
    grad, h = positions.offset.grad.clone(), 1e-5
    for element, axis in ((0, 0), (5, 0), (8, 1)):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                positions.offset[element, axis] += sign * h
                sides.append(float(misfit(positions, batch).sum()))
                positions.offset[element, axis] -= sign * h
        assert grad[element, axis] == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-3)
    assert not grad[:, 2].any()  # sources lie in the plane: nothing tells of z
    for name in ("azimuth_rad", "range_m"):
        batch[name][:, 1] = batch[name][:, 0]
    positions.offset.grad = None
    misfit(positions, batch).sum().backward()
    assert torch.isfinite(positions.offset.grad).all()


def test_silence_has_no_misfit_and_no_gradient_that_is_not_finite():
    positions, batch = LearnedPositions(LINE, 1.0), tensors(2)
    batch["samples"] = torch.zeros_like(batch["samples"])
    loss = misfit(positions, batch).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(positions.offset.grad).all()


@pytest.mark.parametrize("system", ["nf_subspacenet", "dcd_music"])
def test_training_finds_the_elements_and_the_block_searches_where_they_are(tmp_path, system):
    """Displacements of up to 0.2 wavelengths come out to a hundredth, and with them the places of a test example."""
    network = {"network": SMALL} if system == "nf_subspacenet" else {"angle": SMALL, "range": SMALL, "n_ranges": 21}
    plain = {
        "system": system,
        "model": {**network, "learn_positions": True},
        "data": DATA,
        "half": True,
        "train": {"steps": 400, "learning_rate": 3e-3, "batch_size": 32, "validate_every": 400, "warm_up": 10},
    }
    config = convert_params(TrainingConfig, plain, "test")
    path = run_training(config, NearFieldPlaces, tmp_path)
    model, card = load_model(path)
    nominal = ArrayGeometry.from_dict(card.array)
    learned = array_as_learned(model, nominal).channel_position_m
    off = learned[:, 0] - TRUE[:, 0]
    assert np.abs(off - off.mean()).max() < 0.01
    assert np.abs(learned[:, 2]).max() == 0
    if system == "dcd_music":
        return
    test = NearFieldPlaces({**DATA, "coherent": False, "separation_rad": 0.5}, 5, "test")
    batch = test.batch(0, 1)
    header = Header("sim.iq", 0, frequency_hz=DATA["frequency_hz"], sample_rate_hz=1e6, sample_start=0)
    block = NeuralNearFieldMusic("net", n_sources=2, weights=str(path))
    block.set_up()
    list(block.feed("iq", descriptor_frame(header, nominal)))
    (frame,) = [
        f
        for port, f in block.feed("iq", Frame.of(header, iq=(batch["samples"][0], "sensor snapshot", "FS")))
        if port == "estimates" and f.header.kind == "data"
    ]
    np.testing.assert_allclose(np.sort(frame["azimuth_rad"]), np.sort(batch["azimuth_rad"][0]), atol=5e-3)
    np.testing.assert_allclose(block.wavefront_array.channel_position_m, learned)


def test_sixteen_annotated_frames_tell_where_the_elements_are_without_any_network(tmp_path):
    plain = {
        "system": "nf_subspacenet",
        "model": {"network": {"n_sensors": 9, "layers": "none"}, "learn_positions": True},
        "data": {**DATA, "coherent": False},
        "train": {"steps": 150, "examples": 16, "batch_size": 16, "learning_rate": 5e-3, "warm_up": 10,
                  "validate_every": 150, "validation_examples": 100},
    }  # fmt: skip
    config = convert_params(TrainingConfig, plain, "test")
    model, _ = load_model(run_training(config, NearFieldPlaces, tmp_path))
    off = model.positions.array().channel_position_m[:, 0] - TRUE[:, 0]
    assert np.abs(off - off.mean()).max() < 0.02
    samples = tensors(3)["samples"]
    sample_covariance = samples @ samples.mH / samples.shape[-1]
    trace = sample_covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    with torch.no_grad():
        np.testing.assert_allclose(model(samples), sample_covariance / trace, atol=1e-6)


def test_a_model_without_learned_positions_leaves_the_array_alone():
    model = make_model("nf_subspacenet", {"network": SMALL}, LINE, 1.0)
    assert array_as_learned(model, LINE) is LINE

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from blocks.neural.matching import best_permutation, periodic_difference, root_mean_square
from blocks.neural.systems import make_model
from blocks.neural.training import TrainParams, train
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import convert_params
from hil.wavefront import steering_vector_polar
from sim_device.near_field_places import NearFieldPlaces

SMALL = {"n_lags": 3, "channels": [2, 3, 4]}
CONFIG = {"angle": SMALL, "range": SMALL, "n_ranges": 21, "widest_mask": 6}
LINE = ArrayGeometry.ula(15, 0.5)


class Given(nn.Module):
    """In place of a network: the covariance that the test has made."""

    def __init__(self, covariance):
        super().__init__()
        self.covariance = torch.from_numpy(covariance)[None]

    def forward(self, samples):
        return self.covariance.expand(len(samples), -1, -1)


def dcd(**changes):
    return make_model("dcd_music", {**CONFIG, **changes}, LINE, 1.0, 3)


def covariance(azimuth_rad, range_m, **options):
    a = steering_vector_polar(LINE.channel_position_m, np.array(azimuth_rad), np.array(range_m), 1.0, **options)
    return a.T @ a.conj() + 1e-6 * np.eye(15)


def tensors(n, **params):
    batch = NearFieldPlaces({"coherent": True, "snr_db": (20, 20), **params}, 5, "train").batch(0, n)
    return {k: torch.as_tensor(v) for k, v in batch.items()}


def test_with_perfect_covariances_it_finds_angles_and_ranges():
    net = dcd().eval()
    azimuth, place = np.array([-0.4, 0.1, 0.5]), [2, 9, 15]
    ranges = net.places_m.numpy()[place]
    net.angle = Given(covariance(azimuth, [np.inf] * 3))
    net.range = Given(covariance(azimuth, ranges, amplitude=True))
    with torch.no_grad():
        found = net(torch.zeros(2, 15, 30, dtype=torch.complex64), 3)
    np.testing.assert_allclose(found.azimuth_rad.numpy(), [azimuth] * 2, atol=1e-6)
    np.testing.assert_allclose(found.range_m.numpy(), [ranges] * 2)


@pytest.mark.parametrize("progress", [0.1, 0.55, 0.7, 0.95])
def test_each_stage_trains_its_own_networks_with_finite_gradients(progress):
    net = dcd()
    net.progress = progress
    net.loss(tensors(6, n_sources=(1, 3)))[0].backward()
    of = {name: [p.grad for p in part.parameters()] for name, part in (("angle", net.angle), ("range", net.range))}
    trained = {"angle": ["angle"], "range": ["range"], "position": ["angle", "range"]}[net.stage]
    for name, grads in of.items():
        if name in trained:
            assert all(torch.isfinite(g).all() for g in grads)
            assert any(g.abs().max() > 0 for g in grads)
        else:
            assert all(g is None for g in grads)


def test_stages_follow_one_another_and_the_mask_narrows():
    net = dcd(angle_share=0.5, range_share=0.3)
    seen = []
    for progress in np.linspace(0, 1, 101):
        net.progress = float(progress)
        seen.append((net.stage, net.half_width))
    assert [s for i, (s, _) in enumerate(seen) if i == 0 or seen[i - 1][0] != s] == ["angle", "range", "position"]
    widths = [w for _, w in seen]
    assert widths[0] == 6 and widths[-1] == 1
    assert all(a >= b for a, b in itertools.pairwise(widths))


def test_ranges_along_the_true_angles_come_first():
    """In the warm-up the loss does not depend on what the angle network says, behind it it does."""
    batch = tensors(4)
    for progress, same in ((0.51, True), (0.8, False)):
        net = dcd(angle_share=0.5, range_share=0.35)
        net.progress = progress
        net.eval()
        before = float(net.loss(batch)[0].detach())
        with torch.no_grad():
            for p in net.angle.parameters():
                p.mul_(-1.3)
        assert (float(net.loss(batch)[0].detach()) == before) is same


def test_is_trained_through_its_stages(tmp_path):
    net = dcd()
    params = convert_params(
        TrainParams, {"steps": 8, "batch_size": 4, "validate_every": 4, "validation_examples": 4}, "test"
    )
    data = [NearFieldPlaces({"n_sources": (1, 2), "n_snapshots": 20}, 1, split) for split in ("train", "validation")]
    stages = []
    train(net, *data, params, tmp_path, on_step=lambda step, row: stages.append(row["stage"]))
    assert stages == [1, 1, 1, 1, 2, 2, 2, 3]


def test_an_array_that_is_no_uniform_line_is_refused():
    with pytest.raises(ParamError, match="no uniform line along x, which ESPRIT needs"):
        make_model("dcd_music", CONFIG, ArrayGeometry.uca(15, 1.0), 1.0)


def test_the_best_permutation_is_the_one_of_least_cost():
    cost = torch.tensor([[[5.0, 1.0], [1.0, 9.0]], [[0.0, 1.0], [1.0, 0.0]]])
    assert best_permutation(cost).tolist() == [[1, 0], [0, 1]]


def test_the_error_at_zero_has_a_finite_gradient_and_elsewhere_that_of_the_root():
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    root_mean_square(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.standard_normal((2, 3))).requires_grad_()
    np.testing.assert_allclose(root_mean_square(y).detach(), np.sqrt((y.detach().numpy() ** 2).mean(-1)), atol=1e-5)
    assert torch.autograd.gradcheck(root_mean_square, y)


@pytest.mark.parametrize(("a", "b", "expected"), [(0.2, 0.1, 0.1), (1.5, -1.5, 3.0 - np.pi), (-1.5, 1.5, np.pi - 3.0)])
def test_azimuths_differ_modulo_pi(a, b, expected):
    assert float(periodic_difference(torch.tensor(a), torch.tensor(b))) == pytest.approx(expected, abs=1e-6)

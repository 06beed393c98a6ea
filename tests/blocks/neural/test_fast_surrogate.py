import numpy as np
import pytest
import torch

from blocks.neural.autocorrelation import autocorrelation
from blocks.neural.fast_surrogate import FastSurrogate, lagged_covariances
from blocks.neural.surrogate_network import SurrogateConfig, SurrogateNetwork
from hil.errors import EstimationError, ParamError
from hil.params import convert_params


def samples(n, seed=0, n_snapshots=40):
    shape = (n, 9, n_snapshots, 2)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).view(np.complex64)[..., 0]


def network(**config):
    torch.manual_seed(2)
    return SurrogateNetwork(SurrogateConfig(n_sensors=9, **config)).eval()


@pytest.mark.parametrize(
    "config",
    [
        {"channels": (3, 5, 7), "n_lags": 4},
        {"channels": (4, 4, 4), "n_lags": 2, "skip": False, "epsilon": 1e-6},
        {"layers": "dense", "hidden": 24},
        {"layers": "dense", "hidden": 16, "n_blocks": 3, "rank": 4},
        {"layers": "dense", "hidden": 16, "snapshots": True},
        {"layers": "none"},
    ],
)
@pytest.mark.parametrize("n", [1, 6])
def test_gives_what_the_network_gives(config, n):
    net, x = network(**config), samples(n)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(FastSurrogate(net)(x), expected, atol=2e-6)


def test_a_network_that_is_told_the_number_of_snapshots_sees_nothing_else_of_it():
    """Each sample twice has the same covariance: only what is told differs."""
    x = samples(2, n_snapshots=10)
    twice = np.concatenate([x, x], axis=-1)
    deaf, told = (FastSurrogate(network(layers="dense", hidden=16, snapshots=s)) for s in (False, True))
    np.testing.assert_allclose(deaf(x), deaf(twice), atol=1e-6)
    assert np.abs(told(x) - told(twice)).max() > 1e-3


def test_convolutions_cannot_be_told_it():
    with pytest.raises(ParamError, match="expected dense layers"):
        convert_params(SurrogateConfig, {"snapshots": True}, "network")


def test_all_lags_at_once_are_the_autocorrelation():
    x = samples(3)
    np.testing.assert_allclose(lagged_covariances(x, 5), autocorrelation(torch.from_numpy(x), 5).numpy(), atol=1e-6)


def test_samples_that_do_not_fit_or_are_not_finite_are_refused():
    fast = FastSurrogate(network(layers="dense", hidden=8))
    with pytest.raises(ParamError, match=r"expected samples \[batch, sensor=9, snapshot\]"):
        fast(samples(1)[:, :8])
    broken = samples(1)
    broken[0, 0, 0] = np.nan
    with pytest.raises(EstimationError, match="not finite"):
        fast(broken)


def test_silence_has_a_surrogate():
    assert np.isfinite(FastSurrogate(network(layers="dense", hidden=8))(np.zeros((1, 9, 20), np.complex64))).all()

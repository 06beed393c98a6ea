"""Root-MUSIC and ESPRIT as blocks: errors against what they claim, and what they refuse."""

import numpy as np
import pytest

from blocks.subspace.esprit import esprit, esprit_variance
from blocks.subspace.line_blocks import Esprit, RootMusic
from blocks.subspace.signal_subspace import signal_subspace
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from tests.blocks.subspace.frames import HEADER, covariance_frame, given, told
from tests.blocks.subspace.scene import LAMBDA, snapshots

LINE = ArrayGeometry.ula(12, 0.45 * LAMBDA, array_id="line")
AZIMUTH = np.array([-0.5, 0.2, 0.6])
BLOCKS = [(RootMusic, {}), (Esprit, {"method": "ls"}), (Esprit, {"method": "tls"}), (Esprit, {"method": "unitary"})]


def samples(seed, azimuth=AZIMUTH, snr_db=10, n=100, **kwargs):
    far = np.full(len(azimuth), np.inf)
    return snapshots(LINE, azimuth, far, snr_db, n, np.random.default_rng(seed), **kwargs).x


@pytest.mark.parametrize(("kind", "params"), BLOCKS)
@pytest.mark.parametrize("n_sources", [0, 3])
def test_errors_are_what_is_claimed(kind, params, n_sources):
    block = told(kind("line", n_sources=n_sources, **params), LINE)
    scaled, power = [], []
    for seed in range(100):
        out = given(block, covariance=covariance_frame(samples(seed)))
        assert out.header.meta == {"n_requested": 3, "n_unresolved": 0}
        assert (np.diff(out["azimuth_rad"]) > 0).all() and np.isinf(out["range_m"]).all()
        power.append(out["power_db"])
        if params.get("method") == "unitary":
            assert "polar_covariance" not in out.arrays
            assert np.abs(out["azimuth_rad"] - AZIMUTH).max() < 0.03
            continue
        assert (out["polar_covariance"][:, 1:] == 0).all()
        scaled.append((out["azimuth_rad"] - AZIMUTH) / np.sqrt(out["polar_covariance"][:, 0, 0]))
    assert np.mean(power) == pytest.approx(10, abs=0.2)
    if scaled:  # 300 errors: their mean square is known to 8 %
        assert 0.8 < np.mean(np.square(scaled)) < 1.3


def test_two_coherent_waves_are_for_unitary_esprit():
    azimuth = np.array([-0.3, 0.35])
    missed = {method: 0 for method in ("tls", "unitary")}
    for seed in range(10):
        frame = covariance_frame(samples(seed, azimuth, 15, coherent=True))
        for method in missed:
            out = given(told(Esprit("esprit", n_sources=2, method=method), LINE), covariance=frame)
            found = len(out["azimuth_rad"]) == 2 and np.abs(out["azimuth_rad"] - azimuth).max() < 0.03
            missed[method] += not found
            assert len(out["azimuth_rad"]) + out.header.meta["n_unresolved"] == 2
    assert missed["unitary"] <= 1 < missed["tls"]


@pytest.mark.parametrize(("kind", "params"), BLOCKS)
def test_more_asked_than_there_is_leaves_the_rest_out(kind, params):
    out = given(told(kind("line", n_sources=4, **params), LINE), covariance=covariance_frame(samples(0, snr_db=20)))
    assert out.header.meta["n_requested"] == 4
    assert len(out["azimuth_rad"]) == 4 - out.header.meta["n_unresolved"]
    near = np.abs(out["azimuth_rad"][:, None] - AZIMUTH).min(axis=0)
    assert (near < 0.02).all(), "the three that are there are found"


@pytest.mark.parametrize(("kind", "params"), BLOCKS)
def test_noise_alone_gives_an_empty_frame(kind, params):
    noise = np.random.default_rng(1).normal(size=(2, 12, 400)).view()
    out = given(told(kind("line", **params), LINE), covariance=covariance_frame(noise[0] + 1j * noise[1]))
    assert out["azimuth_rad"].shape == (0,)
    assert out.header.meta == {"n_requested": 0, "n_unresolved": 0}


@pytest.mark.parametrize(("kind", "params"), BLOCKS)
def test_refusals(kind, params):
    block = kind("line", n_sources=3, **params)
    frame = covariance_frame(samples(0))
    with pytest.raises(EstimationError, match="line: no array descriptor has come"):
        given(block, covariance=frame)
    told(block, LINE)
    with pytest.raises(EstimationError, match="frequency_hz"):
        given(block, covariance=covariance_frame(samples(0), HEADER.replace(frequency_hz=None)))
    with pytest.raises(EstimationError, match="3 sources asked of 12 sensors and 2 snapshots"):
        given(block, covariance=covariance_frame(samples(0)[:, :2]))
    with pytest.raises(EstimationError, match="array 'line' has 12 channels, the data 11"):
        given(block, covariance=covariance_frame(samples(0)[:11]))
    x = samples(0)
    x[3, 4] = np.nan
    with pytest.raises(EstimationError, match="line: covariance has 23 values not finite"):
        given(block, covariance=covariance_frame(x))
    with pytest.raises(ParamError, match="expected a uniform line"):
        given(told(kind("line", **params), ArrayGeometry.uca(12, 0.1)), covariance=frame)
    sparse = told(kind("line", n_sources=1, **params), ArrayGeometry.ula(12, 0.6 * LAMBDA))
    with pytest.raises(ParamError, match="use directions_near"):
        given(sparse, covariance=frame)


def test_variance_of_esprit_is_that_of_its_errors():
    """By Monte Carlo, sources of different powers, one pair correlated."""
    rng, n, t = np.random.default_rng(2), 10, 200
    phase = np.array([-1.2, 0.4, 0.9])
    a = np.exp(1j * np.outer(np.arange(n), phase))
    mixing = np.array([[3, 0, 0], [0, 2, 0], [0, 1.0, 2]])
    errors, claimed = {"ls": [], "tls": []}, []
    for _ in range(800):
        s = mixing @ (rng.normal(size=(3, t)) + 1j * rng.normal(size=(3, t))) / np.sqrt(2)
        x = a @ s + (rng.normal(size=(n, t)) + 1j * rng.normal(size=(n, t))) / np.sqrt(2)
        covariance = x @ x.conj().T / t
        for method, found in errors.items():
            found.append(esprit(signal_subspace(covariance, 3), method).phase_rad - phase)
        claimed.append(esprit_variance(covariance, 3, t))
    for found in errors.values():
        # 800 draws know a variance to 5 %; terms of second order add some
        np.testing.assert_allclose(np.var(found, axis=0), np.mean(claimed, axis=0), rtol=0.18)


def test_variance_of_esprit_in_batches_and_in_torch():
    torch = pytest.importorskip("torch")
    covariance = np.stack([x @ x.conj().T / 100 for x in (samples(0), samples(1))])
    one = np.stack([esprit_variance(r, 3, 100) for r in covariance])
    np.testing.assert_allclose(esprit_variance(covariance, 3, 100), one, rtol=1e-9)
    np.testing.assert_allclose(esprit_variance(torch.tensor(covariance), 3, 100).numpy(), one, rtol=1e-9)

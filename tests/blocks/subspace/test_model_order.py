"""Model order against the formula in loops, and on data."""

import math

import numpy as np
import pytest

from blocks.subspace.model_order import (
    ModelOrder,
    criterion_values,
    eigenvalue_summary,
    energy_order,
    model_order,
    threshold_order,
)
from blocks.subspace.signal_subspace import leading_eigenpairs, leading_from_samples
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from tests.blocks.subspace.scene import LAMBDA, snapshots


def loop(values, n, zeta):
    """Geometric over arithmetic mean, term by term."""
    values, p = sorted(values, reverse=True), len(values)
    out = []
    for m in range(p):
        rest = values[m:]
        arithmetic = sum(rest) / len(rest)
        geometric = math.prod(rest) ** (1 / len(rest))
        out.append(n * len(rest) * math.log(arithmetic / geometric) + (m * (2 * p - m) + 1) / 2 * zeta)
    return out


def test_against_the_formula():
    values = [9.0, 4.0, 1.2, 1.0, 0.9]
    summary = eigenvalue_summary(np.array(values), 40)
    np.testing.assert_allclose(criterion_values(summary, "mdl"), loop(values, 40, math.log(40)), rtol=1e-12)
    np.testing.assert_allclose(criterion_values(summary, "aic"), loop(values, 40, 2.0), rtol=1e-12)


def test_batched_and_in_torch():
    torch = pytest.importorskip("torch")
    values = np.array([[9.0, 4.0, 1.2, 1.0], [1.1, 1.0, 0.9, 0.8]])
    orders = model_order(eigenvalue_summary(values, 50))
    assert orders.tolist() == [2, 0]
    assert model_order(eigenvalue_summary(torch.tensor(values), 50)).tolist() == [2, 0]


@pytest.mark.parametrize(("n_sensors", "n_snapshots"), [(15, 100), (64, 100), (64, 40), (128, 50)])
@pytest.mark.parametrize("n_sources", [0, 1, 2, 4])
def test_mdl_counts_the_sources(n_sensors, n_snapshots, n_sources):
    array = ArrayGeometry.ula(n_sensors, LAMBDA / 2)
    rng = np.random.default_rng(n_sensors + n_sources)
    azimuth = np.arcsin(np.linspace(-0.7, 0.7, 5))[:n_sources]
    right = 0
    for _ in range(20):
        x = snapshots(array, azimuth, np.full(n_sources, 0.2 * array.aperture_m**2 / LAMBDA), 10, n_snapshots, rng).x
        right += int(model_order(leading_from_samples(x, 8).summary)) == n_sources
    assert right == 20


def test_summary_of_leading_eigenvalues_gives_the_same_criterion():
    x = snapshots(ArrayGeometry.ula(15, LAMBDA / 2), [0.1, 0.4], [3.0, 4.0], 5, 60, np.random.default_rng(1)).x
    r = x @ x.conj().T / 60
    full = criterion_values(eigenvalue_summary(np.linalg.eigvalsh(r), 60))
    np.testing.assert_allclose(criterion_values(leading_eigenpairs(r, 4, 60).summary), full[:5], rtol=1e-9)


def test_threshold():
    assert int(threshold_order(np.array([5.0, 0.5, 2.0]), 1.0)) == 2


def test_refusals():
    with pytest.raises(EstimationError, match="expected 3 positive eigenvalues of 3 sensors"):
        eigenvalue_summary(np.array([1.0, 0.0, 0.0]), 10)
    with pytest.raises(ParamError, match="'mdl' or 'aic', got 'bic'"):
        criterion_values(eigenvalue_summary(np.array([2.0, 1.0]), 10), "bic")


@pytest.mark.parametrize("n_snapshots", [10, 60])
def test_block(n_snapshots):
    x = snapshots(
        ArrayGeometry.ula(15, LAMBDA / 2), [0.1, 0.6], [3.0, 4.0], 15, n_snapshots, np.random.default_rng(2)
    ).x
    arrays = {"covariance": x @ x.conj().T / n_snapshots, "n_snapshots": np.array(n_snapshots)}
    assert int(ModelOrder("order")(arrays)) == 2


def test_share_of_energy():
    values = np.array([[1.0, 6.0, 3.0], [8.0, 1.0, 1.0]])
    assert energy_order(values, 0.85).tolist() == [2, 2]
    assert energy_order(values, 0.55).tolist() == [1, 1]
    torch = pytest.importorskip("torch")
    assert energy_order(torch.tensor(values), 0.95).tolist() == [3, 3]
    with pytest.raises(ParamError, match="0 < share < 1, got 1"):
        energy_order(values, 1)


@pytest.mark.parametrize("settings", [{"criterion": "threshold", "threshold": 10.0}, {"criterion": "energy"}])
def test_block_by_threshold_and_energy(settings):
    x = snapshots(ArrayGeometry.ula(15, LAMBDA / 2), [0.1, 0.6], [3.0, 4.0], 20, 60, np.random.default_rng(2)).x
    arrays = {"covariance": x @ x.conj().T / 60, "n_snapshots": np.array(60)}
    assert int(ModelOrder("order", **settings)(arrays)) == 2
    with pytest.raises(EstimationError, match="not finite"):
        ModelOrder("order", **settings)({**arrays, "covariance": arrays["covariance"] * np.nan})

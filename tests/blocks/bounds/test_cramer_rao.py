"""Bounds against a Fisher information made of finite differences, closed forms, and the figures of the first system."""

import numpy as np
import pytest

from blocks.bounds.cramer_rao import conditional_crb, stochastic_crb
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.wavefront import steering_vector_polar, wavelength_m

LAMBDA = wavelength_m(5e9)
ULA = ArrayGeometry.ula(64, LAMBDA / 2)


def one(bound, range_m, **options):
    return bound(
        ULA.position_m, np.array([0.0]), np.array([0.0]), np.array([range_m]), LAMBDA, np.array([[10.0]]), 1.0, 100,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("bound", [conditional_crb, stochastic_crb])
@pytest.mark.parametrize(("range_m", "range_std_m", "digits"), [(10, 0.020, 3), (30, 0.175, 3), (60, 0.70, 2)])
def test_figures_of_the_64_element_array(bound, range_m, range_std_m, digits):
    covariance = one(bound, float(range_m))[0, :, 0, :]
    assert round(float(np.sqrt(covariance[1, 1])), digits) == range_std_m
    assert float(np.sqrt(covariance[0, 0])) == pytest.approx(4.8e-5, rel=0.01)


def test_one_source_closed_form_at_broadside():
    """Without amplitude, far off: phase is kappa (d theta - d^2 k / 2); two decoupled lines in d and d^2."""
    d = ULA.position_m[:, 0]
    kappa = 2 * np.pi / LAMBDA
    snr, t = 10.0, 100
    covariance = one(conditional_crb, 1e4, parameters=("azimuth", "inverse_range"), amplitude=False)[0, :, 0, :]
    information_az = 2 * t * snr * kappa**2 * (d**2).sum()
    information_k = 2 * t * snr * kappa**2 / 4 * ((d**2 - (d**2).mean()) ** 2).sum()
    assert covariance[0, 0] == pytest.approx(1 / information_az, rel=1e-6)
    assert covariance[1, 1] == pytest.approx(1 / information_k, rel=1e-6)


def fisher(position, parameters, names, waveform, noise_power):
    """Deterministic Fisher information over angles, ranges and all waveforms, by central differences of the mean."""
    m, t = waveform.shape
    polar = {"azimuth": np.zeros(m), "elevation": np.zeros(m), "range": np.zeros(m), **parameters}

    def mean(values, s):
        p = {**polar, **values}
        a = steering_vector_polar(
            position, p["azimuth"], p["range"], LAMBDA, elevation_rad=p["elevation"], amplitude=True
        )
        return (a.T @ s).ravel()

    columns = []
    for i in range(m):
        for name in names:
            h = 1e-6 if name != "range" else 1e-5
            plus, minus = polar[name].copy(), polar[name].copy()
            plus[i] += h
            minus[i] -= h
            columns.append((mean({name: plus}, waveform) - mean({name: minus}, waveform)) / (2 * h))
    for i in range(m):
        for j in range(t):
            for unit in (1.0, 1j):
                s = np.zeros_like(waveform)
                s[i, j] = unit
                columns.append(mean({}, s))
    jacobian = np.array(columns)
    return 2 / noise_power * (jacobian.conj() @ jacobian.T).real


@pytest.mark.parametrize(
    ("array", "names"),
    [
        (ArrayGeometry.ula(16, LAMBDA / 2), ("azimuth", "range")),
        (ArrayGeometry.ura(5, 4, LAMBDA / 2), ("azimuth", "elevation", "range")),
        (ArrayGeometry.uca(8, 0.1), ("range", "azimuth")),
    ],
)
def test_conditional_is_the_inverse_of_the_whole_fisher_information(array, names):
    rng = np.random.default_rng(3)
    waveform = rng.normal(size=(2, 6)) + 1j * rng.normal(size=(2, 6))
    truth = {"azimuth": np.array([0.4, -0.3]), "elevation": np.array([0.1, -0.2]), "range": np.array([1.5, 2.5])}
    n = 2 * len(names)
    expected = np.linalg.inv(fisher(array.position_m, truth, names, waveform, 0.1))[:n, :n]
    covariance = conditional_crb(
        array.position_m, truth["azimuth"], truth["elevation"], truth["range"], LAMBDA,
        waveform @ waveform.conj().T / 6, 0.1, 6, parameters=names,
    )  # fmt: skip
    # central differences: 1e-6 of the third derivative, and a Fisher matrix of condition 1e6
    np.testing.assert_allclose(covariance.reshape(n, n), expected, rtol=2e-3)


def test_stochastic_is_the_slepian_bangs_information():
    """P, sigma^2 and the angles unknown: the full matrix of tr(R^-1 R_i R^-1 R_j), derivatives by differences."""
    array, t, noise = ArrayGeometry.ula(8, LAMBDA / 2), 50, 0.5
    p = np.array([[2.0, 0.4 + 0.3j], [0.4 - 0.3j, 1.0]])
    truth = np.array([0.3, 0.8, -0.4, 1.2])  # az, r, az, r

    def covariance(eta):
        a = steering_vector_polar(array.position_m, eta[0:4:2], eta[1:4:2], LAMBDA, amplitude=True).T
        cross = eta[6] + 1j * eta[7]
        power = np.array([[eta[4], cross], [np.conj(cross), eta[5]]])
        return a @ power @ a.conj().T + eta[8] * np.eye(8)

    eta = np.array([*truth, 2.0, 1.0, 0.4, 0.3, noise])
    derivatives = []
    for i in range(len(eta)):
        h = np.zeros_like(eta)
        h[i] = 1e-6
        derivatives.append((covariance(eta + h) - covariance(eta - h)) / 2e-6)
    inverse = np.linalg.inv(covariance(eta))
    information = np.array([[t * np.trace(inverse @ x @ inverse @ y).real for y in derivatives] for x in derivatives])
    expected = np.linalg.inv(information)[:4, :4]
    bound = stochastic_crb(array.position_m, truth[0::2], np.zeros(2), truth[1::2], LAMBDA, p, noise, t)
    np.testing.assert_allclose(bound.reshape(4, 4), expected, rtol=1e-4)


def test_stochastic_is_never_below_conditional():
    for snr in (0.01, 1.0, 100.0):
        arguments = (np.array([0.2, -0.1]), np.zeros(2), np.array([8.0, 20.0]), LAMBDA, snr * np.eye(2), 1.0, 50)
        excess = stochastic_crb(ULA.position_m, *arguments) - conditional_crb(ULA.position_m, *arguments)
        assert np.linalg.eigvalsh(excess.reshape(4, 4)).min() > -1e-12


def test_line_sees_no_elevation_and_coincident_sources_are_refused():
    with pytest.raises(ParamError, match=r"information is singular .*a line array sees no elevation"):
        one(conditional_crb, 10.0, parameters=("azimuth", "elevation", "range"))
    with pytest.raises(ParamError, match=r"expected parameters among .*, got \['colour'\]"):
        one(conditional_crb, 10.0, parameters=("colour",))


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    arguments = [np.array([0.2, -0.1]), np.zeros(2), np.array([8.0, 20.0])]
    power = 10 * np.eye(2)
    for bound in (conditional_crb, stochastic_crb):
        ours = bound(ULA.position_m, *arguments, LAMBDA, power, 1.0, 100)
        tensors = bound(
            torch.tensor(ULA.position_m), *map(torch.tensor, arguments), LAMBDA, torch.tensor(power), 1.0, 100
        )
        np.testing.assert_allclose(ours, tensors.numpy(), rtol=1e-8)

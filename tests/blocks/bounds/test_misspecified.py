"""Automatic differentiation against the closed forms of [HI] Appendix B, and bounds against what estimators do."""

import numpy as np
import pytest

from blocks.bounds.impaired import impaired_crb
from blocks.bounds.misspecified import fisher_information, misspecified_bound, near_field_mean, pseudo_true
from blocks.hi_aware.joint_fit import fit_jointly
from blocks.hi_aware.reduce import Reduced
from blocks.hi_aware.scene import Places, Scene
from blocks.subspace.dictionary import steering_dictionary
from hil.array import ArrayGeometry

torch = pytest.importorskip("torch")

LAMBDA = 0.01
ULA = ArrayGeometry.ula(32, LAMBDA / 2)
L_M = ULA.position_m[:, 0]
AZ, R, BETA = np.array([0.3, -0.2]), np.array([1.6, 2.4]), np.array([1.0 + 0.2j, -0.4 + 0.9j])
ETA = np.concatenate([BETA.real, BETA.imag, AZ, R])


def waveforms(rng, n=20):
    return (rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))) / np.sqrt(2)


def appendix_b(theta, r):
    """Fresnel steering vector, first and second derivatives of [HI] Appendix B, its slips put right: no 1/sqrt(N) (the
    vector of Eq. (2) has none), and cos^2 in the last line."""
    wave, sin, cos = 2 * np.pi / LAMBDA, np.sin(theta), np.cos(theta)
    a = np.exp(1j * wave * (L_M * sin - L_M**2 * cos**2 / (2 * r)))
    by_angle, by_range = L_M * cos + L_M**2 * cos * sin / r, L_M**2 * cos**2 / (2 * r**2)
    return {
        "a": a,
        "t": 1j * wave * by_angle * a,
        "r": 1j * wave * by_range * a,
        "tt": (-((wave * by_angle) ** 2) + 1j * wave * (-L_M * sin + L_M**2 * (cos**2 - sin**2) / r)) * a,
        "tr": (-1j * wave * L_M**2 * cos * sin / r**2 - wave**2 * by_angle * by_range) * a,
        "rr": (-1j * wave * L_M**2 * cos**2 / r**3 - (wave * by_range) ** 2) * a,
    }


def closed_jacobian(s):
    parts = [appendix_b(t, r) for t, r in zip(AZ, R, strict=True)]
    columns = [np.outer(p["a"], s[i]) for i, p in enumerate(parts)]
    columns += [1j * c for c in columns]
    columns += [BETA[i] * np.outer(p["t"], s[i]) for i, p in enumerate(parts)]
    columns += [BETA[i] * np.outer(p["r"], s[i]) for i, p in enumerate(parts)]
    return np.stack(columns).reshape(8, -1)


def test_fisher_information_is_the_closed_form_of_appendix_b():
    s = waveforms(np.random.default_rng(1))
    d = closed_jacobian(s)
    got = fisher_information(near_field_mean(ULA.position_m, LAMBDA, s, model="fresnel"), ETA, 0.7)
    np.testing.assert_allclose(got, 2 / 0.7 * (d.conj() @ d.T).real, rtol=1e-8, atol=1e-6)


def test_second_derivatives_are_the_closed_form_of_appendix_b():
    rng = np.random.default_rng(2)
    s = waveforms(rng)
    mean = near_field_mean(ULA.position_m, LAMBDA, s, model="fresnel")
    eps = rng.standard_normal((32, 20)) + 1j * rng.standard_normal((32, 20))
    conj = torch.tensor(eps.conj())
    got = torch.autograd.functional.hessian(lambda v: torch.sum(conj * mean(v)).real, torch.tensor(ETA)).numpy()

    def inner(vector, i):
        return np.sum(eps.conj() * np.outer(vector, s[i]))

    for i in (0, 1):
        p = appendix_b(AZ[i], R[i])
        t, r, re, im = 4 + i, 6 + i, i, 2 + i
        for (row, column), value in {
            (t, t): BETA[i] * inner(p["tt"], i),
            (t, r): BETA[i] * inner(p["tr"], i),
            (r, r): BETA[i] * inner(p["rr"], i),
            (re, t): inner(p["t"], i),
            (im, r): 1j * inner(p["r"], i),
            (re, im): 0.0,
        }.items():
            assert got[row, column] == pytest.approx(np.real(value), rel=1e-8, abs=1e-8)
    assert got[4, 5] == pytest.approx(0, abs=1e-9)


def test_exact_model_agrees_with_the_numpy_bound():
    s = waveforms(np.random.default_rng(3))
    c = np.exp(1j * np.linspace(0, 1, 32))
    information = fisher_information(
        near_field_mean(ULA.position_m, LAMBDA, s, coefficient=c, amplitude=True), ETA, 0.7
    )
    expected = impaired_crb(ULA.position_m, AZ, np.zeros(2), R, LAMBDA, BETA[:, None] * s, c, 0.7)
    got = np.linalg.inv(information)[4:, 4:].reshape(2, 2, 2, 2).transpose(1, 0, 3, 2)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_without_faults_nothing_is_misspecified():
    """[HI] Remark 3: bias 0, LB = MCRB = CRB."""
    s = waveforms(np.random.default_rng(4))
    mean = near_field_mean(ULA.position_m, LAMBDA, s)
    found = misspecified_bound(mean, mean(torch.tensor(ETA)).numpy(), ETA, 0.7)
    np.testing.assert_allclose(found.pseudo_true, ETA, atol=1e-10)
    crb = np.linalg.inv(fisher_information(mean, ETA, 0.7))
    np.testing.assert_allclose(found.lower_bound, crb, rtol=1e-6, atol=1e-6 * np.abs(crb).max())


def faulty(rng):
    c = np.ones(32, complex)
    c[[3, 17]] = np.exp([1.5j, -2.0j])
    return c


def test_pseudo_true_is_stationary():
    rng = np.random.default_rng(5)
    s = waveforms(rng)
    mean = near_field_mean(ULA.position_m, LAMBDA, s)
    truth = near_field_mean(ULA.position_m, LAMBDA, s, coefficient=faulty(rng))(torch.tensor(ETA)).numpy()
    at = torch.tensor(pseudo_true(mean, truth, ETA), requires_grad=True)
    cost = torch.sum(torch.abs(torch.tensor(truth) - mean(at)) ** 2)
    (gradient,) = torch.autograd.grad(cost, at)
    scale = np.sqrt(np.diagonal(fisher_information(mean, at.detach().numpy(), 2.0)))
    assert (np.abs(gradient.numpy()) / scale).max() < 1e-5 * np.linalg.norm(truth)
    assert np.abs(at.detach().numpy() - ETA)[4:].max() > 1e-4


def test_an_estimator_that_ignores_faults_has_the_mean_and_spread_of_the_bound():
    """500 draws of noise: mean at the pseudo-true value, covariance at the MCRB, mean squared error at LB."""
    rng = np.random.default_rng(6)
    s = np.linalg.qr(waveforms(rng).conj().T)[1].conj().T  # two columns
    mean, noise_power = near_field_mean(ULA.position_m, LAMBDA, s), 0.05
    truth = near_field_mean(ULA.position_m, LAMBDA, s, coefficient=faulty(rng))(torch.tensor(ETA)).numpy()
    found = misspecified_bound(mean, truth, ETA, noise_power)
    scene = Scene.of(steering_dictionary(ULA, LAMBDA, amplitude=False))
    ones, intact = np.ones(32, complex), np.zeros(32, np.int8)
    estimates = []
    for _ in range(500):
        noise = np.sqrt(noise_power / 2) * (rng.standard_normal((32, 2)) + 1j * rng.standard_normal((32, 2)))
        data = Reduced(truth + noise, s, noise_power, 2, 20)
        fit = fit_jointly(data, scene, Places(AZ, 1 / R), intact, ones, max_iterations=50, tolerance=1e-4)
        estimates.append([*fit.places.azimuth_rad, *fit.places.range_m])
    spread = np.sqrt(np.diagonal(found.mcrb)[4:])
    np.testing.assert_allclose(np.mean(estimates, axis=0), found.pseudo_true[4:], atol=5 * spread.max() / np.sqrt(500))
    # a standard deviation of 500 draws is known to 3 %; 10 % is three of them
    np.testing.assert_allclose(np.std(estimates, axis=0), spread, rtol=0.1)
    rms = np.sqrt(np.mean((np.array(estimates) - ETA[4:]) ** 2, axis=0))
    np.testing.assert_allclose(rms, np.sqrt(np.diagonal(found.lower_bound)[4:]), rtol=0.1)

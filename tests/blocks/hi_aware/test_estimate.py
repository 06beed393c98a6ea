"""Detection, calibration and places together, against the truth and against the Cramer-Rao bound."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from blocks.bounds.cramer_rao import conditional_crb
from blocks.hi_aware.estimate import estimate_with_faults
from blocks.hi_aware.fault_test import fault_test, row_noise_power
from blocks.hi_aware.joint_fit import Kind, fit_jointly
from blocks.hi_aware.reduce import reduce_blind, reduce_by_pilots, unmixed
from blocks.hi_aware.scene import Places, Scene
from hil.errors import EstimationError
from tests.blocks.hi_aware.simulate import (
    AZIMUTH_RAD,
    RANGE_M,
    WAVELENGTH_M,
    array,
    dictionary,
    phase_faults,
    simulate,
)


def reduced(case, mode):
    return reduce_by_pilots(case.y, case.pilots) if mode == "pilots" else reduce_blind(case.y, len(case.pilots))


def matched(places, case):
    order = np.abs(places.azimuth_rad - case.azimuth_rad[:, None]).argmin(axis=1)
    assert len(set(order.tolist())) == len(order)
    return places.azimuth_rad[order] - case.azimuth_rad, places.range_m[order] - case.range_m


def test_pilots_keep_all_that_the_snapshots_say():
    """The reduced least-squares cost differs from that of [HI] (P1) by what does not depend on any unknown."""
    rng = np.random.default_rng(1)
    case = simulate(rng, phase_faults(32, [3, 9], rng), 5, n_snapshots=20)
    data = reduce_by_pilots(case.y, case.pilots)
    scene = Scene.of(dictionary(32))
    differences = []
    for _ in range(3):
        az, k = rng.uniform(-1, 1, 3), rng.uniform(0.05, 0.2, 3)
        a = scene.steering(az, k).a.T
        beta = rng.standard_normal(3) + 1j * rng.standard_normal(3)
        full = np.linalg.norm(case.y - a @ (beta[:, None] * case.pilots)) ** 2
        differences.append(full - np.linalg.norm(data.z - a @ (beta[:, None] * data.mixing)) ** 2)
    assert np.ptp(differences) < 1e-9 * full
    assert differences[0] == pytest.approx(data.noise_power * 32 * 17)
    wiener = case.y @ case.pilots.conj().T @ np.linalg.inv(case.pilots @ case.pilots.conj().T)
    np.testing.assert_allclose(unmixed(data), wiener, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_noise_power_is_unbiased(mode):
    rng = np.random.default_rng(2)
    powers = [reduced(simulate(rng, np.ones(64), 0), mode).noise_power for _ in range(20)]
    assert np.mean(powers) == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_joint_fit_is_the_minimum_that_scipy_finds(mode):
    """All unknowns in one scipy problem: places, gains, fault phases and a complex fault."""
    rng = np.random.default_rng(3)
    c = phase_faults(48, [5, 20], rng)
    c[31] = 0.3j
    case = simulate(rng, c, 10, azimuth_rad=np.array([0.3, -0.2]), range_m=np.array([1.6, 2.4]), n_snapshots=40)
    data, scene = reduced(case, mode), Scene.of(dictionary(48))
    kind = np.zeros(48, np.int8)
    kind[[5, 20]], kind[31] = Kind.PHASE, Kind.COMPLEX
    start = Places(case.azimuth_rad + 0.002, 1 / case.range_m - 0.01)
    fit = fit_jointly(data, scene, start, kind, np.ones(48, complex), tolerance=1e-6, max_iterations=50)
    n_gains = 2 if mode == "pilots" else 4

    def residual(v):
        a = scene.steering(v[:2], v[2:4]).a.T
        gains = v[4 : 4 + n_gains] + 1j * v[4 + n_gains : 4 + 2 * n_gains]
        b = gains[:, None] * data.mixing if mode == "pilots" else gains.reshape(2, 2)
        rest = v[4 + 2 * n_gains :]
        factor = np.ones(48, complex)
        factor[[5, 20]], factor[31] = np.exp(1j * rest[:2]), rest[2] + 1j * rest[3]
        e = (data.z - factor[:, None] * (a @ b)).ravel()
        return np.concatenate([e.real, e.imag])

    g = fit.gains[:, 0] / data.mixing[:, 0] if mode == "pilots" else fit.gains.ravel()
    factors = [
        np.angle(fit.coefficient[5]),
        np.angle(fit.coefficient[20]),
        fit.coefficient[31].real,
        fit.coefficient[31].imag,
    ]
    at_fit = np.concatenate([*fit.places.stacked(), g.real, g.imag, factors])
    found = least_squares(residual, at_fit, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert fit.cost == pytest.approx(2 * found.cost, rel=1e-9)
    information = found.jac.T @ found.jac * 2 / data.noise_power
    covariance = np.linalg.inv(information)
    for i in (0, 1):
        np.testing.assert_allclose(fit.covariance[i], covariance[np.ix_([i, 2 + i], [i, 2 + i])], rtol=1e-4)


@pytest.mark.parametrize("mode", ["pilots", "blind"])
@pytest.mark.parametrize("n_faulty", [0, 5, 36])
def test_finds_faults_and_places(mode, n_faulty):
    """[HI] Section VI-A: 256 elements, three targets, up to 14 % faulty, at 20 dB."""
    rng = np.random.default_rng(4)
    faulty = np.sort(rng.choice(256, n_faulty, replace=False))
    case = simulate(rng, phase_faults(256, faulty, rng), 20)
    estimate = estimate_with_faults(reduced(case, mode), dictionary())
    np.testing.assert_array_equal(np.flatnonzero(estimate.kind), faulty)
    assert (estimate.kind[faulty] == Kind.PHASE).all()
    # five deviations of a phase known to sqrt(1 / (2 h))
    deviation = np.sqrt(0.5 / estimate.information)
    assert (np.abs(np.angle(estimate.coefficient * case.coefficient.conj())) < 5 * deviation + 1e-12).all()
    az_error, range_error = matched(estimate.places, case)
    bound = conditional_crb(
        array().position_m, AZIMUTH_RAD, np.zeros(3), RANGE_M, WAVELENGTH_M, np.eye(3), case.noise_power, 100,
        amplitude=False,
    )  # fmt: skip
    assert (np.abs(az_error) < 5 * np.sqrt(np.diagonal(bound[:, 0, :, 0]))).all()
    assert (np.abs(range_error) < 5 * np.sqrt(np.diagonal(bound[:, 1, :, 1]))).all()


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_dead_and_clustered_elements(mode):
    """A block of 12 neighbours turned, three dead: not what [HI] assumes, the fit holds all the same."""
    rng = np.random.default_rng(5)
    cluster, dead = np.arange(40, 52), np.array([7, 100, 201])
    c = phase_faults(256, cluster, rng)
    c[dead] = 0
    estimate = estimate_with_faults(reduced(simulate(rng, c, 15), mode), dictionary())
    np.testing.assert_array_equal(np.flatnonzero(estimate.kind == Kind.PHASE), cluster)
    np.testing.assert_array_equal(np.flatnonzero(estimate.kind == Kind.COMPLEX), dead)
    assert np.abs(estimate.coefficient[dead]).max() < 0.1


def test_passive_echoes_of_a_broadcast():
    """[HI] Eq. (35): each target returns what reaches it through the same faulty elements."""
    rng = np.random.default_rng(11)
    c = phase_faults(256, [9, 77, 200], rng)
    a = c[:, None] * Scene.of(dictionary()).vectors(AZIMUTH_RAD, 1 / RANGE_M).T
    broadcast = rng.standard_normal((256, 100)) + 1j * rng.standard_normal((256, 100))
    reflectivity = np.array([1.0, 0.5j, -0.8]) / 256
    echo = a @ (reflectivity[:, None] * (a.conj().T @ broadcast))
    noise_power = np.mean(np.abs(echo) ** 2) / 10**1.5
    y = echo + np.sqrt(noise_power / 2) * (rng.standard_normal(echo.shape) + 1j * rng.standard_normal(echo.shape))
    estimate = estimate_with_faults(reduce_blind(y, 3), dictionary())
    np.testing.assert_array_equal(np.flatnonzero(estimate.kind), [9, 77, 200])
    order = np.argsort(estimate.places.azimuth_rad)[np.argsort(np.argsort(AZIMUTH_RAD))]
    np.testing.assert_allclose(estimate.places.azimuth_rad[order], AZIMUTH_RAD, atol=1e-4)
    np.testing.assert_allclose(estimate.places.range_m[order], RANGE_M, rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("snr_db", "share"), [(0, 0.02), (0, 0.04), (10, 0.04), (30, 0.14)])
@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_efficient(mode, snr_db, share):
    """Mean squared errors over the bound with the faults known: the mean of 300 such squares spreads by 0.082."""
    rng = np.random.default_rng(6)
    ratios = []
    for _ in range(100):
        c = np.where(rng.uniform(size=256) < share, np.exp(2j * np.pi * rng.uniform(size=256)), 1)
        az, r = AZIMUTH_RAD + rng.uniform(-0.01, 0.01, 3), RANGE_M * (1 + rng.uniform(-0.02, 0.02, 3))
        case = simulate(rng, c, snr_db, azimuth_rad=az, range_m=r)
        known = reduce_by_pilots(case.y, case.pilots)._replace(noise_power=case.noise_power)
        bound = fit_jointly(
            known, Scene.of(dictionary()), Places(az, 1 / r), np.zeros(256, np.int8), c, max_iterations=0
        )
        az_error, range_error = matched(estimate_with_faults(reduced(case, mode), dictionary()).places, case)
        ratios.append([az_error**2 / bound.covariance[:, 0, 0], range_error**2 / (bound.covariance[:, 1, 1] * r**4)])
    mean = np.mean(ratios, axis=(0, 2))
    assert (mean < 1.05**2 + 3 * 0.082).all(), mean


def test_fault_test_is_calibrated_without_faults():
    """A false alarm in 256 intact elements comes about p / (its odds threshold) of the time: rarely."""
    rng = np.random.default_rng(7)
    model = np.ones((100_000, 3), complex)
    z = model + np.sqrt(0.05) * (rng.standard_normal(model.shape) + 1j * rng.standard_normal(model.shape))
    assert np.count_nonzero(fault_test(z, model, 0.1, 0.02).kind) < 300
    assert row_noise_power(z - model) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda y, s: reduce_by_pilots(np.where(y == y[3, 3], np.nan, y), s), "finite"),
        (lambda y, s: reduce_by_pilots(y, s[:, :-1]), "as many snapshots"),
        (lambda y, s: reduce_by_pilots(y, np.concatenate([s, s[:1]])), "linearly dependent"),
        (lambda y, s: reduce_blind(y, 20), r"1 \.\. 19"),
    ],
)
def test_refuses(spoil, match):
    rng = np.random.default_rng(8)
    case = simulate(rng, np.ones(32), 10, n_snapshots=20)
    with pytest.raises(EstimationError, match=match):
        spoil(case.y, case.pilots)


@pytest.mark.parametrize("mode", ["pilots", "blind"])
@pytest.mark.parametrize(("phase_rad", "gain", "snr_db"), [(0.03, 0.0, 15), (0.1, 0.1, 25), (0.2, 0.0, 25)])
def test_where_all_elements_err_a_little_those_that_stand_out_are_faulty(mode, phase_rad, gain, snr_db):
    """Errors of 2 to 50 deviations of noise in every element, as a calibration of some age leaves them.

    Places err by what such errors make of them: as much as noise of their power would."""
    rng = np.random.default_rng(10)
    scatter = np.exp(1j * phase_rad * rng.standard_normal(256)) * (1 + gain * rng.standard_normal(256))
    case = simulate(rng, scatter * phase_faults(256, [10, 100, 200], rng), snr_db)
    found = estimate_with_faults(reduced(case, mode), dictionary())
    np.testing.assert_array_equal(np.flatnonzero(found.kind), [10, 100, 200])
    # three deviations of a variance from the median deviation of 256
    assert found.scatter == pytest.approx(2 * max(phase_rad, gain) ** 2, rel=0.44)
    az_error, range_error = matched(found.places, case)
    excess = found.noise_power / found.data.noise_power
    deviation = np.sqrt(excess * np.einsum("kaa->ak", found.fit.covariance))
    assert np.abs(az_error).max() < 5 * deviation[0].max()
    assert (np.abs(range_error) < 5 * deviation[1].max() * case.range_m**2).all()


def test_an_array_without_any_calibration_is_refused_and_not_guessed():
    rng = np.random.default_rng(9)
    c = np.exp(2j * np.pi * rng.uniform(size=256))
    with pytest.raises(EstimationError, match=r"9\d % of the power unexplained.*not calibrated"):
        estimate_with_faults(reduced(simulate(rng, c, 20), "pilots"), dictionary())

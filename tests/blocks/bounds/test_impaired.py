"""Bounds with faulty elements: against the conditional bound, a joint fit's own, and limits that are known."""

from itertools import pairwise

import numpy as np
import pytest

from blocks.bounds.cramer_rao import conditional_crb
from blocks.bounds.impaired import impaired_crb
from blocks.hi_aware.joint_fit import Kind, fit_jointly
from blocks.hi_aware.reduce import Reduced
from blocks.hi_aware.scene import Places, Scene
from blocks.subspace.dictionary import steering_dictionary
from hil.array import ArrayGeometry
from hil.errors import ParamError

LAMBDA = 0.01
ULA = ArrayGeometry.ula(48, LAMBDA / 2)
AZ, R = np.array([0.3, -0.2]), np.array([1.6, 2.4])


def waveforms(rng, n=30):
    return rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))


def bound(s, **options):
    c = options.pop("coefficient", np.ones(48))
    return impaired_crb(ULA.position_m, AZ, np.zeros(2), R, LAMBDA, s, c, 0.5, **options)


def test_unknown_waveforms_without_faults_is_the_conditional_bound():
    s = waveforms(np.random.default_rng(1))
    expected = conditional_crb(ULA.position_m, AZ, np.zeros(2), R, LAMBDA, s @ s.conj().T / 30, 0.5, 30)
    np.testing.assert_allclose(bound(s, known_waveforms=False), expected, rtol=1e-8)


def test_a_factor_of_the_gram_matrix_gives_the_same():
    s = waveforms(np.random.default_rng(2))
    factor = np.linalg.cholesky(s @ s.conj().T)
    options = {"unknown_phase": [3], "unknown_factor": [9]}
    np.testing.assert_allclose(bound(factor, **options), bound(s, **options), rtol=1e-9)


def test_knowing_less_costs_more():
    s = waveforms(np.random.default_rng(3))
    chain = [
        bound(s),
        bound(s, unknown_phase=[0, 30]),
        bound(s, unknown_factor=[0, 30]),
        bound(s, unknown_factor=[0, 30], known_waveforms=False),
    ]
    for less, more in pairwise(chain):
        difference = (more - less).reshape(4, 4)
        scale = np.sqrt(np.diagonal(less.reshape(4, 4)))
        assert np.linalg.eigvalsh(difference / np.outer(scale, scale)).min() > -1e-9
        assert np.trace(difference) > 0


def test_an_element_with_one_source_and_unknown_phase_says_nothing():
    """A phase of its own eats the only phase that the element has: as if it were not there."""
    s = np.array([[2.0, 1j, 0.5]])
    one = (np.array([0.1]), np.zeros(1), np.array([2.0]), LAMBDA, s)
    kept = np.delete(np.arange(48), [5, 6, 40])
    options = {"amplitude": False}
    blinded = impaired_crb(ULA.position_m, *one, np.ones(48), 0.5, unknown_phase=[5, 6, 40], **options)
    without = impaired_crb(ULA.position_m[kept], *one, np.ones(45), 0.5, **options)
    np.testing.assert_allclose(blinded, without, rtol=1e-9)


def test_agrees_with_the_covariance_of_the_joint_fit():
    rng = np.random.default_rng(4)
    s = waveforms(rng)
    c = np.ones(48, complex)
    c[[4, 7]], c[20] = np.exp([1j, 2j]), 0.4j
    kind = np.zeros(48, np.int8)
    kind[[4, 7]], kind[20] = Kind.PHASE, Kind.COMPLEX
    factor = np.linalg.cholesky(s @ s.conj().T)
    scene = Scene.of(steering_dictionary(ULA, LAMBDA))
    for known in (True, False):
        z = c[:, None] * (scene.steering(AZ, 1 / R).a.T @ factor)
        fit = fit_jointly(
            Reduced(z, factor if known else None, 0.5, 2, 30), scene, Places(AZ, 1 / R), kind, c, max_iterations=0
        )
        expected = bound(
            s, coefficient=c, unknown_phase=[4, 7], unknown_factor=[20], known_waveforms=known,
            parameters=("azimuth", "inverse_range"),
        )  # fmt: skip
        for i in (0, 1):
            np.testing.assert_allclose(fit.covariance[i], expected[i, :, i, :], rtol=1e-6)


def test_refuses_more_unknowns_than_the_elements_tell():
    with pytest.raises(ParamError, match="fewer unknown elements"):
        bound(waveforms(np.random.default_rng(5)), unknown_factor=np.arange(48))

"""The stochastic bound with faulty elements: where it is the one without, the conditional one, or a closed form."""

import numpy as np
import pytest

from blocks.bounds.cramer_rao import stochastic_crb
from blocks.bounds.impaired import impaired_crb
from blocks.bounds.impaired_stochastic import impaired_stochastic_crb
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.wavefront import steering_vector_polar

LAMBDA = 0.01
ULA = ArrayGeometry.ula(24, LAMBDA / 2)
RECTANGLE = ArrayGeometry.ura(6, 5, LAMBDA / 2)
AZ, EL, R = np.array([0.3, -0.2]), np.array([0.1, -0.3]), np.array([0.6, 0.9])
P = np.array([[1.0, 0.3 + 0.2j], [0.3 - 0.2j, 0.8]])


def bound(c, array=ULA, *, noise_power=0.5, sources=slice(None), **options):
    n = len(AZ[sources])
    el = EL[sources] if "parameters" in options else np.zeros(n)
    return impaired_stochastic_crb(
        array.position_m, AZ[sources], el, R[sources], LAMBDA, P[sources, sources], c, noise_power, 100, **options
    )


def test_with_all_coefficients_known_it_is_the_stochastic_bound():
    """Phases that are known turn the data back and cost nothing."""
    c = np.exp(1j * np.linspace(0, 3, 24))
    expected = stochastic_crb(ULA.position_m, AZ, np.zeros(2), R, LAMBDA, P, 0.5, 100)
    np.testing.assert_allclose(bound(c), expected, rtol=1e-7)


def test_planar_array_with_elevations():
    names = ("azimuth", "elevation", "inverse_range")
    expected = stochastic_crb(RECTANGLE.position_m, AZ, EL, R, LAMBDA, P, 0.5, 100, parameters=names)
    np.testing.assert_allclose(bound(np.ones(30), RECTANGLE, parameters=names), expected, rtol=1e-6)


@pytest.mark.parametrize("unknown", [{"unknown_phase": [3, 9]}, {"unknown_factor": [3, 9]}])
def test_with_growing_signal_it_nears_the_conditional_bound(unknown):
    c = np.ones(24, complex)
    c[[3, 9]] = np.exp([1j, -2j])
    waveforms = 10 * np.linalg.cholesky(P)  # their Gram matrix is T P
    noise_power = 1e-5
    expected = impaired_crb(
        ULA.position_m, AZ, np.zeros(2), R, LAMBDA, waveforms, c, noise_power, known_waveforms=False, **unknown
    )
    np.testing.assert_allclose(bound(c, noise_power=noise_power, **unknown), expected, rtol=1e-3)


def test_one_source_and_an_element_of_unknown_phase_in_closed_form():
    """Its phase goes into its own unknown; its power still tells of the waveform. So the bound is that of the other
    N - 1 elements but for P^2 a^H R^-1 a, which all N have a share in: N P^2 / (sigma^2 + N P)."""
    c = np.ones(24, complex)
    c[3] = np.exp(1j)
    got = bound(c, sources=slice(1), amplitude=False, unknown_phase=[3])
    others = np.delete(ULA.position_m, 3, axis=0)
    expected = stochastic_crb(
        others, AZ[:1], np.zeros(1), R[:1], LAMBDA, P[:1, :1], 0.5, 100, amplitude=False
    )  # fmt: skip
    told = [n / (0.5 + n) for n in (23, 24)]
    np.testing.assert_allclose(got, expected * told[0] / told[1], rtol=1e-6)


def test_an_element_of_unknown_factor_dead_or_not_is_no_better_than_one_of_unknown_phase():
    c = np.ones(24, complex)
    c[3] = np.exp(1j)
    phase, factor = (
        np.linalg.eigvalsh(bound(c, **{name: [3]}).reshape(4, 4)) for name in ("unknown_phase", "unknown_factor")
    )
    assert (factor >= phase * (1 - 1e-9)).all()
    c[3] = 0
    without = np.delete(ULA.position_m, 3, axis=0)
    expected = stochastic_crb(without, AZ, np.zeros(2), R, LAMBDA, P, 0.5, 100)
    np.testing.assert_allclose(bound(c, unknown_factor=[3]), expected, rtol=1e-6)


def test_refuses_what_cannot_be_told():
    with pytest.raises(ParamError, match="singular"):
        bound(np.ones(24), unknown_phase=np.arange(24))


def test_the_derivatives_are_those_of_the_covariance():
    """The whole information by central differences of R, no line of the bound's own used."""
    c = np.ones(24, complex)
    c[[3, 9]] = np.exp([1j, -2j])

    def covariance(unknown):
        az, r = unknown[:2], unknown[2:4]
        p = np.array([[unknown[4], unknown[5] + 1j * unknown[6]], [unknown[5] - 1j * unknown[6], unknown[7]]])
        now = c.copy()
        now[3] *= np.exp(1j * unknown[9])
        now[9] += unknown[10] + 1j * unknown[11]
        a = now[:, None] * steering_vector_polar(ULA.position_m, az, r, LAMBDA, amplitude=True).T
        return a @ p @ a.conj().T + unknown[8] * np.eye(24)

    at = np.array([*AZ, *R, 1.0, 0.3, 0.2, 0.8, 0.5, 0, 0, 0])
    step = np.array([1e-6] * 2 + [1e-5] * 2 + [1e-4] * 5 + [1e-5] * 3)
    changes = [
        (covariance(at + h * e) - covariance(at - h * e)) / (2 * h) for h, e in zip(step, np.eye(12), strict=True)
    ]
    inverse = np.linalg.inv(covariance(at))
    information = 100 * np.array([[np.trace(inverse @ x @ inverse @ y).real for y in changes] for x in changes])
    expected = np.linalg.inv(information)[:4, :4].reshape(2, 2, 2, 2).transpose(1, 0, 3, 2)
    np.testing.assert_allclose(bound(c, unknown_phase=[3], unknown_factor=[9]), expected, rtol=1e-4)

"""The bound beside estimates: that of the scene, whatever array and estimator."""

import numpy as np
import pytest

from blocks.bounds.cramer_rao import conditional_crb, stochastic_crb
from blocks.bounds.cramer_rao_block import CramerRao, CramerRaoFromSamples, source_moments
from blocks.bounds.observable import observable_coordinates
from hil.array import ArrayGeometry
from hil.errors import EstimationError
from hil.frame import Frame
from tests.blocks.subspace.frames import HEADER, covariance_frame, estimates_frame, given, iq_frame, told
from tests.blocks.subspace.scene import LAMBDA, snapshots

LINE = ArrayGeometry.ula(16, LAMBDA / 2, array_id="line")
AZIMUTH, RANGE_M = np.array([-0.3, 0.4]), np.array([1.2, 2.0])


def samples(seed=0, n=400, range_m=RANGE_M, **kwargs):
    return snapshots(LINE, AZIMUTH, range_m, 10, n, np.random.default_rng(seed), **kwargs).x


@pytest.mark.parametrize("kind", ["stochastic", "conditional"])
@pytest.mark.parametrize("from_samples", [False, True])
def test_it_is_the_bound_of_the_scene(kind, from_samples):
    block = told((CramerRaoFromSamples if from_samples else CramerRao)("crb", kind=kind), LINE)
    x = samples()
    data = {"iq": iq_frame(x)} if from_samples else {"covariance": covariance_frame(x)}
    out = given(block, estimates=estimates_frame(AZIMUTH, RANGE_M), **data)
    bound = (stochastic_crb if kind == "stochastic" else conditional_crb)(
        LINE.position_m, AZIMUTH, np.zeros(2), RANGE_M, LAMBDA, 10 * np.eye(2), 1.0, 400
    )  # fmt: skip
    # powers of 400 snapshots are known to 5 %, deviations go with their root
    np.testing.assert_allclose(out["azimuth_std_rad"], np.sqrt([bound[i, 0, i, 0] for i in range(2)]), rtol=0.1)
    np.testing.assert_allclose(out["range_std_m"], np.sqrt([bound[i, 1, i, 1] for i in range(2)]), rtol=0.1)
    np.testing.assert_allclose(out["range_std_m"], np.sqrt(out["polar_covariance"][:, 2, 2]) * RANGE_M**2)
    assert (out["elevation_std_rad"] == 0).all()
    assert out.header.meta == {"kind": kind}
    assert "ratio" not in out.arrays


def test_the_ratio_tells_how_far_an_estimate_is_from_it():
    estimates = estimates_frame(AZIMUTH, RANGE_M)
    block, frame = told(CramerRao("crb"), LINE), covariance_frame(samples())
    bound = given(block, estimates=estimates, covariance=frame)["polar_covariance"]
    arrays = {name: (estimates[name], "source", "") for name in ("azimuth_rad", "elevation_rad", "range_m")}
    claim = Frame.of(HEADER, **arrays, polar_covariance=(4 * bound, "source polar polar", ""))
    ratio = given(block, estimates=claim, covariance=frame)["ratio"]
    np.testing.assert_allclose(ratio[:, [0, 2]], 2)
    assert np.isnan(ratio[:, 1]).all()


def test_plane_waves_have_a_bound_of_azimuth_alone():
    far = [np.inf, np.inf]
    frame = covariance_frame(samples(range_m=far))
    out = given(told(CramerRao("crb"), LINE), estimates=estimates_frame(AZIMUTH, far), covariance=frame)
    assert np.isinf(out["range_std_m"]).all() and (out["polar_covariance"][:, 2] == 0).all()
    near = given(told(CramerRao("crb"), LINE), estimates=estimates_frame(AZIMUTH, [1e6, np.inf]), covariance=frame)
    assert (near["azimuth_std_rad"] >= out["azimuth_std_rad"]).all(), "a range that is not known costs"
    assert (near["polar_covariance"][:, 2, 2] > 0).all()


def test_which_coordinates_an_array_tells():
    near, far = np.array([2.0]), np.array([np.inf])
    plane, circle = ArrayGeometry.ura(4, 4, LAMBDA / 2), ArrayGeometry.uca(8, LAMBDA)
    assert observable_coordinates(LINE, LAMBDA, near) == ("azimuth", "inverse_range")
    assert observable_coordinates(LINE, LAMBDA, far) == ("azimuth",)
    assert observable_coordinates(circle, LAMBDA, far) == ("azimuth",)
    assert observable_coordinates(plane, LAMBDA, far) == ("azimuth", "elevation")
    assert observable_coordinates(plane, LAMBDA, near) == ("azimuth", "elevation", "inverse_range")


def test_moments_of_an_exact_covariance_are_those_it_was_made_of():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(8, 3)) + 1j * rng.normal(size=(8, 3))
    root = rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3))
    p = root @ root.conj().T
    found, noise_power = source_moments(a @ p @ a.conj().T + 0.3 * np.eye(8), a)
    np.testing.assert_allclose(found, p, atol=1e-10)
    assert noise_power == pytest.approx(0.3)
    nothing, _ = source_moments(np.eye(8) + 0j, a)
    assert (np.linalg.eigvalsh(nothing) > 0).all(), "no power is negative"


def test_coherent_sources_have_a_bound():
    out = given(
        told(CramerRao("crb", kind="conditional"), LINE),
        estimates=estimates_frame(AZIMUTH, RANGE_M),
        covariance=covariance_frame(samples(coherent=True)),
    )
    assert np.isfinite(out["range_std_m"]).all() and (out["azimuth_std_rad"] > 0).all()


def test_nothing_estimated_nothing_bounded():
    out = given(told(CramerRao("crb"), LINE), estimates=estimates_frame([], []), covariance=covariance_frame(samples()))
    assert out["polar_covariance"].shape == (0, 3, 3) and out["range_std_m"].shape == (0,)


def test_refusals():
    fine, frame = estimates_frame(AZIMUTH, RANGE_M), covariance_frame(samples())
    with pytest.raises(EstimationError, match="crb: no array descriptor has come"):
        given(CramerRao("crb"), estimates=fine, covariance=frame)
    with pytest.raises(EstimationError, match="array 'line' has 16 channels, the data 12"):
        given(told(CramerRao("crb"), LINE), estimates=fine, covariance=covariance_frame(samples()[:12]))
    with pytest.raises(EstimationError, match="set the parameter frequency_hz"):
        header = HEADER.replace(frequency_hz=None)
        estimates = estimates_frame(AZIMUTH, RANGE_M, header=header)
        given(told(CramerRao("crb"), LINE), estimates=estimates, covariance=covariance_frame(samples(), header))
    with pytest.raises(EstimationError, match="16 estimates of 16 sensors; expected fewer"):
        many = estimates_frame(np.linspace(-1, 1, 16), np.full(16, 2.0))
        given(told(CramerRao("crb"), LINE), estimates=many, covariance=frame)
    with pytest.raises(EstimationError, match="estimates coincide"):
        given(told(CramerRao("crb"), LINE), estimates=estimates_frame([0.1, 0.1], [2.0, 2.0]), covariance=frame)
    with pytest.raises(EstimationError, match="not finite, or a range is not positive"):
        given(told(CramerRao("crb"), LINE), estimates=estimates_frame(AZIMUTH, [1.0, np.nan]), covariance=frame)
    with pytest.raises(EstimationError, match="noise power that is left is"):
        silent = covariance_frame(0 * samples())
        given(told(CramerRao("crb"), LINE), estimates=fine, covariance=silent)

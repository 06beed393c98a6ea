"""Refinement behind other estimators: errors at the bound, the covariance claimed is that of the errors, refusals."""

import numpy as np
import pytest

from blocks.subspace.line_blocks import Esprit
from blocks.subspace.reduced_dimension_block import ReducedDimensionMusic
from blocks.subspace.refine_block import RefineEstimates, RefineEstimatesFromCovariance
from hil.array import ArrayGeometry
from hil.errors import EstimationError
from tests.blocks.subspace.frames import HEADER, covariance_frame, estimates_frame, given, iq_frame, told
from tests.blocks.subspace.scene import LAMBDA, snapshots

LINE = ArrayGeometry.ula(24, LAMBDA / 2, array_id="line")
AZIMUTH, RANGE_M = np.array([-0.3, 0.4]), np.array([2.5, 4.0])


def samples(seed, snr_db=10, n=60):
    return snapshots(LINE, AZIMUTH, RANGE_M, snr_db, n, np.random.default_rng(seed)).x


@pytest.mark.parametrize("kind", [RefineEstimates, RefineEstimatesFromCovariance])
def test_from_rough_estimates_to_the_bound(kind):
    block = told(kind("refine"), LINE)
    scaled = []
    for seed in range(60):
        x = samples(seed).astype(np.complex64)
        rng = np.random.default_rng(seed)
        rough = estimates_frame(AZIMUTH + rng.uniform(-0.02, 0.02, 2), RANGE_M * rng.uniform(0.8, 1.25, 2))
        data = {"iq": iq_frame(x)} if kind is RefineEstimates else {"covariance": covariance_frame(x)}
        out = given(block, estimates=rough, **data)
        assert out.header.meta == {"n_unresolved": 0, "converged": True, "explained": True}
        error = np.stack([out["azimuth_rad"] - AZIMUTH, 1 / out["range_m"] - 1 / RANGE_M], axis=-1)
        assert (out["polar_covariance"][:, 1] == 0).all(), "a line takes elevation as known"
        claimed = out["polar_covariance"][:, ::2, ::2]
        scaled.append(np.einsum("si,sij,sj->s", error, np.linalg.inv(claimed), error))
        np.testing.assert_allclose(out["power_db"], 10, atol=2)
    # 120 squared distances of two degrees of freedom each: their mean is known to 9 %
    assert np.mean(scaled) == pytest.approx(2, rel=0.27)


def test_planes_have_their_elevation_refined():
    plane = ArrayGeometry.ura(6, 6, LAMBDA / 2)
    rng = np.random.default_rng(3)
    az, el = np.array([-0.4, 0.3]), np.array([0.2, -0.3])
    u = np.stack([np.cos(el) * np.sin(az), np.cos(el) * np.cos(az), np.sin(el)])
    a = np.exp(2j * np.pi / LAMBDA * plane.position_m @ u)
    noise = rng.normal(size=(2, 38, 80))
    x = 3 * a @ (noise[0, :2] + 1j * noise[1, :2]) + noise[0, 2:] + 1j * noise[1, 2:]
    block = told(RefineEstimates("refine"), plane)
    out = given(block, estimates=estimates_frame(az + 0.03, [np.inf] * 2, el - 0.03), iq=iq_frame(x))
    np.testing.assert_allclose(out["azimuth_rad"], az, atol=5e-3)
    np.testing.assert_allclose(out["elevation_rad"], el, atol=5e-3)
    assert np.isinf(out["range_m"]).all(), "plane waves stay plane"
    covariance = out["polar_covariance"]
    assert (np.linalg.eigvalsh(covariance[:, :2, :2]) > 0).all() and (covariance[:, 2] == 0).all()


@pytest.mark.parametrize("range_m", [0.3, 0.5, 0.8, 1.2])
def test_a_source_nearer_than_the_search_goes_is_left_out_or_flagged(range_m):
    x = snapshots(LINE, [0.2], [range_m], 20, 60, np.random.default_rng(4)).x
    block = told(RefineEstimates("refine", range_min_m=1.5), LINE)
    out = given(block, estimates=estimates_frame([0.2], [2.0]), iq=iq_frame(x))
    assert len(out["azimuth_rad"]) + out.header.meta["n_unresolved"] == 1
    assert not out.header.meta["explained"]


@pytest.mark.parametrize("kind", [RefineEstimates, RefineEstimatesFromCovariance])
@pytest.mark.parametrize("n_snapshots", [15, 60])
def test_a_source_that_nobody_estimated_is_told(kind, n_snapshots):
    block, key = told(kind("refine"), LINE), "iq" if kind is RefineEstimates else "covariance"
    for seed in range(10):
        x = samples(seed, n=n_snapshots)
        frame = iq_frame(x) if key == "iq" else covariance_frame(x)
        both = given(block, estimates=estimates_frame(AZIMUTH, RANGE_M), **{key: frame})
        assert both.header.meta["explained"]
        one = given(block, estimates=estimates_frame(AZIMUTH[:1], RANGE_M[:1]), **{key: frame})
        assert not one.header.meta["explained"]


def test_nothing_in_nothing_out():
    out = given(told(RefineEstimates("refine"), LINE), estimates=estimates_frame([], []), iq=iq_frame(samples(0)))
    assert out["polar_covariance"].shape == (0, 3, 3)


def test_behind_esprit_it_reaches_the_bound_and_gives_unitary_esprit_a_covariance():
    azimuth, scaled = np.array([-0.2, 0.25]), {"esprit": [], "refined": []}
    esprit = told(Esprit("esprit", n_sources=2, method="unitary"), LINE)
    refine = told(RefineEstimatesFromCovariance("refine"), LINE)
    for seed in range(60):
        x = snapshots(LINE, azimuth, [np.inf] * 2, 0, 60, np.random.default_rng(seed)).x
        first = given(esprit, covariance=covariance_frame(x))
        out = given(refine, estimates=first, covariance=covariance_frame(x))
        deviation = np.sqrt(out["polar_covariance"][:, 0, 0])
        scaled["esprit"].append((first["azimuth_rad"] - azimuth) / deviation)
        scaled["refined"].append((out["azimuth_rad"] - azimuth) / deviation)
    rms = {name: np.sqrt(np.mean(np.square(values))) for name, values in scaled.items()}
    # 120 errors: their root mean square is known to 6.5 %
    assert rms["refined"] == pytest.approx(1, abs=0.2)
    assert rms["refined"] < rms["esprit"]


def test_behind_reduced_dimension_music_the_bias_goes():
    """[HI] Section IV-C on 64 elements at twice the Fresnel distance: angles are off by the cubic term."""
    line = ArrayGeometry.ula(64, LAMBDA / 2)
    azimuth, range_m = np.array([-0.5, 0.4]), np.array([6.0, 8.0])
    reduced = told(ReducedDimensionMusic("reduced", n_sources=2), line)
    refine = told(RefineEstimatesFromCovariance("refine"), line)
    before, after = [], []
    for seed in range(20):
        x = snapshots(line, azimuth, range_m, 15, 200, np.random.default_rng(seed)).x
        first = given(reduced, covariance=covariance_frame(x))
        assert first.header.meta == {"n_requested": 2, "n_unresolved": 0}
        assert "polar_covariance" not in first.arrays
        out = given(refine, estimates=first, covariance=covariance_frame(x))
        deviation = np.sqrt(out["polar_covariance"][:, [0, 2], [0, 2]]).T
        for frame, errors in ((first, before), (out, after)):
            order = np.argsort(frame["azimuth_rad"])
            error = np.stack([frame["azimuth_rad"][order] - azimuth, 1 / frame["range_m"][order] - 1 / range_m])
            errors.append(error / deviation[:, order])
    before, after = np.array(before), np.array(after)
    assert np.abs(before[:, 0].mean(axis=0)).min() > 3, "biased by several deviations"
    assert np.abs(after.mean(axis=0)).max() < 4 / np.sqrt(20)
    assert np.sqrt(np.mean(after**2)) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("from_covariance", [False, True])
def test_refusals(from_covariance):
    kind = RefineEstimatesFromCovariance if from_covariance else RefineEstimates

    def run(estimates, x, array=LINE, header=HEADER, **params):
        block = kind("refine", **params)
        block = block if array is None else told(block, array)
        frame = covariance_frame(x, header) if from_covariance else iq_frame(x, header)
        key = "covariance" if from_covariance else "iq"
        return given(block, estimates=estimates, **{key: frame})

    fine = estimates_frame(AZIMUTH, RANGE_M)
    with pytest.raises(EstimationError, match="refine: no array descriptor has come"):
        run(fine, samples(0), None)
    with pytest.raises(EstimationError, match="has 24 channels, the data 20"):
        run(fine, samples(0)[:20])
    broken = samples(0)
    broken[0, 0] = np.inf
    with pytest.raises(EstimationError, match="values not finite"), np.errstate(invalid="ignore"):
        run(fine, broken)
    with pytest.raises(EstimationError, match="azimuth_rad has 1 values not finite"):
        run(estimates_frame([np.nan, 0.1], RANGE_M), samples(0))
    with pytest.raises(EstimationError, match="expected positive or infinite ones"):
        run(estimates_frame(AZIMUTH, [1.0, np.nan]), samples(0))
    with pytest.raises(EstimationError, match="2 sources asked of 24 sensors and 1 snapshots"):
        run(fine, samples(0)[:, :1])
    with pytest.raises(EstimationError, match="some coincide"):
        run(estimates_frame([0.1, 0.1], [2.0, 2.0]), samples(0))
    with pytest.raises(EstimationError, match="power 0"):
        run(fine, 0 * samples(0))

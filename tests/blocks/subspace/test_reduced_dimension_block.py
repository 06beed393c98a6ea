"""The block of reduced-dimension MUSIC: what it finds, what it leaves out and says, what it refuses."""

import numpy as np
import pytest

from blocks.subspace.reduced_dimension_block import ReducedDimensionMusic
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from tests.blocks.subspace.frames import covariance_frame, given, told
from tests.blocks.subspace.scene import LAMBDA, snapshots

LINE = ArrayGeometry.ula(65, LAMBDA / 2, array_id="line")


def samples(azimuth, range_m, seed=0, snr_db=15, n=200):
    return snapshots(LINE, azimuth, range_m, snr_db, n, np.random.default_rng(seed)).x


@pytest.mark.parametrize("n_coarse", [0, 12])
def test_three_sources_beyond_the_ambiguity_of_the_virtual_array(n_coarse):
    """Its sines repeat every 1: 0.75 and -0.25 are one direction to it."""
    sine, range_m = np.array([-0.6, -0.25, 0.75]), np.array([9.0, 14.0, 20.0])
    block = told(ReducedDimensionMusic("rd", n_sources=3, n_coarse=n_coarse), LINE)
    for seed in range(5):
        out = given(block, covariance=covariance_frame(samples(np.arcsin(sine + 0.02), range_m, seed)))
        order = np.argsort(out["azimuth_rad"])
        assert len(order) + out.header.meta["n_unresolved"] == 3
        if len(order) == 3:
            np.testing.assert_allclose(np.sin(out["azimuth_rad"][order]), sine + 0.02, atol=5e-3)
            np.testing.assert_allclose(out["range_m"][order], range_m, rtol=0.15)
            np.testing.assert_allclose(out["power_db"], 15, atol=1.5)
    assert len(order) == 3


def test_noise_alone_gives_an_empty_frame():
    out = given(told(ReducedDimensionMusic("rd", n_sources=2), LINE), covariance=covariance_frame(samples([], [])))
    assert out["azimuth_rad"].shape == (0,) and out.header.meta == {"n_requested": 2, "n_unresolved": 2}


def test_refusals():
    frame = covariance_frame(samples([0.1], [9.0]))
    with pytest.raises(EstimationError, match="4 elements in the middle for 4 sources; expected more than sources"):
        given(told(ReducedDimensionMusic("rd", n_sources=4, n_coarse=4), LINE), covariance=frame)
    with pytest.raises(EstimationError, match="set n_coarse"):
        given(told(ReducedDimensionMusic("rd", n_sources=9, range_min_m=0.02), LINE), covariance=frame)
    with pytest.raises(ParamError, match="subvectors of 2 entries; take fewer of them"):
        given(told(ReducedDimensionMusic("rd", n_sources=2, n_subvectors=64), LINE), covariance=frame)
    with pytest.raises(EstimationError, match="5 sources asked of 65 sensors and 3 snapshots"):
        few = covariance_frame(samples([0.1], [9.0], n=3))
        given(told(ReducedDimensionMusic("rd", n_sources=5), LINE), covariance=few)
    with pytest.raises(ParamError, match="expected a uniform line"):
        given(told(ReducedDimensionMusic("rd"), ArrayGeometry.uca(65, 1.0)), covariance=frame)
    x = samples([0.1], [9.0])
    x[3] = np.nan
    with pytest.raises(EstimationError, match="rd: covariance has 129 values not finite"):
        given(told(ReducedDimensionMusic("rd"), LINE), covariance=covariance_frame(x))

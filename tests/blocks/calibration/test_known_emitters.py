import cmath
import math
import random

import numpy as np
import pytest

from blocks.calibration.known_emitters import CalibrationPrior, calibrate_known_emitters
from blocks.calibration.learn import learn_array_and_site
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from tests.blocks.switched_array.simulate import CHANNEL_MAP, RADIUS_M, WAVELENGTH_M, element_phase

POSITION_M = ArrayGeometry.uca(8, RADIUS_M, channel_map=CHANNEL_MAP).channel_position_m
BEACONS_M = {1: (12.0, 12.0), 2: (0.0, 0.0), 4: (0.0, 12.0), 5: (12.0, 0.0)}
RECEIVERS_M = [(3.0 * i, 3.0 * j) for i in range(5) for j in range(5) if (i % 4, j % 4) != (0, 0)]


def site(stretch, shift, scale, coupling, noise, seed=1):
    """Responses of a circular array with branch phases, coupling and a map that is not as drawn, in plain loops."""
    rng = random.Random(seed)
    offsets = [rng.gauss(0, 0.4) for _ in range(8)]
    groups = {"response": [], "emitter": [], "emitter_m": [], "receiver_m": []}
    headings = []
    for x, y in RECEIVERS_M:
        headings.append(rng.uniform(-0.6, 0.6))
        for beacon, (bx, by) in BEACONS_M.items():
            dx, dy = shift.get(beacon, (0.0, 0.0))
            azimuth = math.atan2(stretch * (bx + dx - x), by + dy - y) - headings[-1]
            common = rng.uniform(-3, 3)
            row = []
            for m in range(8):
                phase = scale * element_phase(m, azimuth) + offsets[m] + common
                phase += coupling * math.cos(2 * (azimuth + 2 * math.pi * m / 8))
                row.append(cmath.exp(1j * (phase + rng.gauss(0, noise))))
            groups["response"].append(row)
            groups["emitter"].append(beacon)
            groups["emitter_m"].append((bx, by))
            groups["receiver_m"].append((x, y))
    return {k: np.array(v) for k, v in groups.items()}, np.array(offsets), np.array(headings)


def learn(groups, **kwargs):
    return learn_array_and_site(
        groups["response"],
        groups["emitter"],
        groups["emitter_m"],
        groups["receiver_m"],
        POSITION_M,
        WAVELENGTH_M,
        **kwargs,
    )


def test_finds_phases_coupling_headings_and_the_map():
    groups, offsets, headings = site(1.15, {2: (0.3, -0.2)}, 1.04, 0.25, 0.05)
    fit, survey = learn(groups, prior=CalibrationPrior(phase_rad=0.1, emitter_m=0.5))
    np.testing.assert_allclose(fit.offset_rad, offsets - offsets.mean(), atol=0.03)
    assert fit.scale == pytest.approx(1.04, abs=0.01)
    np.testing.assert_allclose(fit.harmonic_rad, [0.25, 0.0], atol=0.02)
    assert fit.stretch == pytest.approx(1.15, abs=0.02)
    np.testing.assert_allclose(fit.emitter_shift_m[1], [0.3, -0.2], atol=0.15)
    # places are sorted by x, then y, as RECEIVERS_M is
    np.testing.assert_allclose(fit.heading_rad, headings, atol=0.02)
    assert survey.bearing_std_rad < 0.02


def test_scatter_of_bearings_is_that_of_the_phases():
    noise = 0.3
    groups, _, _ = site(1.0, {}, 1.0, 0.0, noise)
    survey = learn(groups).survey
    # each bearing: phase noise over the root of the sum of squared slopes, 2 pi r / lambda * sqrt(8 / 2)
    expected = noise / (2 * math.pi * RADIUS_M / WAVELENGTH_M * 2)
    assert survey.bearing_std_rad == pytest.approx(expected, rel=0.25)
    assert survey.stretch == pytest.approx(1.0, abs=0.04)


def test_zero_deviations_keep_what_is_ideal():
    groups, _, _ = site(1.2, {}, 1.0, 0.2, 0.05)
    fit = learn(groups, prior=CalibrationPrior(offset_rad=0, scale=0, harmonic_rad=0, stretch=0, emitter_m=0)).fit
    assert fit.stretch == fit.scale == 1
    assert not fit.offset_rad.any()
    assert len(fit.harmonic_rad) == 0
    assert not fit.emitter_shift_m.any()


def test_refuses_what_cannot_be_told():
    groups, _, _ = site(1.0, {}, 1.0, 0.0, 0.1)
    one = {k: v[::4] for k, v in groups.items()}
    with pytest.raises(EstimationError, match="hear at least two emitters at a place"):
        learn(one)
    with pytest.raises(ParamError, match="84 groups of 8 sensors"):
        calibrate_known_emitters(
            groups["response"], np.zeros((3, 2)), [0] * 84, groups["emitter"], POSITION_M, WAVELENGTH_M
        )

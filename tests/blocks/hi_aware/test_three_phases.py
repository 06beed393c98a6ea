"""The published method, piece by piece against closed forms and scipy, and as a whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares, minimize

from blocks.hi_aware.block_descent import block_descent
from blocks.hi_aware.coarse import associate, coarse_places, triangulate
from blocks.hi_aware.estimate import estimate_with_faults
from blocks.hi_aware.phase_over_time import phase_over_time
from blocks.hi_aware.reduce import reduce_by_pilots
from blocks.hi_aware.scene import Scene
from blocks.hi_aware.shrinkage import ista, penalty, shrink, shrink_blocks
from blocks.hi_aware.subarrays import partition, subarray_size
from blocks.hi_aware.three_phases import three_phases
from hil.errors import EstimationError
from tests.blocks.hi_aware.simulate import AZIMUTH_RAD, RANGE_M, dictionary, phase_faults, simulate


def least_squares_problem(rng, n=40):
    power = rng.uniform(50, 150, n)
    z = np.where(rng.uniform(size=n) < 0.2, 1.3 * np.exp(2j * np.pi * rng.uniform(size=n)), 0)
    noise = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    return power * (1 + z) + np.sqrt(power) * noise, power, z


@pytest.mark.parametrize("accelerate", [False, True])
def test_ista_reaches_the_closed_form(accelerate):
    cross, power, _ = least_squares_problem(np.random.default_rng(1))
    rho = 20.0
    mask = ista(cross, power, rho, accelerate=accelerate, tolerance=1e-12)
    np.testing.assert_allclose(mask.z, shrink(cross / power - 1, rho / power), atol=1e-10)


def test_ista_does_not_depend_on_the_scale_of_the_data():
    """[HI]'s fixed step would diverge or crawl."""
    cross, power, _ = least_squares_problem(np.random.default_rng(3))
    np.testing.assert_allclose(ista(1e6 * cross, 1e6 * power, 2e7).z, ista(cross, power, 20.0).z, atol=1e-9)


def test_block_sparse_is_the_minimum_that_scipy_finds():
    """Two blocks of two, powers alike: the group lasso with weights sqrt(2)."""
    rng = np.random.default_rng(4)
    power = np.full(4, 30.0)
    cross = power * (1 + np.array([1.0, -0.8j, 0.05, 0.02])) + rng.standard_normal(4)
    got = ista(cross, power, 6.0, block_size=2, tolerance=1e-12).z
    assert (got[2:] == 0).all()

    def cost(v):
        z = v[:2] + 1j * v[2:]
        return 0.5 * np.sum(power[:2] * np.abs(z - (cross / power - 1)[:2]) ** 2) + 6.0 * np.sqrt(2) * np.linalg.norm(z)

    found = minimize(
        cost, np.ones(4), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 10_000}
    ).x
    np.testing.assert_allclose(got[:2], found[:2] + 1j * found[2:], atol=1e-6)


@given(st.lists(st.complex_numbers(max_magnitude=10), min_size=1, max_size=8), st.floats(0, 5))
def test_shrinkage_keeps_the_phase_and_takes_from_the_size(z, threshold):
    out = shrink(np.array(z), threshold)
    np.testing.assert_allclose(np.abs(out), np.maximum(np.abs(z) - threshold, 0), atol=1e-9)
    assert (np.real(out * np.conj(z)) >= -1e-9).all()
    np.testing.assert_allclose(shrink_blocks(np.array(z), threshold, 1), out, atol=1e-9)


def test_the_penalty_leaves_intact_elements_alone():
    rng = np.random.default_rng(5)
    cross, power, z = least_squares_problem(rng, 2000)
    found = np.abs(ista(cross, power, penalty(cross, power, 2.0)).z) > 0
    assert np.count_nonzero(found & (z == 0)) <= 3
    assert np.count_nonzero(~found & (z != 0)) == 0


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.integers(2, 20), st.integers(1, 5))
def test_partition_is_intact_within_its_sizes_and_complete(faulty, max_size, min_size):
    flags = np.array(faulty)
    min_size = min(min_size, max_size)
    try:
        parts = partition(flags, max_size, min_size)
    except EstimationError:
        parts = []
    covered = np.zeros(len(flags), bool)
    for part in parts:
        assert min_size <= part.stop - part.start <= max_size
        assert not flags[part].any() and not covered[part].any()
        covered[part] = True
    if min_size == 1:
        np.testing.assert_array_equal(covered, ~flags)


def test_subarrays_of_the_paper():
    assert subarray_size(256) == 38  # 0.6 * 256^(3/4)
    with pytest.raises(EstimationError, match="no 4 neighbours are intact"):
        partition(np.tile([False, True], 20), 10, 4)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_subarrays_with_fewer_elements_than_targets_are_refused_and_the_joint_fit_needs_none(length):
    """Three targets, and no more than ``length`` neighbours intact."""
    rng = np.random.default_rng(10)
    faults = np.arange(0, 128, 4)
    case = simulate(rng, phase_faults(128, faults, rng), 20)
    parts = [slice(int(i) + 1, int(i) + 1 + length) for i in faults]
    with pytest.raises(EstimationError, match=r"0 of 32 subarrays show 3 targets.*longer subarrays"):
        coarse_places(case.y, Scene.of(dictionary(128)), parts, 3)
    found = estimate_with_faults(reduce_by_pilots(case.y, case.pilots), dictionary(128))
    np.testing.assert_allclose(found.places.azimuth_rad, AZIMUTH_RAD, atol=1e-3)
    np.testing.assert_array_equal(np.flatnonzero(found.kind), faults)


def test_triangulation_is_the_least_squares_of_distances_to_the_lines():
    rng = np.random.default_rng(6)
    p, bearing = rng.uniform(-1, 1, (5, 2)), rng.uniform(-0.5, 0.5, 5)

    def distances(v):
        return (v[0] - p[:, 0]) * np.cos(bearing) - (v[1] - p[:, 1]) * np.sin(bearing)

    np.testing.assert_allclose(triangulate(p, bearing), least_squares(distances, [0.0, 3.0], xtol=1e-15).x, rtol=1e-6)
    with pytest.raises(EstimationError, match="parallel"):
        triangulate(p, np.full(5, 0.1))


def test_association_follows_targets_whose_order_turns_along_the_array():
    """The near target is on the right as seen from the left end, on the left from the right end."""
    targets = np.array([[0.0, 2.0], [0.1, 6.0]])
    position = np.stack([np.linspace(-0.64, 0.64, 7), np.zeros(7)], axis=1)
    to = targets[None] - position[:, None]
    true = np.arctan2(to[..., 0], to[..., 1])
    associated = associate(position, np.sort(true, axis=1))
    assert not np.allclose(np.sort(true, axis=1), true[:, [0, 1]]) and not np.allclose(
        np.sort(true, axis=1), true[:, [1, 0]]
    )
    for column in associated.T:
        assert any(np.allclose(column, true[:, k]) for k in (0, 1))


def test_coarse_places_of_intact_subarrays():
    rng = np.random.default_rng(7)
    faulty = np.zeros(256, bool)
    faulty[[20, 90, 91, 200]] = True
    case = simulate(rng, phase_faults(256, np.flatnonzero(faulty), rng), 20)
    places = coarse_places(case.y, Scene.of(dictionary()), partition(faulty, 38, 4), 3)
    order = np.argsort(places.azimuth_rad)[np.argsort(np.argsort(AZIMUTH_RAD))]
    np.testing.assert_allclose(places.azimuth_rad[order], AZIMUTH_RAD, atol=5e-4)
    np.testing.assert_allclose(places.range_m[order], RANGE_M, rtol=0.02)


def test_phases_over_time_unwrap():
    """A phase next to pi: without unwrapping its mean would be near 0."""
    rng = np.random.default_rng(8)
    ideal = rng.standard_normal((2, 400)) + 1j * rng.standard_normal((2, 400))
    noise = 0.1 * np.abs(ideal) * (rng.standard_normal((2, 400)) + 1j * rng.standard_normal((2, 400)))
    true = np.array([3.1, -1.0])
    phase, variance = phase_over_time(ideal * np.exp(1j * true)[:, None] + noise, ideal)
    assert (np.abs(np.angle(np.exp(1j * (phase - true)))) < 4 * np.sqrt(variance)).all()
    np.testing.assert_allclose(variance, 0.1**2 / 400, rtol=0.3)


def test_the_three_phases():
    rng = np.random.default_rng(10)
    faulty = np.sort(rng.choice(256, 5, replace=False))
    case = simulate(rng, phase_faults(256, faulty, rng), 20)
    found = three_phases(case.y, case.pilots, Scene.of(dictionary()))
    assert found.faulty[faulty].all()
    assert found.faulty.sum() <= len(faulty) + 2  # the penalty lets one intact element through every few frames
    assert np.abs(found.coefficient - case.coefficient).max() < 0.2
    # the cubic part of the exact wavefront turns the anti-diagonal by up to 6e-4 rad at these ranges
    np.testing.assert_allclose(found.fine.azimuth_rad, AZIMUTH_RAD, atol=8e-4)
    np.testing.assert_allclose(found.fine.range_m, RANGE_M, rtol=0.01)


def test_block_descent_gets_stuck_where_the_paper_says():
    """[HI] Example 1: a near target ends far away, though its angle errs by little."""
    rng = np.random.default_rng(11)
    case = simulate(rng, phase_faults(256, [30, 77], rng), 20)
    places, _ = block_descent(reduce_by_pilots(case.y, case.pilots), Scene.of(dictionary()))
    assert np.abs(places.azimuth_rad - AZIMUTH_RAD).max() < 0.1
    assert np.abs(places.range_m - RANGE_M).max() > 1

import numpy as np
import pytest

from hil.array import ArrayGeometry
from sim_device.impairments import Faults, Mismatch, fault_response, faulty_elements, injected_factor, mismatch_response

LINE = ArrayGeometry.ula(4096, 0.03).position_m
PLANE = ArrayGeometry.ura(32, 32, 0.03).position_m


def test_no_mismatch_is_exactly_one():
    np.testing.assert_array_equal(mismatch_response(Mismatch(), 8, 3), np.ones(8))


def test_mismatch_has_the_spread_asked_for():
    response = mismatch_response(Mismatch(gain_std_db=1.5, phase_std_rad=0.2), 4096, 3)
    # the standard deviation of 4096 normals is known to 1.1 %: 4 sigma
    assert np.std(20 * np.log10(np.abs(response))) == pytest.approx(1.5, rel=0.045)
    assert np.std(np.angle(response)) == pytest.approx(0.2, rel=0.045)


def test_bernoulli_phase_faults_have_the_rate_and_unit_modulus():
    response = fault_response((Faults(kind="phase", probability=0.1),), LINE, 7)
    faulty = response != 1
    assert faulty.sum() == pytest.approx(409.6, abs=4 * np.sqrt(4096 * 0.1 * 0.9))
    np.testing.assert_allclose(np.abs(response), 1, atol=1e-12)
    quadrant = np.histogram(np.angle(response[faulty]), 4, (-np.pi, np.pi))[0]
    assert quadrant.min() > 60  # about 102 each, sd 9


def test_dead_and_gain_faults():
    assert set(fault_response((Faults(kind="dead", probability=0.5),), LINE, 7).tolist()) == {0, 1}
    response = fault_response((Faults(kind="gain", probability=1.0, gain_db=-20.0),), LINE, 7)
    np.testing.assert_allclose(response, 0.1)


def test_draws_multiply_and_are_independent():
    both = fault_response((Faults(kind="dead", probability=0.3), Faults(kind="phase", probability=0.3)), LINE, 7)
    dead = fault_response((Faults(kind="dead", probability=0.3),), LINE, 7)
    np.testing.assert_array_equal(both == 0, dead == 0)
    phase = (both != 1) & (both != 0)
    assert phase.sum() == pytest.approx(4096 * 0.7 * 0.3, abs=5 * np.sqrt(4096 * 0.21 * 0.79))


@pytest.mark.parametrize("cluster_size", [2, 5, 9])
def test_clusters_fail_as_neighbourhoods_of_the_plane(cluster_size):
    fault = Faults(kind="dead", probability=0.1, cluster_size=cluster_size)
    faulty = faulty_elements(fault, PLANE, np.random.default_rng(1))
    assert faulty.sum() == round(0.1 * 1024)
    position = PLANE[faulty]
    apart = np.linalg.norm(position[:, None] - position[None], axis=-1) + np.eye(len(position))
    # all but the one of a last cluster that was cut short have a neighbour a spacing (or a diagonal) away
    assert np.mean(apart.min(axis=-1) < 0.03 * 1.5) > 0.97


def test_clusters_of_a_line_are_longer_runs_than_independent_faults():
    def runs(cluster_size):
        fault = Faults(kind="dead", probability=0.1, cluster_size=cluster_size)
        faulty = faulty_elements(fault, LINE, np.random.default_rng(1)).astype(int)
        return faulty.sum() / np.count_nonzero(np.diff(faulty, prepend=0) == 1)

    assert runs(1) == pytest.approx(1 / 0.9, rel=0.1)  # geometric
    assert runs(8) > 7


def test_all_fail_at_probability_one_and_none_at_zero():
    for size in (1, 3):
        every = faulty_elements(
            Faults(kind="dead", probability=1.0, cluster_size=size), PLANE, np.random.default_rng(0)
        )
        none = faulty_elements(Faults(kind="dead", probability=0.0, cluster_size=size), PLANE, np.random.default_rng(0))
        assert every.all()
        assert not none.any()


def test_injected_faults():
    assert injected_factor("phase", 3, 0.5, 0.0, 1) == pytest.approx(np.exp(0.5j))
    assert injected_factor("dead", 3, None, 0.0, 1) == 0
    assert injected_factor("gain", 3, None, -6.0, 1) == pytest.approx(10 ** (-6 / 20))
    drawn = injected_factor("phase", 3, None, 0.0, 1)
    assert drawn == injected_factor("phase", 3, None, 0.0, 1)
    assert len({drawn, injected_factor("phase", 4, None, 0.0, 1), injected_factor("phase", 3, None, 0.0, 2)}) == 3


def test_seed_decides():
    fault = (Faults(kind="phase", probability=0.1),)
    np.testing.assert_array_equal(fault_response(fault, LINE, 7), fault_response(fault, LINE, 7))
    assert np.any(fault_response(fault, LINE, 7) != fault_response(fault, LINE, 8))

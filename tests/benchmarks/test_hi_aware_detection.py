"""The largest F1 that there can be, where it is known."""

import numpy as np
import pytest

from benchmarks.hi_aware import WAVELENGTH_M, Point, f1
from benchmarks.hi_aware_detection import (
    counts_of_largest_f1,
    fault_log_odds,
    limit_counts,
    small_fault_delays,
    stream_counts,
)
from blocks.hi_aware.scene import Scene
from blocks.subspace.dictionary import steering_dictionary
from hil.array import ArrayGeometry

DICTIONARY = steering_dictionary(ArrayGeometry.ula(64, WAVELENGTH_M / 2), WAVELENGTH_M, amplitude=False)


def test_where_nothing_is_seen_all_are_named():
    """Of elements faulty with probability p, naming all has precision p and recall 1: F1 = 2 p / (1 + p)."""
    counts = limit_counts(Point(n=64, snr_db=-80, p_fault=0.2), Scene.of(DICTIONARY), 1, 400, np.random.default_rng(0))
    assert f1(counts) == pytest.approx(2 * 0.2 / 1.2, abs=0.01)


def test_the_threshold_is_half_of_the_f1_reached():
    rng = np.random.default_rng(1)
    faulty = rng.uniform(size=(2000, 64)) < 0.1
    c = np.where(faulty, np.exp(2j * np.pi * rng.uniform(size=faulty.shape)), 1)
    w = (rng.standard_normal(c.shape) + 1j * rng.standard_normal(c.shape)) / np.sqrt(2)
    posterior = 1 / (1 + np.exp(-fault_log_odds(10 * c + np.sqrt(10) * w, 1.0, 0.1)))
    best = counts_of_largest_f1(posterior, faulty)
    said = posterior >= f1(best) / 2
    at_half = np.stack([(said & faulty).sum(1), (said & ~faulty).sum(1), (~said & faulty).sum(1)], axis=1)
    assert f1(at_half) == pytest.approx(f1(best), abs=2e-3)
    assert f1(best) >= f1(at_half)


def test_best_threshold_by_hand():
    """Naming the first is F1 = 2/3, the first two 1/2, the first three 4/5."""
    counts = counts_of_largest_f1(np.array([[4.0, 3.0], [2.0, 1.0]]), np.array([[True, False], [True, False]]))
    assert counts.tolist() == [[1, 1, 0], [1, 0, 0]]


def test_on_a_stream_faults_are_seen_better_with_time():
    rng = np.random.default_rng(2)
    counts = np.array([stream_counts(Point(n=64, snr_db=5, p_fault=0.05), DICTIONARY, 4, rng) for _ in range(25)])
    assert counts.sum(axis=2).min() >= 0
    assert f1(counts[:, 3]) > f1(counts[:, 0])


def test_a_large_fault_is_in_the_map_at_once_and_one_of_nothing_never():
    rng = np.random.default_rng(3)
    assert small_fault_delays(0.3, DICTIONARY, rng, n_before=4, n_faulty=3) == ([1] * 4, [1] * 4)
    assert small_fault_delays(0.0, DICTIONARY, rng, n_before=4, n_faulty=3) == ([3] * 4, [1] * 4)

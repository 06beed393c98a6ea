import random

import numpy as np
import pytest

from blocks.switched_array.offset_tracker import OffsetTracker, track_offsets
from hil.errors import ParamError


def test_follows_a_drift_and_is_not_moved_by_wild_packets():
    rng = random.Random(1)
    n = 400
    time = np.arange(n) * 0.2
    true = 0.3 + 0.0004 * time
    seen = np.array([t + rng.gauss(0, 0.005) for t in true])
    wild = np.array([rng.random() < 0.15 for _ in range(n)])
    seen[wild] += np.array([rng.choice([-0.78, 0.78]) for _ in range(n)])[wild]
    mean, std = track_offsets(np.ones(n, int), time, seen, np.full(n, 0.005))
    assert np.isnan(mean[:7]).all()
    assert np.isinf(std[:7]).all()
    assert np.abs(mean[20:] - true[20:]).max() < 0.02
    assert (std[20:] < 0.05).all()


def test_each_emitter_has_its_own():
    emitter = np.tile([1, 2], 30)
    offset = np.where(emitter == 1, 0.2, 0.5)
    mean, _ = track_offsets(emitter, np.arange(60) * 0.1, offset, np.full(60, 0.01))
    np.testing.assert_allclose(mean[20:], offset[20:], atol=1e-6)


def test_starts_anew_after_a_lasting_jump():
    tracker = OffsetTracker(n_start=5)
    for k in range(20):
        tracker.update(0.1 * k, 0.2, 0.005)
    assert not tracker.update(2.0, 0.6, 0.005)
    for k in range(5):
        tracker.update(2.1 + 0.1 * k, 0.6, 0.005)
    assert tracker.predict(3.0).mean_rad == pytest.approx(0.6)


def test_uncertainty_grows_with_time_but_not_when_the_clock_goes_back():
    tracker = OffsetTracker(n_start=1)
    tracker.update(10.0, 0.2, 0.005)
    assert tracker.predict(1000.0).std_rad > tracker.predict(10.0).std_rad
    assert tracker.predict(0.0).std_rad == tracker.predict(10.0).std_rad == tracker.predict(None).std_rad


def test_refuses_bad_settings():
    with pytest.raises(ParamError, match="n_start >= 1"):
        OffsetTracker(n_start=0)

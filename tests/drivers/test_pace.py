"""Losses of devices that number nothing, against a clock that the test keeps."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from drivers.pace import SHORTEST_S, Pace

FRAME_S = 0.01


def told(arrivals: Iterable[tuple[float, float]]) -> list[float]:
    """What a new one tells of ``(came_s, now_s)``."""
    pace = Pace()
    return [missing_s for came_s, now_s in arrivals if (missing_s := pace.missing_s(came_s, now_s)) is not None]


def stream(n: int, late_s: float = 0.002, seed: int = 1) -> list[tuple[float, float]]:
    """Frames that come up to ``late_s`` after their last sample."""
    rng = random.Random(seed)
    return [(i * FRAME_S, i * FRAME_S + rng.uniform(0, late_s)) for i in range(1, n)]


def test_a_device_that_loses_nothing_tells_nothing() -> None:
    assert told(stream(3000)) == []


def test_a_loss_is_told_once_and_how_long_it_was() -> None:
    frames = stream(1000)
    lost = [(came_s, now_s + 0.3 * (i > 400)) for i, (came_s, now_s) in enumerate(frames)]
    assert told(lost) == [pytest.approx(0.3, abs=0.005)]


def test_a_pause_in_which_samples_are_lost_is_told() -> None:
    before = stream(300)
    after = [(came_s, now_s + 1.5) for came_s, now_s in stream(900)[300:]]
    assert told(before + after) == [pytest.approx(1.5, abs=0.005)]


def test_a_queue_that_fills_and_empties_is_no_loss() -> None:
    frames = [(came_s, max(now_s, 3.8) if 3.0 < now_s < 3.8 else now_s) for came_s, now_s in stream(1000)]
    assert told(frames) == []


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 20.0])
def test_a_device_that_keeps_no_time_tells_nothing(speed: float) -> None:
    assert told((came_s, now_s / speed) for came_s, now_s in stream(5000)) == []


def test_what_is_shorter_than_it_can_see_is_not_told() -> None:
    frames = [(came_s, now_s + 0.5 * SHORTEST_S * (came_s > 4)) for came_s, now_s in stream(1000)]
    assert told(frames) == []

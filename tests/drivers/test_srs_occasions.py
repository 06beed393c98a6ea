"""Accounts of occasions: frame numbers that wrap, periods that are learnt, antennas that are the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.srs_occasions import FrameClock, Occasions, same_antennas


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(-2, 2)), max_size=30), st.integers(0, 1023))
def test_frames_are_counted_through_any_number_of_cycles(steps: list[tuple[int, float]], first: int) -> None:
    clock, count = FrameClock(1024, 0.01), first
    assert clock.unwrap(first, 100.0) == first
    for step, off_s in steps:
        count += step
        # the host's clock need be right from one to the next to half a cycle only, 5.12 s
        assert clock.unwrap(count % 1024, 100.0 + (count - first) * 0.01 + off_s) == count


def test_two_terminals_out_of_turn_do_not_upset_the_clock() -> None:
    clock = FrameClock(1024, 0.01)
    assert [clock.unwrap(p, t) for p, t in ((1020, 0.0), (2, 0.06), (1023, 0.061), (5, 0.09))] == [
        1020,
        1026,
        1023,
        1029,
    ]


@pytest.mark.parametrize(
    ("place", "now_s", "follows"),
    [(1020, 0.0, True), (4, 0.08, True), (4, 0.6, True), (20, 0.08, False), (500, 3.0, False), (1000, 10.04, True)],
)
def test_places_of_a_source_that_was_started_anew_do_not_follow(place: int, now_s: float, follows: bool) -> None:
    clock = FrameClock(1024, 0.01)
    assert clock.follows(5, 0.0, 0.1, 0.7)  # nothing is known
    clock.unwrap(1020, 0.0)
    assert clock.follows(place, now_s, 0.1, 0.7) is follows


def test_one_that_was_kept_while_its_sender_stalled_follows_and_so_do_those_behind_it() -> None:
    """The last one came at 0 s; the sender holds the next one for 3 s and goes on with those that are due then."""
    clock = FrameClock(1024, 0.01)
    clock.unwrap(1020, 0.0)
    assert clock.follows(0, 3.0, 0.1, 0.7)
    assert clock.unwrap(0, 3.0) == 1024
    for late_s in (0.0, 0.05, 0.1, 0.6):
        place = (1020 + 301) % 1024
        assert clock.follows(place, 3.01 + late_s, 0.1, 0.7)
    assert clock.follows(4, 3.001, 0.1, 0.7)  # there were more of them
    assert not clock.follows(4, 3.04, 0.1, 0.7)  # it began there anew after all


def test_a_delay_that_stays_is_learnt() -> None:
    clock = FrameClock(1024, 0.01)
    clock.unwrap(0, 0.0)
    for n in range(1, 500):
        assert clock.follows(n % 1024, n * 0.01 + 0.5, 0.1, 0.7)
        assert clock.unwrap(n % 1024, n * 0.01 + 0.5) == n
    assert not clock.follows(500, 5.0, 0.1, 0.45)
    assert clock.follows(500, 5.5 + 0.65, 0.1, 0.7)


def test_with_a_given_period_each_missing_occasion_is_counted() -> None:
    occasions = Occasions(8)
    assert [occasions.missed(1, p) for p in (0, 8, 24, 32, 56)] == [0, 0, 1, 0, 2]
    assert occasions.missed(1, 59) == 0  # given anew: no multiple
    assert occasions.missed(2, 100) == 0


def test_a_period_is_learnt_from_three_like_steps() -> None:
    occasions = Occasions(None)
    assert [occasions.missed(1, p) for p in (0, 16, 24, 32, 48, 64)] == [0, 0, 0, 0, 0, 0]
    occasions = Occasions(None)
    assert [occasions.missed(1, p) for p in (0, 8, 16, 24, 40, 48, 80)] == [0, 0, 0, 0, 1, 0, 3]


def test_a_period_that_became_shorter_is_learnt_anew() -> None:
    occasions = Occasions(None)
    for place in range(0, 80, 16):
        assert occasions.missed(1, place) == 0
    assert [occasions.missed(1, p) for p in (72, 80, 88, 104)] == [0, 0, 0, 1]


def test_the_same_values_on_two_antennas_are_found() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(-99, 99, (6, 300, 2)).astype(np.int16)
    assert same_antennas(values) == []
    values[4] = values[1]
    values[5] = values[0]
    assert same_antennas(values) == [[0, 5], [1, 4]]
    values[5, 7] += 1  # nearly the same is not the same
    assert same_antennas(values) == [[1, 4]]
    assert same_antennas(np.zeros_like(values)) == []


@pytest.mark.parametrize("n", (1, 5, 31, 33))
def test_few_subcarriers_are_compared_too(n: int) -> None:
    values = np.ones((3, n, 2), np.int16)
    values[1, -1] = 2
    assert same_antennas(values) == [[0, 2]]

"""Pieces of any length to frames: nothing is lost, nothing is made up, channels stay side by side."""

import random

import numpy as np

from drivers.sample_joiner import Piece, SampleJoiner


def piece(start, stop, channels=(0,)):
    item = np.arange(start, stop)
    return Piece(start, (item + 1j * np.array(channels)[:, None]).astype(np.complex64))


def joiner(n_feeds=1, per_feed=1, n_samples=10):
    return SampleJoiner(n_feeds, per_feed, n_samples, np.dtype(np.complex64))


def drained(j, until=None):
    out = []
    while (joined := j.take(until)) is not None:
        out.append(joined)
    return out


def test_pieces_of_any_length_give_the_same_frames():
    rng = random.Random(1)
    for _ in range(50):
        j, frames, places = joiner(2, 2), [], [0, 0]
        while min(places) < 60:
            feed = rng.randrange(2)
            n = rng.randint(1, 17)
            j.put(feed, piece(places[feed], places[feed] + n, (2 * feed, 2 * feed + 1)))
            places[feed] += n
            frames += drained(j)
        assert [f.item for f in frames] == [10 * i for i in range(len(frames))] and len(frames) >= 6
        for f in frames:
            assert f.missing == 0 and f.samples.flags.c_contiguous
            np.testing.assert_array_equal(f.samples, piece(f.item, f.item + 10, (0, 1, 2, 3)).samples)


def test_what_is_missing_makes_a_short_frame_and_is_counted():
    j = joiner()
    j.put(0, piece(0, 14))
    j.put(0, piece(20, 35))
    frames = drained(j)
    assert [(f.item, f.missing, f.samples.shape[1]) for f in frames] == [(0, 0, 10), (10, 0, 4), (20, 6, 10)]
    last = j.flush()
    assert (last.item, last.missing, last.samples.shape[1]) == (30, 0, 5)
    assert j.flush() is None


def test_what_one_feed_lacks_is_missing_in_all():
    j = joiner(2)
    j.put(0, piece(0, 40))
    j.put(1, piece(5, 12))  # it was heard later
    j.put(1, piece(15, 40))
    frames = drained(j)
    assert [(f.item, f.missing, f.samples.shape[1]) for f in frames] == [(5, 0, 7), (15, 3, 10), (25, 0, 10)]
    assert all((f.samples[0] == f.samples[1]).all() for f in frames)


def test_items_that_wait_for_others_are_counted():
    j = joiner(2)
    j.put(0, piece(0, 25))
    assert drained(j) == [] and (j.n_waiting(0), j.n_waiting(1)) == (25, 0)
    j.put(1, piece(0, 12))
    assert len(drained(j)) == 1 and (j.n_waiting(0), j.n_waiting(1)) == (13, 0)


def test_a_border_is_stopped_at():
    j = joiner()
    j.put(0, piece(0, 30))
    assert [f.item for f in drained(j, until=17)] == [0]
    assert j.next_item == 17
    assert j.flush().samples.shape[1] == 7
    assert [(f.item, f.missing) for f in drained(j)] == [(17, 0)]

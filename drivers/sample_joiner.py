"""Pieces of a stream, from one or several sockets, to frames of all channels: side by side by their count of items."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from hil.frame import AnyArray


class Piece(NamedTuple):
    """Items that follow one another.

    Attributes:
        item: Count of the first.
        samples: ``[channel, item]``, a view of what came.
    """

    item: int
    samples: AnyArray


class Joined(NamedTuple):
    """Items of all channels.

    Attributes:
        item: Count of the first.
        missing: Items that are missing before it.
        samples: ``[channel, item]``, contiguous, memory of its own.
    """

    item: int
    missing: int
    samples: AnyArray


class SampleJoiner:
    """Collects pieces; gives arrays of ``n_samples`` items, and shorter ones where items are missing.

    Items that one feed has and another has not are missing: a frame has all channels or is not.

    Args:
        n_feeds: Where pieces come from.
        channels_per_feed: Each, or one number for all of them.
        n_samples: Items in a frame.
        dtype: Of the items.
    """

    def __init__(
        self, n_feeds: int, channels_per_feed: int | Sequence[int], n_samples: int, dtype: np.dtype[np.generic]
    ) -> None:
        counts = [channels_per_feed] * n_feeds if isinstance(channels_per_feed, int) else channels_per_feed
        self._rows = [0, *accumulate(counts)]
        self._n_samples, self._dtype = n_samples, dtype
        self._pieces: list[deque[Piece]] = [deque() for _ in range(n_feeds)]
        self._n_waiting = [0] * n_feeds
        self.next_item: int | None = None
        self._missing = 0
        self._first = self._filled = 0
        self._frame = self._new()

    def put(self, feed: int, piece: Piece) -> None:
        """Take a piece that follows the last of its feed, or comes after what is missing."""
        if piece.samples.shape[1]:
            self._pieces[feed].append(piece)
            self._n_waiting[feed] += piece.samples.shape[1]

    def n_waiting(self, feed: int) -> int:
        """Items of a feed that wait for the other feeds."""
        return self._n_waiting[feed]

    def take(self, until: int | None = None) -> Joined | None:
        """The next whole frame, or a shorter one before missing items; ``None``: not yet, or ``next_item`` has come to
        ``until`` (what is there before it waits for :meth:`flush`, or for more)."""
        while True:
            self._drop_unmatched()
            if not all(self._pieces):
                return None
            start = max(pieces[0].item for pieces in self._pieces)
            if self.next_item is not None and start > self.next_item and self._filled:
                return self.flush()  # what is there goes out before what is missing is told
            if self.next_item is not None:
                self._missing += start - self.next_item
            if not self._filled:
                self._first = start
            self.next_item = start
            if until is not None and start >= until:
                return None
            n = min(
                self._n_samples - self._filled,
                *(p[0].item + p[0].samples.shape[1] - start for p in self._pieces),
                *([] if until is None else [until - start]),
            )
            self._copy(start, n)
            if self._filled == self._n_samples:
                return self.flush()

    def flush(self) -> Joined | None:
        """What is there of a frame that is not whole."""
        if not self._filled:
            return None
        whole = self._filled == self._n_samples
        samples = self._frame if whole else np.ascontiguousarray(self._frame[:, : self._filled])
        joined = Joined(self._first, self._missing, samples)
        self._missing, self._filled = 0, 0
        self._frame = self._new()
        return joined

    def _new(self) -> AnyArray:
        return np.empty((self._rows[-1], self._n_samples), self._dtype)

    def _drop_unmatched(self) -> None:
        """Let go of items before the first that all feeds may still have."""
        if not all(self._pieces):
            return
        start = max([p[0].item for p in self._pieces] + ([] if self.next_item is None else [self.next_item]))
        for feed in range(len(self._pieces)):
            self._skip(feed, start)

    def _skip(self, feed: int, item: int) -> None:
        pieces = self._pieces[feed]
        while pieces and pieces[0].item < item:
            first, samples = pieces.popleft()
            n = min(item - first, samples.shape[1])
            self._n_waiting[feed] -= n
            if n < samples.shape[1]:
                pieces.appendleft(Piece(first + n, samples[:, n:]))

    def _copy(self, start: int, n: int) -> None:
        for feed, pieces in enumerate(self._pieces):
            rows = slice(self._rows[feed], self._rows[feed + 1])
            self._frame[rows, self._filled : self._filled + n] = pieces[0].samples[:, :n]
            self._skip(feed, start + n)
        self._filled += n
        self.next_item = start + n

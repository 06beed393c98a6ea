"""Whether a device that numbers nothing has lost samples: what came, against the host's clock."""

from __future__ import annotations

from collections import deque

#: Arrivals are looked at by so much time: the earliest of them says how far the count is behind.
_WINDOW_S = 0.5
#: A shorter loss is not told from the jitter of a busy host.
SHORTEST_S = 0.05
#: The count keeps pace with the clock where it goes as fast to this part of a window.
_ON_PACE_S = 0.02


class Pace:
    """Follows how far the samples that came are behind the clock.

    A queue that fills and empties again moves that for a while, a loss for good. A loss is told where the count kept
    pace for two windows before it and does so again behind it: a device that is read faster or slower than its rate
    says (a simulated one that keeps no time, a rate that was declared wrong) tells nothing.
    """

    def __init__(self) -> None:
        self._lowest: deque[float] = deque(maxlen=4)
        self._now_lowest = float("inf")
        self._ends_s: float | None = None

    def missing_s(self, came_s: float, now_s: float) -> float | None:
        """Take an arrival; return how long what was lost lasts, once a loss is certain.

        Args:
            came_s: How long all samples last that have come so far, this frame included.
            now_s: A clock that only goes forward.
        """
        if self._ends_s is None:
            self._ends_s = now_s + _WINDOW_S
        told = None
        if now_s > self._ends_s:
            self._lowest.append(self._now_lowest)
            self._now_lowest, self._ends_s = float("inf"), now_s + _WINDOW_S
            told = self._told()
        self._now_lowest = min(self._now_lowest, now_s - came_s)
        return told

    def _told(self) -> float | None:
        if len(self._lowest) < 4:
            return None
        first, before, behind, last = self._lowest
        steady = abs(before - first) < _ON_PACE_S and abs(last - behind) < _ON_PACE_S
        lost_s = last - before
        return lost_s if steady and lost_s > SHORTEST_S else None

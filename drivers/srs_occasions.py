"""Accounts of sounding occasions: when each terminal should have been heard, which it was not, and since when.

System frame numbers begin anew every 10.24 s; the host's clock tells how often they did.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: So many like steps make the period of a terminal known.
_STEPS_TO_KNOW = 3
#: A base station's log is behind the air by less; beyond it its clock has been moved.
CLOCK_TOLERANCE_S = 0.1
#: So much of the delay of a message that was kept somewhere is taken for the base station's own.
_LEARNT_DELAY = 0.01


class _Seen(NamedTuple):
    place: int
    period: int | None
    n_like: int


class FrameClock:
    """Unwraps places in the cycle of frames.

    Args:
        cycle: Places in a cycle: 1024 frames, or the slots in them.
        place_s: Seconds of a place.
    """

    def __init__(self, cycle: int, place_s: float) -> None:
        self.cycle, self.place_s = cycle, place_s
        self._last: tuple[int, float] | None = None  # a place, and when it was due
        self._heard_s = 0.0
        self._kept = False

    def follows(self, place: int, now_s: float, early_s: float, late_s: float) -> bool:
        """Whether ``place`` is where the numbering should be by now; a source that was started anew is elsewhere.

        What goes on where it was, however long that is ago, was kept: what a stalled sender had in hand. More of it
        comes faster than it is numbered, or it is a source that was started anew just there.

        Args:
            place: In the cycle.
            now_s: As for :meth:`unwrap`.
            early_s: It may be ahead of the clock by so much.
            late_s: And so much behind, as what comes was kept somewhere.
        """
        if self._last is None:
            return True
        last, last_s = self._last
        step_s = self._around(place - last) * self.place_s
        ahead_s = self._around(place - last - (now_s - last_s) / self.place_s) * self.place_s
        if -late_s <= ahead_s <= early_s:
            return True
        silent_s = now_s - self._heard_s
        return 0 <= step_s <= late_s and (silent_s < step_s / 2 if self._kept else silent_s > late_s)

    def unwrap(self, place: int, now_s: float) -> int:
        """Return the place counted on from the first one.

        Args:
            place: In the cycle.
            now_s: A clock that is right to half a cycle.
        """
        if self._last is None:
            self._last, self._heard_s = (place, now_s), now_s
            return place
        last, last_s = self._last
        step = (place - last + self.cycle // 2) % self.cycle - self.cycle // 2
        ran = (now_s - last_s) / self.place_s
        count = last + step + round((ran - step) / self.cycle) * self.cycle
        if count >= last:
            due_s = last_s + (count - last) * self.place_s
            late_s = now_s - due_s
            self._kept, self._heard_s = late_s > CLOCK_TOLERANCE_S, now_s
            # one that was kept says little of when the next one is due
            self._last = count, due_s + _LEARNT_DELAY * late_s if self._kept else now_s
        return count

    def _around(self, places: float) -> float:
        """Within half a cycle of 0."""
        return (places + self.cycle / 2) % self.cycle - self.cycle / 2


class Occasions:
    """Counts what each terminal's numbering shows to be missing.

    Args:
        period: Places between occasions of a terminal; ``None``: the smallest step, once it was seen three times.
    """

    def __init__(self, period: int | None) -> None:
        self._period = period
        self._seen: dict[int, _Seen] = {}

    def missed(self, rnti: int, place: int) -> int:
        """Occasions of ``rnti`` between its last one and the one at ``place``, as far as its period is known.

        A step that is no multiple of the period tells nothing: the resource was given anew.
        """
        seen = self._seen.get(rnti)
        step = 0 if seen is None else place - seen.place
        if seen is None or step <= 0:
            self._seen[rnti] = _Seen(place, self._period, 0) if seen is None else seen
            return 0
        if self._period is not None:
            self._seen[rnti] = _Seen(place, self._period, 0)
            return step // self._period - 1 if step % self._period == 0 else 0
        period, n_like = seen.period, seen.n_like
        if period is None or step < period or (step % period and n_like < _STEPS_TO_KNOW):
            period, n_like = step, 1
        elif step == period:
            n_like += 1
        elif step % period:
            period, n_like = None, 0
        self._seen[rnti] = _Seen(place, period, n_like)
        known = period is not None and n_like >= _STEPS_TO_KNOW
        return step // period - 1 if known and period is not None else 0

    def forget(self) -> None:
        """Begin anew, after the source did."""
        self._seen.clear()


def same_antennas(values: npt.NDArray[Any]) -> list[list[int]]:
    """Groups of antennas with the same values, of ``[sensor, subcarrier, component]``; silent ones are not meant."""
    # one subcarrier tells nearly always that all differ
    if len(set(map(tuple, values[:, values.shape[1] // 2].tolist()))) == len(values):
        return []
    groups: dict[bytes, list[int]] = {}
    for antenna, row in enumerate(values):
        groups.setdefault(row[:: max(1, len(row) // 32)].tobytes(), []).append(antenna)
    out = []
    for group in groups.values():
        rest = group
        while len(rest) > 1:
            alike = [a for a in rest if np.array_equal(values[a], values[rest[0]])]
            if len(alike) > 1 and values[rest[0]].any():
                out.append(alike)
            rest = [a for a in rest if a not in alike]
    return sorted(out)

"""Training, validation and test that share no place, from what was recorded while sources moved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]

#: What :func:`split_time` gives what lies in a gap.
GAP = -1


def split_time(time_s: F64, shares: Sequence[float], rounds: int, gap_s: float) -> npt.NDArray[np.int64]:
    """Which part each time belongs to, ``[time]``, :data:`GAP` for those between two parts.

    The time from first to last is cut into ``rounds`` equal pieces and each of these, in order, into parts that last as
    ``shares`` says. Times of different parts are at least ``gap_s`` apart.

    Args:
        time_s: At least one.
        shares: Of each part, at least 0 and one of them above; need not sum to 1.
        rounds: At least 1.
        gap_s: Seconds.

    Raises:
        ParamError: A part would have no time left behind its gaps.
    """
    time_s = np.asarray(time_s, dtype=np.float64)
    active = [i for i, share in enumerate(shares) if share > 0]
    if len(active) == 1:
        return np.full(len(time_s), active[0])
    begin, round_s = time_s.min(), np.ptp(time_s) / rounds
    lasts_s = np.array([shares[i] for i in active]) / sum(shares) * round_s
    if lasts_s.min() <= gap_s:
        raise ParamError(
            f"a recording of {np.ptp(time_s):.3g} s, cut in {rounds} rounds, has parts of {lasts_s.min():.3g} s, and "
            f"{gap_s:g} s are lost between them: record longer, or set fewer data.rounds or a shorter data.gap_s"
        )
    edge_s = begin + np.append(0.0, np.cumsum(np.tile(lasts_s, rounds)))[1:-1]
    part = np.searchsorted(edge_s, time_s, side="right")
    near = np.abs(time_s[:, None] - edge_s).min(axis=1) < gap_s / 2
    return np.where(near, GAP, np.array(active)[part % len(active)])


def same_place(
    places: Sequence[tuple[tuple[int, ...], F64]], others: Sequence[tuple[tuple[int, ...], F64]], apart_m: float
) -> npt.NDArray[np.bool_]:
    """Which of ``places`` are also among ``others``: the same sources, each within ``apart_m`` along x, y and z.

    Args:
        places: Names of the sources and their positions ``[source, xyz]`` m.
        others: The same.
        apart_m: Metres; 0: only what is exactly the same.
    """
    shared = np.zeros(len(places), dtype=bool)
    rows: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, (ids, _) in enumerate(places):
        rows[ids].append(row)
    known: dict[tuple[int, ...], list[F64]] = defaultdict(list)
    for ids, position_m in others:
        known[ids].append(position_m.ravel())
    for ids, chosen in rows.items():
        if ids in known:
            at = np.array([places[row][1].ravel() for row in chosen])
            # what is as far as the bound itself is not found
            bound_m = np.nextafter(apart_m, np.inf)
            distance_m, _ = KDTree(np.array(known[ids])).query(at, p=np.inf, distance_upper_bound=bound_m)
            shared[chosen] = np.isfinite(distance_m)
    return shared

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.neural.place_splits import GAP, same_place, split_time
from hil.errors import ParamError


@given(st.integers(1, 6), st.floats(0, 0.3), st.integers(200, 900), st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0, 0.5)]))
def test_parts_are_whole_blocks_of_time_with_gaps_between(rounds, gap_s, n, shares):
    """By plain loops over neighbours: the order of parts repeats, and no two parts are closer than the gap."""
    time_s = np.arange(n) * 0.1 + 3.0
    part = split_time(time_s, shares, rounds, gap_s)
    kept = [(t, p) for t, p in zip(time_s.tolist(), part.tolist(), strict=True) if p != GAP]
    changes = [(a, b) for a, b in pairwise(kept) if a[1] != b[1]]
    active = [i for i, s in enumerate(shares) if s]
    assert [b[1] for _, b in changes] == (active * rounds)[1:]
    assert all(b[0] - a[0] >= gap_s - 1e-9 for a, b in changes)
    for i, share in enumerate(shares):
        assert np.sum(part == i) == pytest.approx(share * n, abs=rounds * (gap_s / 0.1 + 2))


def test_a_part_alone_has_all_the_time_and_no_gaps():
    assert set(split_time(np.arange(5.0), (0, 0, 1), 4, 10.0)) == {2}
    assert set(split_time(np.zeros(1), (1, 0, 0), 4, 10.0)) == {0}


def test_too_short_a_recording_is_refused_with_what_to_change():
    with pytest.raises(ParamError, match=r"of 2 s, cut in 4 rounds, has parts of 0.075 s, and 0.2 s .*data.rounds"):
        split_time(np.linspace(0, 2, 50), (0.7, 0.15, 0.15), 4, 0.2)
    with pytest.raises(ParamError, match="record longer"):
        split_time(np.zeros(3), (0.5, 0.5), 1, 0.0)


def test_a_place_is_the_same_where_all_its_sources_are_close():
    a, b = np.array([[0.0, 5, 0], [2, 7, 0]]), np.array([[0.0, 5, 0], [2, 7.3, 0]])
    mine = [((1, 2), a), ((1, 2), b), ((1,), a[:1]), ((1, 3), a)]
    others = [((1, 2), a + 0.1), ((1,), a[:1] + np.array([0, 0, 1.0]))]
    assert same_place(mine, others, 0.15).tolist() == [True, False, False, False]
    assert same_place(mine, others, 0.25).tolist() == [True, True, False, False]
    assert same_place(mine, others, 1.0).tolist() == [True, True, True, False]
    assert same_place(mine, [], 1.0).tolist() == [False] * 4
    assert same_place([], mine, 1.0).tolist() == []
    assert same_place(mine, mine, 0.0).all()

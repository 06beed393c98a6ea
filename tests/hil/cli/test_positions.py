"""Records of positions, and bringing streams of one time together in any order of arrival."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hil.array import ArrayGeometry
from hil.cli.output import line_of
from hil.cli.positions import Join, position_record
from hil.frame import Frame, Header
from tests.hil.cli.running import check_records


def frame(seq: int, stream: str = "s", epoch: int = 0, **arrays: Any) -> Frame:
    header = Header(stream=stream, seq=seq, time_ns=1000 * seq, epoch=epoch)
    return Frame.of(header, **(arrays or {"position_m": (np.zeros((0, 3)), "source xyz", "m")}))


def test_what_is_not_known_is_null() -> None:
    estimates = frame(
        3,
        azimuth_rad=(np.array([0.1]), "source", "rad"),
        elevation_rad=(np.array([0.0]), "source", "rad"),
        range_m=(np.array([np.inf]), "source", "m"),
    )
    record = position_record(estimates)
    check_records([record])
    source = record["sources"][0]
    assert source["azimuth_rad"] == 0.1
    assert all(source[k] is None for k in ("id", "range_m", "x_m", "y_m", "z_m", "covariance", "power_db"))
    assert record["truth"] is None
    assert "5.73°" in line_of(record)


def test_truth_gets_its_angles_from_the_array() -> None:
    array = ArrayGeometry.ula(4, 0.03, origin_m=(1.0, 0.0, 0.0))
    truth = frame(0, position_m=(np.array([[4.0, 4.0, 0.0]]), "source xyz", "m"), id=(np.array([5]), "source", ""))
    record = position_record(frame(0), truth, array)
    true = record["truth"][0]
    assert (true["id"], true["x_m"]) == (5, 4.0)
    assert math.isclose(true["azimuth_rad"], math.atan2(3, 4)) and math.isclose(true["range_m"], 5.0)
    assert position_record(frame(0), frame(0))["truth"] == []  # known: there is none


def test_a_pose_comes_beside_the_positions() -> None:
    covariance = (np.full((3, 3), np.nan), "pose pose", "")
    position, heading = (np.array([1.0, 2.0, 0.0]), "xyz", "m"), (np.array(0.5), "", "rad")
    pose = frame(0, position_m=position, heading_rad=heading, pose_covariance=covariance)
    record = position_record(None, pose=pose)
    check_records([record])
    assert record["sources"] == []
    assert record["pose"] == {"x_m": 1.0, "y_m": 2.0, "z_m": 0.0, "heading_rad": 0.5, "covariance": None}
    assert "heading 28.6°" in line_of(record)


@given(st.permutations([("s", k) for k in range(6)] + [("truth", k) for k in range(6)]))
def test_join_keeps_order_and_finds_every_partner(arrivals: list[tuple[str, int]]) -> None:
    # each stream by itself is in order, as an edge keeps it
    counts = {"s": 0, "truth": 0}
    join, out = Join(["truth"]), []
    for stream, _ in arrivals:
        made = frame(counts[stream], stream)
        counts[stream] += 1
        out += list(join.add(made) if stream == "s" else join.add_partner("truth", made))
    out += list(join.finish())
    assert [f.header.seq for f, _ in out] == list(range(6))
    assert [found["truth"].header.seq for _, found in out] == list(range(6))


def test_join_does_not_wait_for_a_partner_that_has_passed() -> None:
    join = Join(["truth"])
    assert not list(join.add(frame(1)))
    assert [f.header.seq for f, _ in join.add_partner("truth", frame(2))] == [1]
    # a device that began anew: time steps back, the epoch tells
    assert not list(join.add(frame(0, epoch=1)))
    ((_, found),) = join.add_partner("truth", frame(0, epoch=1))
    assert found["truth"].header.epoch == 1


def test_join_waits_only_so_long() -> None:
    join = Join(["truth"])
    out = [pair for k in range(100) for pair in join.add(frame(k))]
    assert out and out[0][0].header.seq == 0 and out[0][1] == {}
    assert len(out) + sum(1 for _ in join.finish()) == 100

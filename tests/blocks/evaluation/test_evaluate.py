import numpy as np
import pytest

from blocks.evaluation.evaluate import Evaluate
from hil.errors import ParamError
from hil.frame import Frame, Header


def positions(position_m, ids=None):
    arrays = {"position_m": np.asarray(position_m, float)}
    return arrays if ids is None else {**arrays, "id": np.asarray(ids)}


def frame(stream, seq, position_m, ids):
    return Frame.of(
        Header(stream=stream, seq=seq, time_ns=seq * 1000, timebase="utc"),
        position_m=(np.asarray(position_m, float), "source xyz", "m"),
        id=(np.asarray(ids), "source", ""),
    )


A, B = [0.0, 10.0, 0.0], [8.0, 10.0, 0.0]


def test_errors_of_a_frame():
    block = Evaluate("eval", gate_m=3.0)
    out = block(positions([[8.0, 11.0, 0.0], [99.0, 0.0, 0.0]]), positions([A, B], [7, 9]))
    assert out["truth_id"].tolist() == [9]
    assert out["distance_m"] == pytest.approx([1.0])
    assert (out["n_missed"], out["n_false"]) == (1, 1)
    s = block.stats()
    assert (s["missed"], s["false"], s["n"], s["cutoff_m"]) == (1, 1, 1, 3.0)
    assert s["rmse_m"] == pytest.approx(1.0)


def test_counts_identities_that_change():
    block = Evaluate("eval")
    for ids in ([0, 1], [0, 1], [1, 0], [1, 0]):
        block(positions([A, B], ids), positions([A, B], [7, 9]))
    assert block.stats()["id_switches"] == 2


def test_frames_are_joined_by_time_and_the_lonely_ones_counted():
    block = Evaluate("eval")
    out = []
    for seq in range(6):
        out += block.feed("truth", frame("truth", seq, [A, B], [7, 9]))
        if seq not in (2, 3):
            out += block.feed("positions", frame("music", seq, [B, A], [0, 1]))
    assert [f.header.seq for _, f in out] == [0, 1, 4, 5]
    s = block.stats()
    assert (s["n_frames"], s["unmatched_frames"], s["missed"]) == (4, 2, 0)


def test_refuses_a_gate_of_nothing():
    with pytest.raises(ParamError, match="gate_m"):
        Evaluate("eval", gate_m=0.0)

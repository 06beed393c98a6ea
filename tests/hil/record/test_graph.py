"""Recorders in a running graph: a worker is killed, a recorder is killed, and what is replayed is the same."""

import numpy as np
import pytest

from drivers.mcap_replay import McapReplay
from hil.graph import Graph
from hil.record import Recorder, describe_recording, open_recording, open_writer
from tests.hil.record.nodes import MortalRecorder
from tests.hil.record.streams import iq
from tests.hil.runtime.nodes import Counter, Scale


def outputs_of(path, stream):
    with open_recording(path) as recording:
        return {f.header.seq: f for f in recording.frames([stream]) if f.header.kind == "data"}


def replayed(path, factor):
    """What the recorded samples give in the same block, run once more."""
    graph = Graph("again")
    graph.add(McapReplay("replay", path=str(path), ports={"iq": "src.iq"}))
    graph.add(Scale("scale", factor=factor))
    graph.connect("replay.iq", "scale.x")
    came = []
    graph.run(inline=True, on_frame={"scale.y": lambda f: came.append(f.copy())})
    return {f.header.seq: f for f in came if f.header.kind == "data"}


def test_recorded_and_replayed_to_the_same_bits(tmp_path):
    path = tmp_path / "run.mcap"
    graph = Graph("first")
    graph.add(Counter("src", n_frames=50))
    graph.add(Scale("scale", factor=1 / 3))
    graph.add(Recorder("rec", path=str(path), n_inputs=2))
    graph.connect("src.iq", "scale.x")
    graph.connect("src.iq", "rec.in0")
    graph.connect("scale.y", "rec.in1")
    summary = graph.run(inline=True)
    assert summary["nodes"]["rec"]["stats"]["frames"] == 104  # two descriptions and two ends among them
    first, again = outputs_of(path, "scale.y"), replayed(path, 1 / 3)
    assert list(first) == list(again) == list(range(50))
    for seq, frame in first.items():
        assert frame["x"].tobytes() == again[seq]["x"].tobytes()
        assert again[seq].header.time_ns == frame.header.time_ns


def test_replayed_stream_that_counts_in_steps_has_no_losses(tmp_path):
    writer = open_writer(tmp_path / "a.mcap")
    for seq in range(0, 50, 10):
        writer.write(iq(seq))
    writer.close()
    graph = Graph("replay")
    graph.add(McapReplay("replay", path=str(tmp_path / "a.mcap")))
    came = []
    graph.run(on_frame={"replay.iq": lambda f: came.append(f.header)})
    assert [(h.seq, h.lost.frames) for h in came if h.kind == "data"] == [(seq, 0) for seq in range(0, 50, 10)]


@pytest.mark.parametrize("die_at", [20])
def test_worker_killed_while_recording(tmp_path, die_at):
    """The block dies at frame 20: its stream has a gap there, the samples have none, the rest replays alike."""
    path = tmp_path / "run.mcap"
    graph = Graph("first")
    graph.add(Counter("src", n_frames=60, period_s=0.02))
    graph.add(Scale("scale", factor=1 / 3, die_once_at=die_at, marker=str(tmp_path / "died")))
    graph.add(Recorder("rec", path=str(path), n_inputs=2))
    graph.connect("src.iq", "scale.x", capacity=64)
    graph.connect("src.iq", "rec.in0", capacity=64)
    graph.connect("scale.y", "rec.in1", capacity=64)
    graph.run()
    described = describe_recording(path)
    assert described["closed"]
    assert described["problems"] == []
    assert described["streams"]["src.iq"]["frames"] == 60
    assert described["streams"]["src.iq"]["missing"] == 0
    first, again = outputs_of(path, "scale.y"), replayed(path, 1 / 3)
    assert die_at not in first
    assert set(range(die_at)) <= set(first)
    assert max(first) == 59
    assert described["streams"]["scale.y"]["missing"] == 60 - len(first)
    assert all(first[seq]["x"].tobytes() == again[seq]["x"].tobytes() for seq in first)


def test_recorder_killed_goes_on_in_its_file(tmp_path):
    path = tmp_path / "run.mcap"
    graph = Graph("first")
    graph.add(Counter("src", n_frames=80, period_s=0.02))
    graph.add(
        MortalRecorder("rec", path=str(path), flush_interval_s=0.1, die_once_at=30, marker=str(tmp_path / "died"))
    )
    graph.connect("src.iq", "rec.in0", capacity=128)
    summary = graph.run()
    assert (tmp_path / "died").exists()
    assert list(summary["restarts"].values()) == [1]
    described = describe_recording(path)["streams"]["src.iq"]
    came = outputs_of(path, "src.iq")
    assert max(came) == 79
    assert described["n_gaps"] == 1
    # Lost: what was not flushed (0.1 s at 50 a second, with some room for a busy machine) and the frame it died at
    assert 1 <= described["missing"] <= 25
    assert set(range(15)) <= set(came)
    for seq, frame in came.items():
        assert np.array_equal(frame["iq"], np.full((2, 8), seq, np.complex64))

"""The block asks the graph that it runs in for the noise source, after each epoch, and puts it off again."""

import time

import numpy as np
import pytest

from blocks.calibration.follow_calibration import FollowCalibration
from blocks.calibration.noise_switch import NoiseSource, NoiseSwitch
from hil.graph import Graph
from hil.params import convert_params
from hil.runtime.control import ControlServer
from tests.blocks.calibration.nodes import NoisyRadio
from tests.blocks.calibration.radio import Radio


@pytest.mark.parametrize("inline", [False, True])
def test_a_running_graph_calibrates_itself_after_each_epoch(inline):
    graph = Graph("follows")
    graph.add(NoisyRadio("radio"))
    graph.add(FollowCalibration("cal", noise_source={"verb": "radio.noise_source"}, n_measure=2048, retry_frames=50))
    graph.connect("radio", "cal")
    frames = []
    summary = graph.run(on_frame={"cal.iq": lambda f: frames.append(f.copy())}, inline=inline)
    stats = summary["nodes"]["cal"]
    events = [f.header.meta for f in frames if f.header.kind == "event" and f.header.meta["event"] == "calibration"]
    results = [e["result"] for e in events]
    assert results == ["new epoch", "redone", "new epoch", "redone"], (results, stats)
    data = [f for f in frames if f.header.kind == "data"]
    assert {f.header.calibration for f in data} == {"valid"}
    assert {f.header.epoch for f in data} == {0, 1}
    assert data[-1].header.seq == 159, "the noise source was put off again"
    radio = Radio(n=512)
    for frame in data:
        ideal = radio.clean(frame.header.sample_start, 512)
        branch = (frame["iq"] * ideal.conj()).sum(-1)
        assert np.abs(np.angle(branch * branch[0].conj())).max() < 0.01


class Board:
    """A control plane that notes what it was asked."""

    def __init__(self):
        self.asked = []
        self.server = ControlServer(self.answer)

    def answer(self, verb, args):
        self.asked.append((verb, args))
        return args

    def wait(self, n):
        end = time.monotonic() + 10
        while len(self.asked) < n:
            assert time.monotonic() < end
            self.server.poll(0.05)


@pytest.fixture
def board():
    board = Board()
    yield board
    board.server.close()


def switch(**source):
    return NoiseSwitch(convert_params(NoiseSource, source, "test"), retry_frames=3)


def test_asks_once_and_again_after_a_while(board):
    it = switch(verb="noise", on={"level": 3}, off={"level": 0}, control=board.server.endpoint)
    for _ in range(5):
        it.want(True)
    it.want(False)
    board.wait(3)
    it.close()
    assert board.asked == [("noise", {"level": 3})] * 2 + [("noise", {"level": 0})]
    assert it.n_asked == 2


def test_a_source_that_goes_off_by_itself_is_not_put_off(board):
    it = switch(verb="recalibrate", on={}, off=None, control=board.server.endpoint)
    it.want(True)
    it.want(False)
    it.want(True)
    board.wait(2)
    it.close()
    assert board.asked == [("recalibrate", {})] * 2


def test_nobody_there_is_told():
    it = switch(verb="radio.noise_source")
    it.want(True)
    end = time.monotonic() + 10
    while not (refusals := it.refusals()):
        assert time.monotonic() < end
        time.sleep(0.01)
    it.close()
    assert "radio.noise_source: this process works for no graph that runs" in refusals[0]


def test_without_a_source_nothing_is_asked():
    it = NoiseSwitch(None, 3)
    it.want(True)
    assert it.refusals() == []
    it.close()

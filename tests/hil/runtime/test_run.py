"""Running graphs: the same frames whatever carries them, nothing lost silently, the dead restarted."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest

from hil.errors import BlockError, ControlError, DriverError, EdgeOverflow, GraphError, WorkerError
from hil.frame import Frame
from hil.graph import Graph
from hil.runtime import leftovers, registry
from hil.runtime.control import ControlClient
from hil.runtime.shm_pool import SHM_DIRECTORY
from tests.hil.runtime.nodes import Counter, LastSum, LateTruth, PairSum, Scale

CARRIERS = [pytest.param("shm"), pytest.param("tcp"), pytest.param("ipc"), pytest.param("inline")]


@pytest.fixture(autouse=True)
def _leaves_nothing_behind():
    before = set(SHM_DIRECTORY.glob("hil-*"))
    yield
    left = set(SHM_DIRECTORY.glob(f"hil-{os.getpid()}-*")) - before
    assert not left
    assert not [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE]


class Collected:
    """Frames at an output, as they came."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def __call__(self, frame: Frame) -> None:
        self.frames.append(frame.copy())

    @property
    def data(self) -> list[Frame]:
        return [f for f in self.frames if f.header.kind == "data"]

    @property
    def seqs(self) -> list[int]:
        return [f.header.seq for f in self.data]

    @property
    def missing(self) -> set[int]:
        return set(range(max(self.seqs) + 1)) - set(self.seqs)

    @property
    def reported(self) -> int:
        """Frames that headers say were lost, those before the end included."""
        return sum(f.header.lost.frames for f in self.frames)


def scaled(carrier: str, *, source: dict | None = None, scale: dict | None = None, **edge) -> Graph:
    graph = Graph("scaled")
    graph.add(Counter("src", **{"n_frames": 60, **(source or {})}))
    graph.add(Scale("scale", **(scale or {})))
    graph.connect("src", "scale", edge=None if carrier == "inline" else carrier, **edge)
    return graph


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carrier_gives_the_same(carrier):
    graph = scaled(carrier)
    graph.add(LastSum("sum"))
    graph.connect("scale", "sum")
    got, end = Collected(), Collected()
    summary = graph.run(on_frame={"scale.y": got, "sum.y": end}, inline=carrier == "inline")
    assert got.seqs == list(range(60))
    for frame in got.data:
        np.testing.assert_array_equal(frame["x"], np.full((2, 8), 2 * frame.header.seq, np.complex64))
    (total,) = end.data  # flush, after the stream has ended
    np.testing.assert_array_equal(total["x"], np.full(2, 8 * 2 * sum(range(60)), np.complex64))
    assert got.frames[0].header.kind == "descriptor"
    assert summary["frames"] == {"src": 60, "scale": 60, "sum": 1}
    assert summary["drops"] == {} and summary["restarts"] == {}
    assert summary["latency"]["scale"]["service"]["n"] == 60


def test_one_output_to_many_and_joined_again():
    graph = Graph()
    graph.add(Counter("src", n_frames=30))
    graph.add(Scale("a", factor=2))
    graph.add(Scale("b", factor=3))
    graph.add(PairSum("pair"))
    graph.connect("src", "a").connect("src", "b").connect("a", "pair.a").connect("b", "pair.b")
    graph.place("a", worker="wa").place("b", worker="wb").place("pair", worker="wc")
    got = Collected()
    graph.run(on_frame={"pair.y": got})
    assert [(f.header.seq, f["x"][0, 0].real) for f in got.data] == [(k, 5.0 * k) for k in range(30)]


def test_frames_and_seconds_end_the_run():
    got = Collected()
    scaled("shm", source={"n_frames": 10**9}).run(frames=7, on_frame={"scale.y": got})
    assert got.seqs == list(range(7))
    start = time.monotonic()
    summary = scaled("shm", source={"n_frames": 10**9, "period_s": 0.01}).run(seconds=0.5)
    assert 0.5 <= time.monotonic() - start < 10
    assert summary["frames"]["src"] == summary["frames"]["scale"] > 5


def test_frames_are_whole_on_all_outputs_of_a_source():
    graph = Graph()
    graph.add(LateTruth("src", n_frames=10**9))
    got, truth = Collected(), Collected()
    graph.run(frames=5, on_frame={"src.iq": got, "src.truth": truth})
    assert got.seqs == truth.seqs == list(range(5))


@pytest.mark.parametrize("carrier", ["shm", "tcp"])
def test_a_killed_block_is_restarted_and_its_loss_accounted(carrier, tmp_path):
    got = Collected()
    marker = str(tmp_path / "died")
    graph = scaled(carrier, scale={"die_once_at": 20, "marker": marker})
    summary = graph.run(on_frame={"scale.y": got})
    # The frame that it had begun; on a busy machine also results that still waited in its memory for the consumer.
    assert 20 in got.missing and min(got.missing) > 20 - 16
    assert got.reported == len(got.missing) and summary["drops"]["worker_died"] == 1
    assert summary["restarts"] == {"blocks": 1}
    assert [e["event"] for e in summary["events"]] == ["worker_died"]
    assert "SIGKILL" in summary["events"][0]["reason"]
    # The new block knows the array: it got the descriptor again.
    assert [f.header.kind for f in got.frames].count("descriptor") >= 2


@pytest.mark.parametrize("carrier", ["shm", "tcp"])
def test_a_killed_source_goes_on_where_it_was_in_a_new_epoch(carrier):
    got = Collected()
    graph = scaled(carrier, source={"die_once_at": 20})
    summary = graph.run(on_frame={"scale.y": got})
    assert summary["restarts"] == {"src": 1}
    assert got.seqs == sorted(set(got.seqs)) and got.seqs[-1] == 59
    assert len(got.missing) == got.reported  # what it took with it, told by whoever came after
    assert {f.header.epoch for f in got.data if f.header.seq > 20} == {1}


def test_a_hung_source_is_killed():
    graph = scaled("shm", source={"hang_once_at": 20})
    graph.place("src", worker="src", hang_timeout_s=0.7)
    got = Collected()
    summary = graph.run(on_frame={"scale.y": got})
    assert got.seqs[-1] == 59 and len(got.missing) == got.reported  # frames that the hung process still held
    assert [e["event"] for e in summary["events"]] == ["worker_hung", "worker_died"]


def test_one_that_dies_again_and_again_ends_the_run():
    graph = scaled("shm", source={"die_at": 5})
    graph.place("src", worker="src", max_restarts=2)
    with pytest.raises(WorkerError, match=r"worker 'src' \(src\) was killed by SIGKILL; it was restarted 2 times"):
        graph.run()


@pytest.mark.parametrize("carrier", ["shm", "inline"])
def test_an_error_in_a_block_names_block_frame_and_cause(carrier):
    expected = r"block 'scale' \(Scale\) failed at frame #20 of 'src.iq' \(epoch 0\): ValueError: cannot take the root"
    with pytest.raises(BlockError, match=expected):
        # At once: what could only end after the time to drain would hang here.
        scaled(carrier, scale={"fail_at": 20}).run(inline=carrier == "inline", drain_s=1e6)


def test_an_error_in_a_callback_ends_the_run_at_once():
    def break_(frame: Frame) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BlockError, match=r"BrokenPipeError: nobody reads") as raised:
        scaled("shm", source={"n_frames": 10**9}).run(on_frame={"scale.y": break_}, drain_s=1e6)
    assert isinstance(raised.value.__cause__, BrokenPipeError)


@pytest.mark.parametrize("carrier", ["shm", "inline"])
def test_what_cannot_be_estimated_is_skipped_counted_and_told(carrier):
    got = Collected()
    summary = scaled(carrier, scale={"skip_at": 20}).run(on_frame={"scale.y": got}, inline=carrier == "inline")
    assert got.missing == {20} and summary["drops"] == {"skipped": 1}
    (event,) = [f.header.meta for f in got.frames if f.header.kind == "event"]
    assert event == {"event": "skipped", "block": "scale", "reason": "nothing in it"}


def test_a_device_that_is_not_there_is_one_clear_error():
    with pytest.raises(DriverError, match="no device at tcp://nowhere: switch it on"):
        scaled("shm", source={"fail_open": True}).run()


@pytest.mark.parametrize("carrier", ["shm", "tcp"])
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_slow_block_drops_by_policy_and_says_so(carrier, policy):
    got = Collected()
    graph = scaled(carrier, scale={"delay_s": 0.01}, policy=policy, capacity=4)
    summary = graph.run(on_frame={"scale.y": got})
    n_dropped = summary["drops"]["edge_full"]
    assert n_dropped > 10 and len(got.seqs) + n_dropped == 60
    assert got.reported == n_dropped
    if policy == "drop_oldest":
        assert got.seqs[-1] == 59


def test_policy_fail_ends_the_run():
    with pytest.raises(EdgeOverflow, match=r"edge src\.iq -> scale\.x: 2 frames wait, capacity is 2"):
        scaled("shm", scale={"delay_s": 0.05}, policy="fail", capacity=2).run()


def test_a_class_that_no_other_process_can_import_is_refused():
    class Local(Scale):
        pass

    graph = Graph()
    graph.add(Counter("src"))
    graph.add(Local("local"))
    graph.connect("src", "local")
    with pytest.raises(GraphError, match="defined inside a function"):
        graph.run()


def test_control_plane(caplog):
    answers = {}

    def talk(address: str) -> None:
        def work() -> None:
            with ControlClient(address) as client:
                while not client.request("stats")["frames"].get("src"):  # workers report a few times a second
                    time.sleep(0.05)
                answers["describe"] = client.request("describe")
                answers["get"] = client.request("get", path="scale.factor")
                answers["set"] = client.request("set", path="scale.factor", value=7)
                answers["poke"] = client.request("src.poke", times=3)
                answers["stats"] = client.request("stats")
                answers["running"] = [n["name"] for n in registry.running()]
                for name, verb, args in (
                    ("limits", "set", {"path": "scale.factor", "value": 1000}),
                    ("unknown", "set", {"path": "scale.volume", "value": 1}),
                    ("verb", "src.tickle", {}),
                    ("argument", "src.poke", {"times": 10}),
                    ("node", "get", {"path": "nobody.x"}),
                    ("graph verb", "dance", {}),
                ):
                    with pytest.raises(ControlError) as refused:
                        client.request(verb, **args)
                    answers[name] = str(refused.value)
                answers["stop"] = client.request("stop")

        thread.append(threading.Thread(target=work))
        thread[0].start()

    thread: list[threading.Thread] = []
    got = Collected()
    graph = scaled("shm", source={"n_frames": 10**9, "period_s": 0.005})
    graph.run(on_frame={"scale.y": got}, on_ready=talk)
    thread[0].join()
    assert answers["describe"]["nodes"]["scale"]["worker"] == "blocks"
    assert answers["get"] == 2.0 and answers["set"]["factor"] == 7.0 and answers["poke"] == 3
    assert answers["stats"]["frames"]["src"] > 0 and "scaled" in answers["running"]
    assert "Expected `float` <= 100.0 - at `$.factor`" in answers["limits"]
    assert "'scale' has no parameter 'volume': it has factor" in answers["unknown"]
    assert "unknown verb 'tickle': there are poke" in answers["verb"]
    assert "poke: Expected `int` <= 9 - at `$.times`" in answers["argument"]
    assert "no node 'nobody': there are src, scale" in answers["node"]
    assert "unknown verb 'dance'" in answers["graph verb"]
    assert answers["stop"] == "stopping"
    last = got.data[-1]
    assert last["x"][0, 0] == 7 * last.header.seq  # the block runs with the new value
    assert os.getpid() not in [n["pid"] for n in registry.running()]


def test_prometheus_scrapes(caplog):
    caplog.set_level(logging.WARNING)
    text = []

    def scrape(_: str) -> None:
        def work() -> None:
            time.sleep(1.2)
            (line,) = [r.getMessage() for r in caplog.records if "metrics on" in r.getMessage()]
            with urllib.request.urlopen(line.split()[-1], timeout=5) as answer:
                text.append(answer.read().decode())

        thread.append(threading.Thread(target=work))
        thread[0].start()

    thread: list[threading.Thread] = []
    scaled("shm", source={"n_frames": 10**9, "period_s": 0.005}).run(seconds=2.0, on_ready=scrape, metrics_port=0)
    thread[0].join()
    assert 'hil_node_frames_out_total{graph="scaled",node="scale"}' in text[0]
    assert 'hil_node_age_quantile_seconds{graph="scaled",node="scale",quantile="0.99"}' in text[0]


SCRIPT = """
import sys
from hil.block import Block
from hil.graph import Graph
from hil.port import Port
from tests.hil.runtime.nodes import Counter

class Mine(Block):
    inputs = {"x": Port("complex64", "sensor snapshot", "FS")}
    outputs = {"y": Port("complex64", "sensor snapshot", "FS")}
    def process(self, x):
        return x

if __name__ == "__main__":
    graph = Graph("script")
    graph.add(Counter("src", n_frames=10**9, period_s=0.01))
    graph.add(Mine("mine"))
    graph.connect("src", "mine")
    summary = graph.run(on_ready=lambda address: print("ready", flush=True))
    print(summary["frames"]["src"] == summary["frames"]["mine"] > 3)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_drains_and_ends_well(tmp_path, how):
    """Also: blocks that a script defines itself run in worker processes."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(how)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and out == "True\n"


def test_workers_end_with_a_supervisor_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 2
        process.kill()
    _gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    leftovers.sweep()
    assert not list(SHM_DIRECTORY.glob(f"hil-{process.pid}-*"))
    assert not list(Path(tempfile.gettempdir()).glob(f"hil-{process.pid}-*"))

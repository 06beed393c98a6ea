"""Drawing a graph: what cannot run is refused with the names of what is wrong."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hil.errors import GraphError, PortError
from hil.frame import Frame, Header
from hil.graph import Graph
from tests.hil.runtime.nodes import Counter, LastSum, PairSum, Scale


def drawn() -> Graph:
    graph = Graph("g")
    graph.add(Counter("src"))
    graph.add(Scale("scale"))
    graph.add(LastSum("sum"))
    return graph.connect("src.iq", "scale.x").connect("scale", "sum")


def test_a_graph_reads_as_a_diagram():
    text = drawn().to_text()
    assert "src (Counter) in worker src" in text
    assert "src.iq -> scale.x: shm, block, up to 16 frames" in text
    assert "scale.y -> sum.x: inline" in text


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda g: g.add(Scale("scale")), "there is a node 'scale' already"),
        (lambda g: g.add(Scale("a.b")), "'a.b' cannot be the name of a node"),
        (lambda g: g.connect("src", "nobody"), "no node 'nobody' in graph 'g': it has src, scale, sum"),
        (lambda g: g.connect("src.rf", "scale"), "'src' has no output 'rf': it has iq"),
        (lambda g: g.connect("src", "scale"), r"input scale\.x is fed by src\.iq already"),
        (lambda g: g.connect("src", g.add(Scale("s2")), policy="lossy"), "policy 'lossy' is none of block"),
        (
            lambda g: g.connect("src", g.add(Scale("s2")), capacity=0),
            "capacity must be at least 1 with policy 'block', got 0",
        ),
        (
            lambda g: g.connect("src", g.add(Scale("s2")), policy="drop_oldest", capacity=1),
            "capacity must be at least 2 with policy 'drop_oldest', got 1",
        ),
        (lambda g: g.connect("src", g.add(PairSum("p"))), r"'p' has 2 inputs \(p\.a, p\.b\): say which one"),
        (lambda g: g.place("nobody", worker="w"), "cannot place 'nobody'"),
        (lambda g: g.expose(iq="src.rf"), "'src' has no output 'rf'"),
    ],
)
def test_refusals_while_drawing(draw, message):
    with pytest.raises(GraphError, match=message):
        draw(drawn())


def test_a_connection_that_does_not_fit_is_refused():
    graph = drawn()
    graph.add(Scale("s2"))
    with pytest.raises(PortError, match=r"cannot connect sum\.y to s2\.x: 'x' has axes \[sensor\]"):
        graph.connect("sum", "s2")


def test_refusals_of_the_whole():
    with pytest.raises(GraphError, match="graph 'empty' has no source"):
        Graph("empty").validate()
    graph = drawn()
    graph.add(Scale("alone"))
    with pytest.raises(GraphError, match=r"input alone\.x is fed by nothing"):
        graph.validate()
    ring = drawn()
    ring.add(Scale("a"))
    ring.add(Scale("b"))
    ring.connect("a", "b").connect("b", "a")
    with pytest.raises(GraphError, match="in a circle: a, b"):
        ring.validate()


def test_placement():
    graph = drawn().place("sum", worker="main")
    assert [graph.worker_of(n) for n in graph.nodes] == ["src", "blocks", "main"]


def test_run_once_needs_no_process():
    graph = Graph()
    graph.add(Scale("double"))
    graph.add(Scale("triple", factor=3))
    graph.add(PairSum("pair"))
    graph.connect("double", "pair.a").connect("triple", "pair.b")
    x = np.ones((2, 4), np.complex64)
    frame = Frame.of(Header("t", 0, time_ns=5, timebase="device"), x=(x, "sensor snapshot", "FS"))
    out = graph.run_once({"double.x": frame, "triple.x": frame})
    np.testing.assert_array_equal(out["pair.y"]["x"], 5 * x)
    with pytest.raises(GraphError, match=r"one array for 2 open inputs"):
        graph.run_once(x)
    with pytest.raises(GraphError, match=r"no open input 'pair\.a'"):
        graph.run_once({"pair.a": frame})


def test_importing_a_graph_imports_no_transport():
    code = "import sys, hil.graph, hil.block; sys.exit('zmq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

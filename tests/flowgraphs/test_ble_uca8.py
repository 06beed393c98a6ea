import numpy as np
import pytest

from benchmarks.ble_uca8 import DEFAULT_DIR
from flowgraphs.ble_uca8 import Captures, Settings, build


def test_draws_a_graph_that_can_run():
    graph = build(Settings())
    graph.validate()
    assert graph.order()[0] == "captures"


@pytest.mark.skipif(not DEFAULT_DIR.is_dir(), reason=f"captures are not there: {DEFAULT_DIR}")
@pytest.mark.slow
def test_a_capture_to_a_pose():
    graph = build(Settings(captures=Captures(paths=(str(DEFAULT_DIR / "x2y2.csv"),))))
    seen = []
    source = graph.nodes["captures"]
    source.open()
    while (read := source.read(0.1)) is not None:
        for port, frame in read:
            if port == "switched":
                for _, packet in graph.nodes["bearing"].feed("switched", frame):
                    for _, group in graph.nodes["group"].feed("bearings", packet):
                        seen += [f for p, f in graph.nodes["resection"].feed("bearings", group) if p == "pose"]
    source.close()
    poses = [f for f in seen if f.header.kind == "data"]
    assert len(poses) == 6
    assert np.hypot(*(poses[-1]["position_m"][:2] - 6)) < 1.0

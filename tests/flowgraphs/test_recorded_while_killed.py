"""The main receiver, recorded while its worker is killed: replayed, it gives the same positions to the bit."""

from __future__ import annotations

import os
import signal

import psutil

from drivers.mcap_replay import McapReplay
from flowgraphs.near_field_music import Device, Settings, build
from hil.cli.substitute import only_source, replace_source
from hil.frame import Frame
from hil.record import Recorder, open_recording

N_FRAMES = 120
KILLED_AFTER = 40
SETTINGS = Settings(device=Device(real_time=False, seed=5))


def recorded(path, stream):
    with open_recording(path) as recording:
        return {f.header.seq: f.copy() for f in recording.frames([stream]) if f.header.kind == "data"}


def same_bits(a: Frame, b: Frame) -> bool:
    return a.arrays.keys() == b.arrays.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a.arrays)


def test_replayed_bit_for_bit_up_to_the_gap(tmp_path):
    path = tmp_path / "run.mcap"
    graph = build(SETTINGS)
    graph.add(Recorder("rec", path=str(path), n_inputs=4))
    for i, output in enumerate(("sim.iq", "sim.truth", "cartesian.positions", "tracker.tracks")):
        graph.connect(output, f"rec.in{i}")
    seen = []

    def kill_once(frame: Frame) -> None:
        seen.append(frame.header.seq)
        if len(seen) == KILLED_AFTER:
            for child in psutil.Process().children():
                if "hil.runtime.process" in child.cmdline() and "blocks" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)

    summary = graph.run(frames=N_FRAMES, on_frame={"sim.iq": kill_once})
    assert summary["restarts"] == {"blocks": 1}
    samples, positions, tracks = (recorded(path, s) for s in ("sim.iq", "cartesian.positions", "tracker.tracks"))
    assert list(samples) == list(range(N_FRAMES))  # the recorder has a worker of its own
    # The frame that the worker had begun: it may have given its positions already, and not yet its tracks.
    gap = set(samples) - set(tracks)
    assert len(gap) <= 1 and set(samples) - set(positions) <= gap

    again: dict[str, dict[int, Frame]] = {"cartesian.positions": {}, "tracker.tracks": {}}
    graph = build(SETTINGS)
    source = only_source(graph)
    ports = {"iq": "sim.iq", "truth": "sim.truth"}
    graph = replace_source(graph, source, McapReplay(source.name, path=str(path), ports=ports))

    def keep(output: str):
        return lambda f: again[output].update({f.header.seq: f.copy()}) if f.header.kind == "data" else None

    graph.run(inline=True, on_frame={output: keep(output) for output in again})
    assert list(again["cartesian.positions"]) == list(range(N_FRAMES))
    for seq, frame in positions.items():
        assert same_bits(frame, again["cartesian.positions"][seq]), seq
    # A tracker that was killed begins anew, without tracks at first: up to there they are the same.
    confirmed = 10
    ended = min([s for s in tracks if s > confirmed and not len(tracks[s]["id"])] + list(gap))
    assert ended > confirmed
    for seq in range(ended):
        assert same_bits(tracks[seq], again["tracker.tracks"][seq]), seq

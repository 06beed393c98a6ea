"""What is lost when something goes wrong, whether it is told to the frame, and how long until frames come again.

``python -m benchmarks.losses [--quick] [--json]``. A source numbers its frames by the clock, a block hands them on;
what comes out is compared with the numbers that must have come: a number that is missing must be counted in the header
of the next frame (or of the end of the stream), and nothing else may be. Processes are killed with SIGKILL from
outside, in the middle of whatever they do. The frame that a worker had begun when it was killed is told as lost, also
where its result was out already: nobody can know, so at most one frame a kill is told and not lost.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.nodes import Paced, Pass
from benchmarks.report import Report
from hil.errors import EdgeOverflow
from hil.frame import Frame
from hil.graph import EdgeKind, Graph
from hil.record.mcap_reader import McapRecording
from hil.record.recorder import Recorder
from hil.runtime.queue import Policy
from hil.runtime.shm_edge import supported

_PERIOD_S = 0.002


class Came(NamedTuple):
    """One frame that came out: its number, how many were lost before it, and when."""

    seq: int
    lost: int
    time_s: float


class Outcome(NamedTuple):
    """What came, what the last header told, and what the run's summary said."""

    came: list[Came]
    lost_at_end: int
    summary: dict[str, Any]
    killed_s: list[float]


class Account(NamedTuple):
    """Numbers compared with headers."""

    missing: int
    silent: int  # lost and not told by the frame that follows
    too_many: int  # told and not lost
    repeated: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, one kill each")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args(argv)
    report = Report("losses", as_json=options.json)
    seconds, n_kills = (3.0, 1) if options.quick else (8.0, 5)
    edges: list[EdgeKind] = ["shm", "tcp", "ipc"] if supported() else ["tcp", "ipc"]
    for edge in edges:
        policies: tuple[Policy, ...] = ("block", "drop_oldest", "drop_newest")
        for policy in policies:
            outcome = run(edge, policy, seconds / 2, delay_s=3 * _PERIOD_S)
            add(report, f"slow consumer, {policy}, {edge}", outcome, seconds / 2, nothing_lost=policy == "block")
        add_fail(report, edge)
        add(report, f"device drops each 10th, {edge}", run(edge, "block", seconds / 2, drop_every=10), seconds / 2)
        for victim in ("src", "blocks"):
            outcome = run(edge, "block", seconds * n_kills / 2, kill=victim, n_kills=n_kills)
            name = {"src": "killed driver", "blocks": "killed worker"}[victim]
            add(report, f"{name}, {edge}", outcome, seconds * n_kills / 2, n_kills=n_kills)
    for _ in range(1 if options.quick else 3):
        measure_recording(report, seconds)
    report.finish()
    return 0


def run(
    edge: EdgeKind,
    policy: Policy,
    seconds: float,
    *,
    delay_s: float = 0.0,
    drop_every: int = 0,
    kill: str = "",
    n_kills: int = 0,
) -> Outcome:
    """Run source, block and this process for so many source frames as fit into ``seconds``."""
    graph = Graph("losses")
    source = graph.add(Paced("src", n_frames=n_frames(seconds), period_s=_PERIOD_S, drop_every=drop_every))
    block = graph.add(Pass("pass", delay_s=delay_s))
    graph.connect(source, block, edge=edge, policy=policy, capacity=8)
    came: list[Came] = []
    at_end = [0]

    def take(frame: Frame) -> None:
        header = frame.header
        if header.kind == "data":
            if frame["iq"][0, -1].real != header.seq:
                raise ValueError(f"frame #{header.seq} came with the samples of another")
            came.append(Came(header.seq, header.lost.frames, time.monotonic()))
        elif header.kind == "eof":
            at_end[0] += header.lost.frames

    killer = Killer(kill, n_kills, seconds / (n_kills + 1)) if kill else None
    summary = graph.run(on_frame={"pass.y": take}, on_ready=killer.start if killer else None, drain_s=60.0)
    if killer is not None:
        killer.join()
    return Outcome(came, at_end[0], summary, killer.times_s if killer is not None else [])


def n_frames(seconds: float) -> int:
    return int(seconds / _PERIOD_S)


class Killer:
    """Kills the process of a worker, again and again."""

    def __init__(self, worker: str, n_kills: int, interval_s: float) -> None:
        self._worker, self._n, self._interval_s = worker, n_kills, interval_s
        self._thread = threading.Thread(target=self._run)
        self.times_s: list[float] = []

    def start(self, control: str) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        for _ in range(self._n):
            time.sleep(self._interval_s)
            for process in psutil.Process(os.getpid()).children():
                line = process.cmdline()
                if "hil.runtime.process" in line and line[-2] == self._worker:
                    self.times_s.append(time.monotonic())
                    process.kill()


def account(came: Sequence[Came], lost_at_end: int, n: int) -> Account:
    """Compare the numbers that came with the losses that were told."""
    silent = too_many = repeated = expected = 0
    seen: set[int] = set()
    for frame in [*came, Came(n, lost_at_end, 0.0)]:
        if frame.seq in seen:
            repeated += 1
            continue
        seen.add(frame.seq)
        untold = frame.seq - expected - frame.lost
        silent += max(0, untold)
        too_many += max(0, -untold)
        expected = frame.seq + 1
    return Account(n + 1 - len(seen), silent, too_many, repeated)


def longest_gap_s(came: Sequence[Came], start_s: float, end_s: float) -> float:
    """The longest time without a frame that ended between two instants."""
    return max((b.time_s - a.time_s for a, b in itertools.pairwise(came) if start_s < b.time_s <= end_s), default=0.0)


def add(
    report: Report, case: str, outcome: Outcome, seconds: float, *, nothing_lost: bool = False, n_kills: int = 0
) -> None:
    """Add the rows of one case."""
    n = n_frames(seconds)
    a = account(outcome.came, outcome.lost_at_end, n)
    if nothing_lost:
        report.add(case, "frames lost", a.missing, "frames", n=n, at_most=0)
    else:
        report.add(case, "frames lost", a.missing, "frames", n=n)
    in_work = n_kills if case.startswith("killed worker") else 0
    report.add(case, "lost and not told by the next frame", a.silent, "frames", n=n, at_most=0)
    report.add(case, "told and not lost", a.too_many, "frames", n=n, at_most=in_work)
    report.add(case, "frames that came twice", a.repeated, "frames", n=n, at_most=0)
    if n_kills:
        ends = [*outcome.killed_s[1:], float("inf")]
        gaps_ms = [longest_gap_s(outcome.came, t, end) * 1e3 for t, end in zip(outcome.killed_s, ends, strict=True)]
        report.add(case, "until frames came again, first kill", gaps_ms[0], "ms", n=1)
        report.add(case, "until frames came again, longest", max(gaps_ms), "ms", n=n_kills)
        restarts = sum(outcome.summary["restarts"].values())
        report.add(case, "restarts", restarts, "times", n=n_kills, at_least=n_kills)


def add_fail(report: Report, edge: EdgeKind) -> None:
    """A full edge whose policy is ``fail`` ends the run with one error."""
    try:
        run(edge, "fail", 1.0, delay_s=10 * _PERIOD_S)
        ended = False
    except EdgeOverflow:
        ended = True
    report.add(f"slow consumer, fail, {edge}", "run ended by an error that names the edge", ended, "", n=1, at_least=1)


def measure_recording(report: Report, seconds: float) -> None:
    """Kill a recorder; what is not in its file is what it had not flushed."""
    with tempfile.TemporaryDirectory(prefix="hil-bench-") as directory:
        path = Path(directory) / "kept.mcap"
        graph = Graph("recording")
        source = graph.add(Paced("src", n_frames=n_frames(seconds), period_s=_PERIOD_S))
        recorder = graph.add(Recorder("recorder", path=str(path)))
        graph.connect("src.iq", "recorder.in0")
        graph.place(source, worker="src").place(recorder, worker="recorder")
        killer = Killer("recorder", 1, seconds / 2)
        graph.run(on_ready=_starter(killer), drain_s=60.0)
        killer.join()
        with McapRecording(path) as recording:
            kept = [(f.header.seq, f.header.lost.frames) for f in recording.frames() if f.header.kind == "data"]
    numbers = [seq for seq, _ in kept]
    holes = [b - a - 1 for a, b in itertools.pairwise(numbers) if b > a + 1]
    case, n = "killed recorder", n_frames(seconds)
    report.add(case, "frames not in the file", n - len(set(numbers)), "frames", n=n)
    report.add(case, "holes in the file", len(holes), "holes", n=1, at_most=1)
    tail_s = max(holes, default=0) * _PERIOD_S
    report.add(case, "unflushed tail", tail_s * 1e3, "ms", n=1, at_most=1500)
    report.add(case, "frames in the file twice", len(numbers) - len(set(numbers)), "frames", n=n, at_most=0)


def _starter(killer: Killer) -> Callable[[str], None]:
    return killer.start


if __name__ == "__main__":
    sys.exit(main())

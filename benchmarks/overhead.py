"""What the runtime adds: an inline edge a frame, and memory in a long run at full rate.

``python -m benchmarks.overhead [--quick] [--json]``. The edge: a worker's own loop runs 1 and then 11 blocks that hand
their input on; a tenth of the difference, less a direct call of the same function, is what one block and its inline
edge cost. The memory: a source floods two consumers in processes of their own, over shared memory and over tcp, for
60 s; resident memory of all processes together, from the first seconds after warm-up to the last.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import psutil

from benchmarks.nodes import IQ_PORT, Pass, Swallow, identity
from benchmarks.report import Report, median_ci95
from benchmarks.transport.graph_nodes import Flood
from hil.frame import Frame, Header
from hil.graph import Graph
from hil.params import Params
from hil.runtime.worker import Worker
from hil.source import Reading, Source

_N_BLOCKS = 10


class Prepared(Source):
    """Frames that were made before."""

    outputs = {"iq": IQ_PORT}
    params: Params

    def fill(self, n_frames: int) -> None:
        x = np.zeros((4, 16), np.complex64)
        first = Frame.of(Header(stream="src.iq", seq=0, host_time_ns=1), iq=(x, "sensor snapshot", "FS"))
        self._frames = [Frame(first.header._replace(seq=n_frames - 1 - k), first.arrays) for k in range(n_frames)]

    def read(self, timeout_s: float) -> Reading:
        return [("iq", self._frames.pop())] if self._frames else None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, 10 s")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    options = parser.parse_args(argv)
    report = Report("overhead", as_json=options.json)
    measure_edge(report, n_rounds=5 if options.quick else 51)
    measure_memory(report, seconds=10.0 if options.quick else 60.0)
    report.finish()
    return 0


def measure_edge(report: Report, n_rounds: int, n_frames: int = 2000) -> None:
    """Time chains of two lengths in turn."""
    edge_us, direct_us = [], []
    for _ in range(n_rounds):
        short, long = chain_seconds(1, n_frames), chain_seconds(1 + _N_BLOCKS, n_frames)
        direct = direct_seconds(n_frames)
        edge_us.append(((long - short) / _N_BLOCKS - direct) / n_frames * 1e6)
        direct_us.append(direct / n_frames * 1e6)
    median, ci95 = median_ci95(edge_us)
    report.add("inline edge and block", "cost a frame", median, "us", n=n_rounds, ci95=ci95, at_most=15.0)
    median, ci95 = median_ci95(direct_us)
    report.add("the function called directly", "cost a frame", median, "us", n=n_rounds, ci95=ci95)


def chain_seconds(n_blocks: int, n_frames: int) -> float:
    """How long a worker takes for ``n_frames`` through ``n_blocks`` and a sink."""
    source = Prepared("src")
    source.fill(n_frames)
    blocks = [Pass(f"b{i}") for i in range(n_blocks)]
    sink = Swallow("sink")
    inline = {("src", "iq"): [("b0", "x")]}
    for i in range(n_blocks):
        inline[f"b{i}", "y"] = [(f"b{i + 1}", "x") if i + 1 < n_blocks else ("sink", "x")]
    upstream = {block.name: 1 for block in (*blocks, sink)}
    worker = Worker([source, *blocks, sink], inline, {}, [], upstream, tick=lambda: None)
    worker.setup()
    worker.open()
    start = time.perf_counter()
    while not worker.finished:
        worker.step(0.0)
    seconds = time.perf_counter() - start
    came = worker.metrics["sink"].frames_in
    worker.close()
    if came != n_frames:
        raise ValueError(f"{came} frames came of {n_frames}")
    return seconds


def direct_seconds(n_frames: int) -> float:
    """How long ``n_frames`` direct calls take."""
    x = np.zeros((4, 16), np.complex64)
    start = time.perf_counter()
    for _ in range(n_frames):
        identity(x)
    return time.perf_counter() - start


def measure_memory(report: Report, seconds: float) -> None:
    """Flood two consumers and look at the resident memory of all processes."""
    graph = Graph("memory")
    source = graph.add(Flood("flood", n_frames=10**12, n_bytes=524288))
    for edge in ("shm", "tcp"):
        sink = graph.add(Swallow(f"sink_{edge}"))
        graph.connect(source, sink, edge="shm" if edge == "shm" else "tcp")
        graph.place(sink, worker=f"sink_{edge}")
    samples: list[tuple[float, dict[str, int]]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            samples.append((time.monotonic(), resident()))

    watcher = threading.Thread(target=watch)
    start = [0.0]

    def ready(control: str) -> None:
        start[0] = time.monotonic()
        watcher.start()

    try:
        summary = graph.run(seconds=seconds, on_ready=ready)
    finally:
        stop.set()
        if watcher.is_alive():
            watcher.join()
    warm = min(10.0, seconds * 0.3)
    kept = [s for t, s in samples if start[0] + warm < t < start[0] + seconds - 0.5]
    if len(kept) < 8:
        raise ValueError(f"memory was seen {len(kept)} times only")
    n = max(2, len(kept) // 8)
    first = np.median([sum(s.values()) for s in kept[:n]])
    last = np.median([sum(s.values()) for s in kept[-n:]])
    frames = summary["frames"]["flood"]
    case = f"{seconds:.0f} s at full rate, {frames} frames of 512 KiB, shm and tcp"
    report.add(case, "growth of resident memory", float(last - first) / 1e6, "MB", n=len(kept), at_most=5.0)
    report.add(case, "resident memory", float(last) / 1e6, "MB", n=len(kept))


def resident() -> dict[str, int]:
    """Resident bytes of this process and its children, shared memory counted where it is mapped."""
    found = {}
    me = psutil.Process(os.getpid())
    for process in (me, *me.children(recursive=True)):
        try:
            found[f"{process.pid}"] = process.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile
    return found


if __name__ == "__main__":
    sys.exit(main())

"""How many position frames a second, and how soon is a fault in the map? Part of :mod:`benchmarks.hi_aware`.

The first on the block alone, one thread, 256 elements, 100 snapshots, 2 % faulty, three targets that move; results are
checked against the truth before they are timed. The second on the live graph: device, block and control plane in their
own processes, faults injected and cleared through the control plane as ``hil ctl`` does, latency counted in frames of
the device from the one that first has the change.
"""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.report import Report, median_ci95
from blocks.hi_aware.hi_aware_block import HiAware
from blocks.subspace.music import NearFieldMusic
from flowgraphs.hi_aware import Device, Settings, build, source_params
from hil.frame import Frame
from hil.runtime.control import ControlClient
from sim_device.device import XlArrayDevice


def measure_stream(report: Report, *, n_changes: int) -> None:
    for pilots in (True, False):
        _rate(report, pilots, n_frames=200)
    _latency(report, n_changes)


def _rate(report: Report, pilots: bool, n_frames: int) -> None:
    device = XlArrayDevice(**source_params(Device(real_time=False, pilots=pilots))["device"])
    block = HiAware("hi_aware")
    seconds, errors, truth = [], [], np.zeros((3, 3))
    for descriptor in device.descriptors():
        if descriptor.header.stream == "iq":
            block.feed("iq", descriptor)
    with threadpool_limits(limits=1):
        for _ in range(n_frames):
            for frame in device.step():
                if frame.header.kind != "data":
                    continue
                if frame.header.stream == "truth":
                    truth = frame["position_m"]
                    continue
                start = time.perf_counter()
                out = dict(block.feed("iq", frame))
                seconds.append(time.perf_counter() - start)
                errors.append(_error_m(out["estimates"], truth))
    worst = float(np.max(errors))
    if worst > 0.2:
        raise RuntimeError(f"a target was {worst:.2f} m off: nothing is timed")
    case = f"N=256, T=100, 2 %, {'pilots' if pilots else 'blind'}"
    median, ci = median_ci95(1 / np.array(seconds[1:]))
    report.add(case, "frames a second after the first", median, "1/s", n=len(seconds) - 1, ci95=ci, at_least=20)
    report.add(case, "slowest frame after the first", 1e3 * max(seconds[1:]), "ms", n=len(seconds) - 1)
    report.add(case, "first frame, everything from nothing", 1e3 * seconds[0], "ms", n=1)
    report.add(case, "position RMSE", float(np.sqrt(np.mean(np.square(errors)))), "m", n=len(errors))


def draw_recovery(folder: Path) -> None:
    """20 neighbours fail at frame 40 and are whole again at frame 80: fault map and position errors, ours and MUSIC
    that knows nothing of faults on the same frames."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    device = XlArrayDevice(**source_params(Device(real_time=False))["device"])
    blocks = {"HiAware": HiAware("hi_aware", map_every=1), "MUSIC": NearFieldMusic("music", n_sources=3)}
    errors: dict[str, list[float]] = {name: [] for name in blocks}
    kinds, truth = [], np.zeros((3, 3))
    for frame in device.descriptors():
        if frame.header.stream == "iq":
            for block in blocks.values():
                block.feed("iq", frame)
    for i in range(120):
        if i == 40:
            device.inject_fault(list(range(100, 120)), "phase")
        if i == 80:
            device.clear_fault(list(range(100, 120)))
        for frame in device.step():
            if frame.header.kind != "data":
                continue
            if frame.header.stream == "truth":
                truth = frame["position_m"]
                continue
            for name, block in blocks.items():
                out = dict(block.feed(next(iter(block.inputs)), frame))
                found = len(out["estimates"]["azimuth_rad"]) == len(truth)
                errors[name].append(_error_m(out["estimates"], truth) if found else np.nan)
                if "faults" in out:
                    kinds.append(out["faults"]["kind"])
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
    top.imshow(np.array(kinds).T != 0, aspect="auto", cmap="Greys", interpolation="nearest", origin="lower")
    top.set_ylabel("element (dark: in the fault map)")
    for name, values in errors.items():
        bottom.semilogy(values, ".-", label=f"{name}, median {np.nanmedian(values):.2g} m", markersize=3)
    bottom.set_xlabel("frame")
    bottom.set_ylabel("error of the worst target, m")
    bottom.grid(True, which="both", alpha=0.3)
    bottom.legend()
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "hi_aware_live.png", dpi=110)
    plt.close(figure)


def _error_m(estimates: Frame, truth_m: Any) -> float:
    """Distance of the worst target."""
    got = estimates["range_m"][:, None] * np.stack(
        [np.sin(estimates["azimuth_rad"]), np.cos(estimates["azimuth_rad"])], axis=1
    )
    return float(np.linalg.norm(got[None] - truth_m[:, None, :2], axis=2).min(axis=1).max())


def _latency(report: Report, n_changes: int) -> None:
    graph = build(Settings(device=Device()))
    told: queue.Queue[tuple[int, int, bool]] = queue.Queue()  # (frame, element, faulty)
    changed: list[tuple[int, frozenset[int]]] = []
    latencies: dict[bool, list[int]] = {True: [], False: []}
    problems: list[BaseException] = []

    def on_map(frame: Frame) -> None:
        if frame.header.kind == "data":
            meta = frame.header.meta
            for key, faulty in (("appeared", True), ("healed", False)):
                for element in meta[key]:
                    told.put((frame.header.seq, int(element), faulty))

    def on_truth(frame: Frame) -> None:
        if frame.header.kind == "event" and frame.header.meta["event"] == "fault":
            changed.append((frame.header.seq, frozenset(frame.header.meta["elements"])))

    def operate(address: str) -> None:
        try:
            with ControlClient(address, 10.0) as client:
                told.get(timeout=60)  # the first frame
                for i in range(n_changes):
                    element = 5 + 23 * i
                    for faulty in (True, False):
                        verb = "sim.inject_fault" if faulty else "sim.clear_fault"
                        extra = {"phase_rad": 0.5 + 0.4 * i} if faulty else {}
                        before = len(changed)
                        client.request(verb, element=element, **extra)
                        seq = next(
                            s for s, e, f in iter(lambda: told.get(timeout=30), None) if (e, f) == (element, faulty)
                        )
                        while len(changed) == before:
                            time.sleep(0.01)
                        latencies[faulty].append(seq - changed[before][0] + 1)
        except BaseException as problem:
            problems.append(problem)
        finally:
            with ControlClient(address, 10.0) as client:
                client.request("stop")

    def start(address: str) -> None:
        threading.Thread(target=operate, args=(address,), daemon=True).start()

    graph.run(seconds=240, on_ready=start, on_frame={"hi_aware.faults": on_map, "sim.truth": on_truth})
    if problems:
        raise problems[0]
    for faulty, name in ((True, "injected"), (False, "removed")):
        worst = max(latencies[faulty])
        report.add(
            "live, N=256, 20 frames/s", f"frames until a fault {name} is in the map", worst, "", n=n_changes, at_most=5
        )

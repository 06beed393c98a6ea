"""The live demonstration: a fault is injected into the running device, the stream shows it, and its recovery."""

import threading

import pytest

from flowgraphs.hi_aware import Device, Settings, build
from hil.errors import ControlError
from hil.runtime.control import ControlClient


def device(**changes):
    return Device(**{"n_elements": 64, "frame_rate_hz": 50.0, "fault_probability": 0.0, "seed": 4, **changes})


@pytest.mark.parametrize("pilots", [True, False])
@pytest.mark.parametrize("shape", [{}, {"array": "ura", "n_elements": 256}], ids=["line", "rectangle"])
def test_positions_and_faults_of_a_run(shape, pilots):
    changes = {"fault_probability": 0.05, "snr_db": 20.0, "pilots": pilots, **shape}
    graph = build(Settings(device=device(real_time=False, **changes)))
    maps, truth = [], []

    def keep_truth(frame):
        if frame.header.kind == "descriptor":
            truth.append(list(frame.header.meta["sim"]["faulty_elements"]))

    def keep_map(frame):
        if frame.header.kind == "data":
            maps.append(list(frame.header.meta["faulty"]))

    summary = graph.run(frames=40, inline=True, on_frame={"hi_aware.faults": keep_map, "sim.truth": keep_truth})
    assert truth[0] and maps[-1] == truth[0]
    evaluated = summary["blocks"]["evaluate"]["stats"] if "blocks" in summary else None
    if evaluated is not None:
        assert evaluated["missed"] == evaluated["false"] == 0


def test_a_fault_injected_while_it_runs_is_in_the_map_and_its_removal_too():
    """By the control plane, as ``hil ctl sim.inject_fault element=7`` does."""
    graph = build(Settings(device=device(snr_db=20.0)))
    seen: list[tuple[int, list[int]]] = []
    changes: list[tuple[int, list[int]]] = []  # what the device says, by the frame from which it holds
    address: list[str] = []
    ready, injected, healed = threading.Event(), threading.Event(), threading.Event()
    problems: list[Exception] = []

    def keep(frame):
        if frame.header.kind == "data":
            seen.append((frame.header.seq, list(frame.header.meta["faulty"])))
            if list(frame.header.meta["appeared"]) == [7]:
                injected.set()
            if list(frame.header.meta["healed"]) == [7]:
                healed.set()
            if len(seen) == 1:
                ready.set()

    def hear(frame):
        if frame.header.kind == "event" and frame.header.meta["event"] == "fault":
            changes.append((frame.header.seq, list(frame.header.meta["elements"])))

    def operate():
        try:
            assert ready.wait(60)
            with ControlClient(address[0], 10.0) as client:
                assert client.request("sim.inject_fault", element=7, phase_rad=1.0) == [7]
                assert injected.wait(30), "the fault is not in the map"
                assert client.request("sim.clear_fault", element=7) == []
                assert healed.wait(30), "the recovery is not in the map"
                client.request("stop")
        except (AssertionError, ControlError) as problem:
            problems.append(problem)
            with ControlClient(address[0], 10.0) as client:
                client.request("stop")

    def start(control):
        address.append(control)
        threading.Thread(target=operate, daemon=True).start()

    graph.run(seconds=90, on_ready=start, on_frame={"hi_aware.faults": keep, "sim.truth": hear})
    assert not problems, problems
    assert [c[1] for c in changes] == [[7], []]
    for (at, elements), wanted in zip(changes, ([7], []), strict=True):
        first = next(seq for seq, faulty in seen if seq >= at and faulty == wanted)
        assert first - at <= 5, f"{elements} was in the map after {first - at} frames"


def test_the_bound_is_beside_every_estimate():
    graph = build(Settings(device=device(real_time=False)))
    frames = {"hi_aware.bounds": [], "hi_aware.estimates": []}

    def keeper(name):
        def keep(frame):
            if frame.header.kind == "data":
                frames[name].append(frame.copy())

        return keep

    graph.run(frames=5, inline=True, on_frame={name: keeper(name) for name in frames})
    for bound, estimate in zip(*frames.values(), strict=True):
        assert bound.header.seq == estimate.header.seq and estimate.header.calibration == "valid"
        # the estimate's own covariance is the bound, wider where the rows have more noise than the receiver
        excess = estimate["polar_covariance"][:, 0, 0] / bound["azimuth_std_rad"] ** 2
        assert (excess >= 1 - 1e-9).all() and (excess < 1.5).all()
        assert (bound["range_std_known_m"] <= bound["range_std_m"] * (1 + 1e-9)).all()

"""A live driver runs in a process that can be killed: the graph goes on with a new one, in a new epoch."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

from flowgraphs import gnodeb_aoa, live_heimdall
from hil.frame import Frame
from hil.graph import Graph
from hil.params import convert_params
from sim_device.servers.gnodeb.server import GnodebServer
from sim_device.servers.heimdall.server import HeimdallServer
from tests.drivers.live_jig import served

SRS = {"n_rb": 51, "n_fft": 1024, "c_srs": 13, "period_slots": 40}


def kraken(uri: str) -> Graph:
    settings = convert_params(live_heimdall.Settings, {"kraken": {"uri": uri}}, "test")
    return live_heimdall.build(settings)


def cell(uri: str) -> Graph:
    feed = {"uri": uri, "n_rb": 51, "n_subcarriers": 576}
    return gnodeb_aoa.build(convert_params(gnodeb_aoa.Settings, {"feed": feed}, "test"))


CASES = {
    "kraken.iq": (HeimdallServer, {"n_samples": 4096, "loop_ticks": 65536, "calibration_s": 0.05}, kraken),
    "gnodeb.cfr": (GnodebServer, {"srs": SRS, "loop_occasions": 2}, cell),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("output", CASES)
def test_another_driver_takes_the_place_of_one_that_dies_or_hangs(output: str, how: signal.Signals) -> None:
    """SIGSTOP is a driver that hangs: the supervisor finds it silent, kills it and starts another."""
    server, params, build = CASES[output]
    worker, seen = output.partition(".")[0], []

    def hit_once(frame: Frame) -> None:
        if frame.header.kind == "data":
            seen.append(frame.header)
            if len(seen) == 10:
                for child in psutil.Process().children():
                    if "hil.runtime.process" in child.cmdline() and worker in child.cmdline():
                        os.kill(child.pid, how)

    told: dict[str, Any] = {}
    with served(server, **params) as device:
        graph = build(device.uri)
        graph.place(worker, worker=worker, hang_timeout_s=2.0)
        told = graph.run(seconds=25, frames=60, on_frame={output: hit_once})
    assert told["restarts"] == {worker: 1}
    epochs = [header.epoch for header in seen]
    assert epochs == sorted(epochs) and epochs[-1] > epochs[0]
    numbers = [header.seq for header in seen]
    assert numbers == sorted(set(numbers)) and len(numbers) > 20

"""``hil record`` of a device that goes while it runs, and comes back: the file tells of it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hil.record import describe_recording
from tests.hil.cli.running import hil, start


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def simulated(port: int) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = start("sim", "gnodeb", "--port", str(port), "--set", "loop_occasions=2", "--json")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=60)[1]
    return process, json.loads(line)


def end(process: subprocess.Popen[str], how: signal.Signals) -> int:
    process.send_signal(how)
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.slow
def test_a_device_that_dies_and_returns_is_in_the_recording(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    device, addresses = simulated(port)
    path = tmp_path / "run.mcap"
    recorder = start(
        "record", "--driver", "oai_tracer", "--uri", addresses["uri"], str(path), "--json", stdout=subprocess.DEVNULL
    )
    try:
        wait_for_frames(path, 5, epoch=0)
        assert end(device, signal.SIGKILL) == -signal.SIGKILL
        device, _ = simulated(port)
        wait_for_frames(path, 10, epoch=1)
        recorder.send_signal(signal.SIGINT)
        _, errors = recorder.communicate(timeout=60)
        assert recorder.returncode == 0, errors
    finally:
        recorder.kill()
        recorder.communicate()
        end(device, signal.SIGINT)
    told = json.loads(hil("inspect", str(path), "--json").stdout)
    stream = told["streams"]["device.cfr"]
    assert stream["events"]["disconnected"] >= 1 and stream["events"]["reconnect"] == 1
    assert stream["epochs"] == [0, 1] and stream["frames"] >= 10 and told["closed"]


def wait_for_frames(path: Path, n: int, epoch: int, timeout_s: float = 60.0) -> None:
    """The file is readable while it is written."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if path.exists() and path.stat().st_size:
            stream = describe_recording(path)["streams"].get("device.cfr", {"frames": 0, "epochs": []})
            if stream["frames"] >= n and epoch in stream["epochs"]:
                return
        time.sleep(0.2)
    raise AssertionError(f"{path} did not come to {n} frames and epoch {epoch} in {timeout_s} s")

"""``hil sim``: each family of devices is served, noted and told how to reach."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.live import LiveDriver
from hil.cli.families import FAMILIES, Family, record_command
from hil.cli.flowgraph import load_flowgraph
from hil.cli.settings import build_settings
from hil.runtime import registry
from tests.hil.cli.running import hil, start


@pytest.fixture(autouse=True)
def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others run on this host is not found."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@contextmanager
def simulated(*words: str) -> Iterator[tuple[dict[str, Any], Any]]:
    process = start("sim", *words, "--json")
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, process.communicate(timeout=60)[1]
        yield json.loads(line), process
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


WHERE = {"usrp": ("--set", "host=auto")}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "ad9361" else pytest.mark.slow) for n in FAMILIES])
def test_every_family_is_served_and_noted(name: str) -> None:
    with simulated(name, *WHERE.get(name, ("--port", "0"))) as (addresses, process):
        note = registry.running()[0]
        assert (note["name"], note["kind"], note["uri"]) == (name, "device", addresses["uri"])
        told = json.loads(hil("ctl", name, "describe").stdout)
        assert told["uri"] == addresses["uri"] and told["faults"]
        assert note["pid"] == process.pid == addresses["pid"]
        commands = FAMILIES[name].commands(addresses["uri"])
        assert not any("{" in c and "{uri}" in c for c in commands)
        assert commands[-1].startswith(record_command(FAMILIES[name].driver, addresses["uri"]))


def test_commands_are_for_copying(tmp_path: Path) -> None:
    process = start("sim", "heimdall", "--port", "0", "--set", "version=2")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    process.communicate()
    assert "?version=2" in lines[0]
    assert "krakensdr_doa: DAQ IP address 127.0.0.1" in lines[1]
    assert "hil run live_heimdall --set kraken.uri='heimdall://127.0.0.1:" in lines[2]  # & would end it in a shell
    assert "hil record --driver heimdall --uri 'heimdall://127.0.0.1:" in lines[3]
    assert lines[4].startswith("  hil ctl tcp://")


@pytest.mark.parametrize("name", [n for n, family in FAMILIES.items() if family.receiver is not None])
def test_the_receiver_of_each_family_is_one(name: str) -> None:
    """Its flowgraph takes the settings that are told, and has no simulated device of its own then."""
    family = FAMILIES[name]
    assert family.receiver is not None
    flowgraph, *settings = family.receiver.format(uri="URI", channels=4).split(" --set ")
    loaded = load_flowgraph(flowgraph)
    graph = loaded.build(build_settings(loaded.settings, settings, name))
    source = next(node for node in graph.nodes.values() if isinstance(node, LiveDriver))
    assert (source.params.uri, source.params.embedded) == ("URI", False)


def test_what_is_given_goes_on_top_of_the_scene_of_a_family() -> None:
    family = FAMILIES["iio"]
    params = family.with_parameters({"loop_ticks": None, "device": {"array": {"kind": "ula", "n": 256}}})
    assert params["loop_ticks"] is None and params["model"] == "iio"
    assert params["device"]["array"]["n"] == 256 and len(params["device"]["sources"]) == 1


def test_settings_are_listed_with_those_of_the_array_and_the_faults() -> None:
    text = hil("sim", "heimdall", "--help-settings").stdout
    assert "calibration_s" in text and "device.sources" in text and "2400000.0" in text
    assert "hil ctl heimdall fault kind=KIND: stall," in text
    assert "sources" in hil("sim", "xl-array", "--help-settings").stdout


def test_ports() -> None:
    heimdall = FAMILIES["heimdall"]
    assert heimdall.settings_for_port(None, {}) == {"port": 5000, "control_port": 5001}
    assert heimdall.settings_for_port(None, {"version": 2}) == {"port": 8091, "control_port": 8092}
    assert heimdall.settings_for_port(0, {"version": 2}) == {"port": 0, "control_port": 0}
    assert FAMILIES["ad9361"].settings_for_port(None, {}) == {"port": 30431}
    assert FAMILIES["usrp"].settings_for_port(None, {}) == {}


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        ("ip:10.0.0.7:30431", "at 10.0.0.7 30431"),
        ("tcp://gnb.lan:2021", "at gnb.lan 2021"),
        ("gnuradio://h:5555,5556?vlen=4", "at h 5555"),
    ],
)
def test_addresses_are_taken_apart(uri: str, command: str) -> None:
    assert Family("m", "d", 1, clients=("at {host} {port}",)).commands(uri)[0] == command


def test_refusals() -> None:
    unknown = hil("sim", "toaster")
    assert unknown.exit_code == 1 and "ad9361" in unknown.stderr and "srsran" in unknown.stderr
    assert "--set host=" in hil("sim", "usrp", "--port", "7").stderr
    assert "--endpoint" in hil("sim", "xl-array", "--port", "7").stderr
    assert "--port" in hil("sim", "iio", "--endpoint", "tcp://127.0.0.1:*").stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = hil("sim", "ad9361", "--port", str(taken.getsockname()[1]))
    assert refused.exit_code == 1 and "cannot be bound" in refused.stderr

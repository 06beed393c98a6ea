"""The flowgraph as drawn, and runs of it against its protocol server."""

import math

import pytest

from flowgraphs.live_iio import Settings, build
from hil.cli.settings import build_settings
from tests.hil.cli.running import check_records, hil, lines_of
from tests.sim_device.servers.iiod_running import running_iiod

pytest.importorskip("adi", reason="pip install 'hil-receiver[iio]'")


def distance_m(record, x_m, y_m):
    """From the one source that was found to where it is."""
    (source,) = record["sources"]
    return math.dist((source["x_m"], source["y_m"]), (x_m, y_m))


def test_a_real_device_takes_the_place_of_the_simulated_one():
    graph = build(build_settings(Settings, ["radio.uri=ip:192.168.2.1", "radio.gain_db=40"], "test"))
    graph.validate()
    params = graph.nodes["radio"].params
    assert (params.uri, params.embedded, params.gain_db) == ("ip:192.168.2.1", False, 40.0)


def test_the_simulated_device_is_what_the_radio_is_set_to():
    graph = build(build_settings(Settings, ["simulated.model=fmcomms5", "radio.array.n=4"], "test"))
    assert set(graph.exposed) == {"positions", "iq", "estimates"}
    assert graph.nodes["radio"].params.device["model"] == "fmcomms5"


def test_run_gives_the_position_of_the_source():
    result = hil("run", "live_iio", "--json", "--frames", "12", "--set", "simulated.real_time=false")
    assert result.exit_code == 0, result.stderr
    records, summary = lines_of(result.stdout)
    check_records(records)
    assert summary["frames"] == 12
    assert distance_m(records[-1], 0.4, 1.1) < 0.05


def test_run_reads_a_server_that_runs():
    source = {"id": 1, "motion": {"kind": "stand", "position_m": [-0.3, 1.0, 0.0]}, "power_db": -20.0}
    device = {
        "array": {"kind": "ula", "n": 8}, "sources": [source], "frequency_hz": 2.45e9, "noise_power_db": -50.0
    }  # fmt: skip
    with running_iiod(model="iio", loop_ticks=32768, device=device) as server:
        result = hil("run", "live_iio", "--json", "--frames", "6", "--set", f"radio.uri={server.uri}")
    assert result.exit_code == 0, result.stderr
    records, _ = lines_of(result.stdout)
    assert distance_m(records[-1], -0.3, 1.0) < 0.05

"""The flowgraph as drawn, and a run of it through the real UHD."""

from __future__ import annotations

import math

import pytest

from drivers.uhd_interpreter import first_usable
from flowgraphs.live_uhd import Settings, build
from hil.cli.settings import build_settings
from tests.hil.cli.running import check_records, hil, lines_of


def test_the_drawing_is_whole_and_exposes_what_commands_look_for() -> None:
    graph = build(Settings())
    graph.validate()
    assert set(graph.exposed) == {"positions", "iq", "estimates"}
    device = graph.nodes["radio"].params.device  # type: ignore[attr-defined]
    assert device["host"] == "auto" and device["device"]["frequency_hz"] == 2.45e9


def test_real_boards_take_the_place_of_simulated_ones() -> None:
    settings = build_settings(Settings, ["radio.uri=addr0=192.168.10.2,addr1=192.168.10.3", "radio.gain_db=40"], "test")
    params = build(settings).nodes["radio"].params
    assert params.uri == "addr0=192.168.10.2,addr1=192.168.10.3"  # type: ignore[attr-defined]
    assert (params.embedded, params.gain_db) == (False, 40.0)  # type: ignore[attr-defined]


@pytest.mark.skipif(first_usable() is None, reason="needs Debian's python3-uhd")
def test_run_finds_the_source_in_the_near_field() -> None:
    result = hil("run", "live_uhd", "--json", "--frames", "25")
    assert result.exit_code == 0, result.stderr
    records, summary = lines_of(result.stdout)
    check_records(records)
    assert summary["frames"] == len(records) == 25
    assert summary["lost"]["frames"] == 0
    for record in records[5:]:
        (source,) = record["sources"]
        assert math.dist((source["x_m"], source["y_m"]), (0.4, 1.1)) < 0.02

"""The flowgraph as drawn, and runs of it against the simulated base station: T tracer, record file, FAPI."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest

from flowgraphs.gnodeb_aoa import Settings, build
from hil.cli.settings import build_settings
from hil.errors import GraphError
from sim_device.servers.gnodeb.server import GnodebServer
from tests.drivers.live_jig import served
from tests.hil.cli.running import check_records, hil, lines_of

#: Of the three terminals of the simulated cell, by RNTI.
AZIMUTH_RAD = {0x4601: 0.4, 0x4602: -0.3, 0x4603: 0.1}
CARRIER = ("--set", "feed.n_rb=51", "--set", "feed.n_subcarriers=576")
SRS = {"n_rb": 51, "n_fft": 1024, "c_srs": 13, "period_slots": 40}


def azimuths(text: str) -> dict[int, float]:
    """The last one of each terminal."""
    records, _ = lines_of(text)
    check_records(records)
    return {source["id"]: source["azimuth_rad"] for record in records for source in record["sources"]}


def near(found: dict[int, float]) -> None:
    assert set(found) == set(AZIMUTH_RAD)
    for rnti, azimuth in AZIMUTH_RAD.items():
        assert found[rnti] == pytest.approx(azimuth, abs=math.radians(1.0)), hex(rnti)


def test_the_drawing_is_whole_and_exposes_what_commands_look_for() -> None:
    graph = build(Settings())
    graph.validate()
    assert set(graph.exposed) == {"estimates", "estimates_dbf", "spectrum", "cfr"}


@pytest.mark.parametrize(
    ("assignments", "kind"),
    [
        (["feed.uri=tcp://gnb:2021"], "OaiTracer"),
        (["feed.protocol=fapi", "feed.uri=udp://0.0.0.0:9000", "feed.fapi_profile=packed"], "Fapi"),
        (["feed.path=trace.raw"], "OaiTracerFile"),
    ],
)
def test_a_real_feed_takes_the_place_of_the_simulated_one(assignments: list[str], kind: str) -> None:
    source: Any = build(build_settings(Settings, assignments, "test")).nodes["gnodeb"]
    assert type(source).__name__ == kind and not getattr(source.params, "embedded", False)


def test_a_file_and_an_address_at_once_are_refused() -> None:
    settings = build_settings(Settings, ["feed.path=trace.raw", "feed.uri=tcp://gnb:2021"], "test")
    with pytest.raises(GraphError, match=r"leave out feed\.uri"):
        build(settings)


def test_run_finds_the_terminals_of_a_server_that_runs() -> None:
    with served(GnodebServer, srs=SRS, loop_occasions=4) as base:
        result = hil("run", "gnodeb_aoa", "--json", "--frames", "12", "--set", f"feed.uri={base.uri}", *CARRIER)
    assert result.exit_code == 0, result.stderr
    near(azimuths(result.stdout))


@pytest.mark.slow
def test_run_finds_the_terminals_of_a_record_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.raw"
    with served(GnodebServer, srs=SRS, record_to=str(path), device={"real_time": False}) as base:
        while base.control.request("stats")["occasions"] < 12:
            pass
    result = hil("run", "gnodeb_aoa", "--json", "--set", f"feed.path={path}", *CARRIER)
    assert result.exit_code == 0, result.stderr
    near(azimuths(result.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["nfapi", "nfapi-18", "packed"])
def test_run_finds_the_terminals_by_fapi_in_each_byte_order(profile: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(GnodebServer, srs=SRS, loop_occasions=4, fapi_to=f"127.0.0.1:{port}", fapi_profile=profile):
        words = ["feed.protocol=fapi", f"feed.uri=udp://127.0.0.1:{port}", f"feed.fapi_profile={profile}"]
        settings = [word for assignment in words for word in ("--set", assignment)]
        result = hil("run", "gnodeb_aoa", "--json", "--frames", "12", *settings, *CARRIER)
    assert result.exit_code == 0, result.stderr
    near(azimuths(result.stdout))

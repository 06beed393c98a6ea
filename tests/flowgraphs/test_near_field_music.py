"""The flowgraph as drawn, and a run of it against the truth and the bound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.near_field_music import bootstrap_ratio, run_case
from flowgraphs.near_field_music import Settings, build
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.cli.settings import build_settings
from hil.errors import ParamError
from hil.wavefront import wavelength_m
from tests.hil.cli.running import check_records, hil, lines_of


@pytest.mark.parametrize("motion", ["apart", "crossing"])
def test_the_paths_lie_between_fresnel_and_half_the_fraunhofer_distance(motion: str) -> None:
    graph = build(build_settings(Settings, [f"device.motion={motion}"], "test"))
    graph.validate()
    device = graph.nodes["sim"].params.device  # type: ignore[attr-defined]
    wavelength = wavelength_m(5e9)
    aperture = ArrayGeometry.ula(64, wavelength / 2).aperture_m
    azimuths = []
    for source in device["sources"]:
        path = np.array(source["motion"]["points_m"])
        range_m = np.linalg.norm(path, axis=-1)
        assert range_m.min() > fresnel_distance(aperture, wavelength)
        assert range_m.max() < fraunhofer_distance(aperture, wavelength) / 2
        azimuths.append(np.arctan2(path[:, 0], path[:, 1]))
    gap = np.degrees(azimuths[1].min() - azimuths[0].max())
    assert gap > 12 if motion == "apart" else gap < 0


def test_the_drawing_exposes_what_commands_look_for() -> None:
    graph = build(Settings())
    assert set(graph.exposed) == {"positions", "truth", "iq", "estimates", "spectrum"}
    assert graph.nodes["sim"].params.device["noise_power_db"] == -30.0  # type: ignore[attr-defined]


def test_a_running_array_takes_the_place_of_the_simulated_one() -> None:
    graph = build(build_settings(Settings, ["device.endpoint=tcp://127.0.0.1:5555"], "test"))
    params = graph.nodes["sim"].params
    assert (params.endpoint, params.embedded) == ("tcp://127.0.0.1:5555", False)  # type: ignore[attr-defined]


def test_sources_of_ones_own_are_checked() -> None:
    with pytest.raises(ParamError, match="motion"):
        build_settings(Settings, ['device.sources=[{"id": 1}]'], "test")


def test_run_gives_positions_with_identities(tmp_path: Path) -> None:
    result = hil(
        "run", "near_field_music", "--json", "--frames", "60", "--set", "device.real_time=false",
        "--record", str(tmp_path / "r.mcap"),
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    records, summary = lines_of(result.stdout)
    check_records(records)
    assert summary["frames"] == len(records) == 60
    assert all({s["id"] for s in r["sources"]} == {0, 1} for r in records[10:])
    assert all(len(r["truth"]) == 2 for r in records[:-2])
    assert all(r["calibration"] == "none" for r in records)
    assert summary["false"] == 0 and summary["evaluation"]["tracked"]["id_switches"] == 0
    assert set(summary["latency"]["stages"]) >= {"music", "cartesian", "tracker"}
    assert summary["latency"]["end_to_end"]["p50_ms"] > 0

    # the recording through the same receiver: the same positions, bit for bit
    again, _ = lines_of(hil("replay", str(tmp_path / "r.mcap"), "--into", "near_field_music", "--json").stdout)
    assert [r["sources"] for r in again] == [r["sources"] for r in records]


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["apart", "wander"])
def test_single_frames_reach_the_bound_and_tracks_are_better(motion: str) -> None:
    single, tracks, summary = run_case([f"device.motion={motion}"], 500)
    assert single.n_missed == 0
    ratio, _ = bootstrap_ratio(single, single.range_error_m**2, single.range_crb_m2, np.random.default_rng(0))
    assert ratio < 1.3
    assert np.mean(tracks.distance_m**2) < np.mean(single.distance_m**2) / 2
    assert tracks.n_missed <= 2 * 3  # until they are confirmed
    assert summary["nodes"]["tracked"]["stats"]["id_switches"] == 0


@pytest.mark.slow
def test_the_benchmark_gives_rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import near_field_music

    monkeypatch.setattr("sys.argv", ["near_field_music", "--quick", "--json"])
    near_field_music.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {r["benchmark"] for r in rows} == {"near_field_music"}
    named = [r for r in rows if r["metric"] == "CRB of range"]
    assert named[0]["value"] == pytest.approx(0.020, rel=0.03)  # the figure asked for at 10 m

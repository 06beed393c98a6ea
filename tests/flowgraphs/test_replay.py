"""Any recording through any estimator: what is drawn for which recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowgraphs.replay import Settings, build
from hil.array import ArrayGeometry
from hil.cli.settings import build_settings
from hil.descriptor import descriptor_frame
from hil.errors import GraphError, RecordingError
from hil.frame import Frame, Header
from hil.graph import Graph
from hil.record.writer import open_writer
from hil.wavefront import wavelength_m
from tests.hil.cli.running import check_records, hil, lines_of

_FREQUENCY_HZ = 5e9
_POSITION_M = np.array([[2.0, 12.0, 0.0]])


def record(path: Path, *, truth: bool, n_frames: int = 12) -> str:
    """One standing source, written as a device would."""
    rng = np.random.default_rng(3)
    wavelength = wavelength_m(_FREQUENCY_HZ)
    array = ArrayGeometry.ula(32, wavelength / 2)
    path_m = np.linalg.norm(_POSITION_M - array.position_m, axis=-1)
    a = np.exp(-2j * np.pi * (path_m - np.hypot(2, 12)) / wavelength) * np.hypot(2, 12) / path_m
    writer = open_writer(path)
    for k in range(n_frames):
        header = Header(
            stream="dev.iq", seq=k, time_ns=10**7 * k, timebase="device", frequency_hz=_FREQUENCY_HZ,
            sample_rate_hz=1e6, sample_start=10_000 * k, array_id=array.array_id,
        )  # fmt: skip
        if k == 0:
            writer.write(descriptor_frame(header, array))
        waveform = rng.normal(size=(2, 50)) @ np.diag(np.full(50, np.sqrt(0.5)))
        noise = rng.normal(size=(2, 32, 50)) * 0.05
        iq = np.outer(a, waveform[0] + 1j * waveform[1]) + noise[0] + 1j * noise[1]
        writer.write(Frame.of(header, iq=(iq.astype(np.complex64), "sensor snapshot", "FS")))
        if truth:
            header = header.replace(stream="dev.truth")
            true = {"position_m": (_POSITION_M, "source xyz", "m"), "id": (np.array([4]), "source", "")}
            writer.write(Frame.of(header, **true))
    writer.close()
    return str(path)


def drawn(path: str, *assignments: str) -> Graph:
    graph = build(build_settings(Settings, [f"path={path}", *assignments], "replay"))
    graph.validate()
    return graph


def test_near_field_recording_to_tracks(tmp_path: Path) -> None:
    path = record(tmp_path / "r.mcap", truth=True)
    result = hil("replay", path, "--estimator", "near_field_music", "--set", "parameters.n_sources=1", "--json")
    assert result.exit_code == 0, result.stderr
    records, summary = lines_of(result.stdout)
    check_records(records)
    assert len(records) == 12
    assert records[-1]["sources"][0]["x_m"] == pytest.approx(2.0, abs=0.05)
    assert records[-1]["sources"][0]["y_m"] == pytest.approx(12.0, abs=0.3)
    assert records[-1]["truth"][0]["id"] == 4
    assert set(summary["evaluation"]) == {"single_frame", "tracked"}


def test_what_is_drawn_follows_the_recording(tmp_path: Path) -> None:
    with_truth = record(tmp_path / "a.mcap", truth=True, n_frames=1)
    without = record(tmp_path / "b.mcap", truth=False, n_frames=1)
    assert set(drawn(with_truth).nodes) == {"replay", "estimator", "cartesian", "tracker", "single_frame", "tracked"}
    assert set(drawn(without).nodes) == {"replay", "estimator", "cartesian", "tracker"}
    assert drawn(without, "until=positions").exposed["positions"] == "cartesian.positions"
    assert set(drawn(without, "until=estimates").nodes) == {"replay", "estimator"}
    far = drawn(with_truth, "estimator=far_field_music")
    assert "positions" not in far.exposed and far.exposed["estimates"] == "estimator.estimates"
    own = drawn(without, "estimator=blocks.subspace.music:NearFieldMusic", 'parameters={"n_sources": 2}')
    assert own.nodes["estimator"].params.n_sources == 2  # type: ignore[attr-defined]


def test_far_field_estimates_are_printed_without_positions(tmp_path: Path) -> None:
    path = record(tmp_path / "r.mcap", truth=False)
    result = hil("replay", path, "--estimator", "far_field_music", "--set", "parameters.n_sources=1", "--json")
    assert result.exit_code == 0, result.stderr
    records, _ = lines_of(result.stdout)
    check_records(records)
    source = records[0]["sources"][0]
    assert source["azimuth_rad"] == pytest.approx(np.arctan2(2, 12), abs=0.02)
    assert source["range_m"] is None and source["x_m"] is None and records[0]["truth"] is None


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        (
            "estimator=guess",
            "no estimator 'guess': expected near_field_music, far_field_music, or package.module:Class",
        ),
        ("estimator=blocks.none:Guess", "no estimator 'blocks.none:Guess'"),
        ("estimator=hil.array:ArrayGeometry", "is no block"),
        ("input=rf", "has no stream 'rf', it has iq, truth: give the setting input"),
    ],
)
def test_refusals(tmp_path: Path, assignment: str, match: str) -> None:
    path = record(tmp_path / "r.mcap", truth=True, n_frames=1)
    with pytest.raises((GraphError, RecordingError), match=match):
        drawn(path, assignment)

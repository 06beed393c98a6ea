"""DCD-MUSIC beside plain 2D MUSIC, live on coherent sources, with the weights that are shipped."""

from __future__ import annotations

from tests.hil.cli.running import hil, lines_of


def test_a_run_places_both_coherent_sources() -> None:
    result = hil("run", "dcd_music", "--json", "--frames", "60", "--set", "device.real_time=false")
    assert result.exit_code == 0, result.stderr
    records, summary = lines_of(result.stdout)
    assert len(records) == 60
    assert all(len(r["sources"]) == 2 for r in records)
    network = summary["evaluation"]["network_error"]
    assert network["missed"] == network["false"] == 0
    assert network["median_error_m"] < 0.15
    assert set(summary["evaluation"]) == {"network_error", "music_error"}

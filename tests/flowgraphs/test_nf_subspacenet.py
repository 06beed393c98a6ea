"""The network beside plain 2D MUSIC, live on coherent sources, with the weights that are shipped."""

from __future__ import annotations

from flowgraphs.nf_subspacenet import Settings, build
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.wavefront import wavelength_m
from tests.hil.cli.running import hil, lines_of


def test_the_paths_lie_between_fresnel_and_half_the_fraunhofer_distance() -> None:
    graph = build(Settings())
    graph.validate()
    wavelength = wavelength_m(300e6)
    aperture = ArrayGeometry.ula(15, wavelength / 2).aperture_m
    for source in graph.nodes["sim"].params.device["sources"]:  # type: ignore[attr-defined]
        ranges = [sum(c * c for c in point) ** 0.5 for point in source["motion"]["points_m"]]
        assert min(ranges) > fresnel_distance(aperture, wavelength)
        assert max(ranges) < fraunhofer_distance(aperture, wavelength) / 2
        assert source["group"] == 1


def test_a_run_places_both_coherent_sources() -> None:
    result = hil("run", "nf_subspacenet", "--json", "--frames", "60", "--set", "device.real_time=false")
    assert result.exit_code == 0, result.stderr
    records, summary = lines_of(result.stdout)
    assert len(records) == 60
    assert all(len(r["sources"]) == 2 for r in records)
    network = summary["evaluation"]["network_error"]
    assert network["missed"] == network["false"] == 0
    assert network["median_error_m"] < 0.15
    assert set(summary["evaluation"]) == {"network_error", "music_error"}

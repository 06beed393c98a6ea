"""The network beside plain 2D MUSIC, live on coherent sources, with the weights that are shipped."""

from __future__ import annotations

import pytest

from flowgraphs.nf_subspacenet import Settings, build
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.wavefront import wavelength_m
from tests.hil.cli.running import hil, lines_of

WEIGHTS = {"nf_subspacenet": "nf_subspacenet_n64_shifted", "dcd_music": "dcd_music_n64_shifted"}


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


@pytest.mark.parametrize("flowgraph", ["nf_subspacenet", "dcd_music"])
def test_weights_that_learned_where_the_elements_are_serve_the_array_that_is_off(flowgraph: str) -> None:
    """64 elements, each off by up to a quarter of a wavelength: nobody tells 2D MUSIC."""
    device = {"n_elements": "64", "frequency_hz": "5e9", "displacement_wavelengths": "0.25", "real_time": "false"}
    settings = [word for k, v in device.items() for word in ("--set", f"device.{k}={v}")]
    settings += ["--set", f"network.weights={WEIGHTS[flowgraph]}"]
    result = hil("run", flowgraph, "--json", "--frames", "30", *settings)
    assert result.exit_code == 0, result.stderr
    _, summary = lines_of(result.stdout)
    network, music = (summary["evaluation"][f"{name}_error"] for name in ("network", "music"))
    assert network["missed"] == network["false"] == 0
    assert network["rmse_m"] < music["rmse_m"] / 4

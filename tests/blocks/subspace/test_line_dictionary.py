"""The FFT search of lines against the dictionary written out, on the exact wavefront."""

import numpy as np
import pytest

from blocks.subspace.dictionary import Grid, steering_dictionary
from blocks.subspace.fresnel_grid import fresnel_reach
from blocks.subspace.line_dictionary import line_dictionary, suits_line_dictionary
from blocks.subspace.near_field_music import near_field_music_samples
from hil.array import ArrayGeometry
from hil.errors import ParamError
from tests.blocks.subspace.scene import LAMBDA, snapshots


def both(n, **limits):
    array = ArrayGeometry.ula(n, LAMBDA / 2)
    grid = Grid.coarse(array, LAMBDA, **limits)
    assert suits_line_dictionary(array, LAMBDA, grid)
    return array, steering_dictionary(array, LAMBDA, grid), line_dictionary(array, LAMBDA, grid)


@pytest.mark.parametrize("n", [32, 128, 256])
def test_estimates_are_those_of_the_dictionary_wherever_the_sources_are(n):
    array, written_out, by_fft = both(n)
    rng = np.random.default_rng(n)
    nearest = written_out.grid.range_min_m
    for _ in range(12):
        azimuth = np.arcsin(np.array([-0.75, -0.2, 0.6]) + rng.uniform(-0.15, 0.15, 3))
        x = snapshots(array, azimuth, nearest / rng.uniform(0, 1, 3), 10, 60, rng).x
        one, other = (near_field_music_samples(x, d, 3) for d in (written_out, by_fft))
        assert one.complete and other.complete
        i, j = np.argsort(one.azimuth_rad), np.argsort(other.azimuth_rad)
        deviation = np.sqrt(np.einsum("sii->si", one.covariance))[i]
        assert (np.abs(one.azimuth_rad[i] - other.azimuth_rad[j]) < 0.05 * deviation[:, 0]).all()
        assert (np.abs(one.inverse_range_per_m[i] - other.inverse_range_per_m[j]) < 0.05 * deviation[:, 1]).all()


@pytest.mark.parametrize("sine", [-0.85, -0.577, 0.0, 0.577, 0.85])
@pytest.mark.parametrize("n", [64, 256, 1024])
def test_a_source_at_the_nearest_range_shows_on_the_grid(n, sine):
    """By sectors: without them the cubic phase of 3 rad and more at 256 elements takes the peak apart."""
    array = ArrayGeometry.ula(n, LAMBDA / 2)
    nearest = 1.001 * fresnel_reach(array.aperture_m, LAMBDA)
    by_fft = line_dictionary(array, LAMBDA, Grid.coarse(array, LAMBDA, range_min_m=nearest))
    place = nearest * np.array([sine, np.sqrt(1 - sine**2), 0])
    r_m = np.linalg.norm(array.position_m - place, axis=1)
    a = np.exp(-2j * np.pi / LAMBDA * (r_m - nearest)) * nearest / r_m
    signal = (a / np.linalg.norm(a))[:, None]
    projection = by_fft.projection(signal)
    assert projection.max() > 0.5
    azimuth, k = by_fft.point(np.array([projection.argmax()]))
    assert abs(np.sin(azimuth[0]) - sine) < 1.0 * 2 / n, "within half a beam"
    assert 0.5 < k[0] * nearest <= 1


def test_close_sources_are_separated_by_likelihood_too():
    array, written_out, by_fft = both(128)
    rng = np.random.default_rng(5)
    r = 2 * written_out.grid.range_min_m
    x = snapshots(array, [0.2, 0.2 + 0.35 * 2 / 128], [r, r], 20, 200, rng).x
    one, other = (near_field_music_samples(x, d, 2) for d in (written_out, by_fft))
    assert one.complete and other.complete
    np.testing.assert_allclose(np.sort(other.azimuth_rad), np.sort(one.azimuth_rad), atol=1e-5)


def test_nothing_is_found_beyond_the_azimuth_limit():
    array, _, by_fft = both(128, azimuth_limit_rad=0.5)
    x = snapshots(array, [0.2, 0.9], [np.inf, np.inf], 10, 60, np.random.default_rng(6)).x
    found = near_field_music_samples(x, by_fft, 2)
    np.testing.assert_allclose(found.azimuth_rad[found.resolved], [0.2], atol=1e-3)


def test_what_it_does_not_suit():
    line = ArrayGeometry.ula(64, LAMBDA / 2)
    grid = Grid.coarse(line, LAMBDA)
    uneven = ArrayGeometry(position_m=line.position_m + 1e-3 * np.eye(64)[:, :3])
    turned = ArrayGeometry.ula(64, LAMBDA / 2, channel_map=tuple(reversed(range(64))))
    sparse = ArrayGeometry.ula(64, LAMBDA)
    assert suits_line_dictionary(line, LAMBDA, grid)
    for array in (uneven, turned, sparse, ArrayGeometry.uca(8, 0.1)):
        assert not suits_line_dictionary(array, LAMBDA, grid)
    assert suits_line_dictionary(line, LAMBDA, Grid.coarse(line, LAMBDA, far_field_only=True))
    for other in (
        Grid.coarse(line, LAMBDA, elevation_rad=0.1),
        Grid.coarse(line, LAMBDA, range_min_m=0.99 * fresnel_reach(line.aperture_m, LAMBDA)),
    ):
        assert not suits_line_dictionary(line, LAMBDA, other)
    with pytest.raises(ParamError, match="where Fresnel waves fail"):
        line_dictionary(line, LAMBDA, Grid.coarse(line, LAMBDA, range_min_m=0.1))

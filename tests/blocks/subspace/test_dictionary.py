"""Grids and dictionaries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.subspace.dictionary import Grid, steering_dictionary
from hil.array import ArrayGeometry, fresnel_distance
from hil.errors import ParamError
from hil.wavefront import steering_vector_polar
from tests.blocks.subspace.scene import LAMBDA

ULA = ArrayGeometry.ula(32, LAMBDA / 2)


def test_coarse_grid_of_a_line():
    grid = Grid.coarse(ULA, LAMBDA)
    sines = np.sin(grid.azimuth_rad)
    assert sines[0] == -1
    assert sines[-1] == 1
    np.testing.assert_allclose(np.diff(sines), LAMBDA / (2 * ULA.aperture_m), rtol=0.02)
    assert not grid.wraps
    assert grid.inverse_range_per_m[0] == 0
    assert grid.range_m[0] == np.inf
    assert grid.range_m[-1] == pytest.approx(fresnel_distance(ULA.aperture_m, LAMBDA))
    np.testing.assert_allclose(np.diff(grid.inverse_range_per_m), grid.inverse_range_step_per_m)


def test_coarse_grid_of_a_circle_goes_round_once():
    grid = Grid.coarse(ArrayGeometry.uca(8, 0.06), LAMBDA)
    assert grid.wraps
    turn = np.append(grid.azimuth_rad, grid.azimuth_rad[0] + 2 * np.pi)
    np.testing.assert_allclose(np.diff(turn), grid.azimuth_step_rad)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([ULA, ArrayGeometry.ura(8, 4, LAMBDA / 2), ArrayGeometry.uca(12, 0.15)]),
    st.floats(-1.2, 1.2),
    st.floats(0, 1),
)
def test_every_source_has_a_grid_point_in_its_basin(array, azimuth, part):
    """What Grid.coarse promises: the best grid vector correlates with any source's by more than 0.65."""
    dictionary = steering_dictionary(array, LAMBDA)
    k = part * dictionary.inverse_range_per_m[-1]
    a = steering_vector_polar(array.position_m, azimuth, 1 / max(k, 1e-12), LAMBDA, amplitude=True)
    best = np.abs(dictionary.conjugate @ (a / np.linalg.norm(a))).max() ** 2
    assert best > 0.65


def test_dictionary_has_unit_vectors_in_channel_order_and_is_kept():
    array = ArrayGeometry.ula(16, LAMBDA / 2, channel_map=tuple(reversed(range(16))))
    dictionary = steering_dictionary(array, LAMBDA)
    grid = dictionary.grid
    i, j = 5, 2
    a = steering_vector_polar(array.position_m[::-1], grid.azimuth_rad[i], grid.range_m[j], LAMBDA, amplitude=True)
    stored = dictionary.conjugate[i * grid.n_range + j]
    np.testing.assert_allclose(stored, (a / np.linalg.norm(a)).conj(), atol=1e-5)
    assert steering_dictionary(array, LAMBDA) is dictionary
    assert steering_dictionary(ArrayGeometry.from_dict(array.to_dict()), LAMBDA) is dictionary
    assert steering_dictionary(array, LAMBDA * 1.01) is not dictionary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"azimuth_min_rad": 1.0}, "azimuth_min_rad < azimuth_max_rad"),
        ({"azimuth_max_rad": 2.0}, r"<= 1\.571 for sine spacing"),
        ({"range_min_m": 0.0}, "0 < range_min_m < range_max_m, got 0.0 and inf"),
        ({"n_azimuth": 2}, "n_azimuth >= 3"),
    ],
)
def test_refusals(change, message):
    good = {"azimuth_min_rad": -1.0, "azimuth_max_rad": 1.0, "n_azimuth": 9, "spacing": "sine", "range_min_m": 1.0}
    with pytest.raises(ParamError, match=message):
        Grid(**{**good, **change})

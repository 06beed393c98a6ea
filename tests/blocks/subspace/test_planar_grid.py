"""Planar searches: the FFT against the dictionary, batches and torch against single frames, what is a rectangle."""

import numpy as np
import pytest

from blocks.subspace.planar_block import PlanarMusic
from blocks.subspace.planar_grid import planar_grid
from blocks.subspace.planar_music import planar_music, planar_music_batch
from blocks.subspace.rectangle_grid import RectangleGrid, rectangle_grid
from blocks.subspace.spectrum import signal_projection
from blocks.subspace.uniform_rectangle import uniform_rectangle
from hil.array import ArrayGeometry
from hil.errors import ParamError
from tests.blocks.subspace.frames import given, iq_frame, told
from tests.blocks.subspace.scene import LAMBDA

ARRAY = ArrayGeometry.ura(8, 6, LAMBDA / 2)


def waves(array, azimuth, elevation, inverse_range=None):
    """Unit steering vectors ``[..., sensor, source]`` by distances from places far off."""
    k = np.full_like(azimuth, 1e-9) if inverse_range is None else inverse_range
    u = np.stack([np.cos(elevation) * np.sin(azimuth), np.cos(elevation) * np.cos(azimuth), np.sin(elevation)], axis=-1)
    place = u / k[..., None]
    extra = np.linalg.norm(array.position_m[:, None, :] - place[..., None, :, :], axis=-1) - 1 / k[..., None, :]
    return np.exp(-2j * np.pi / LAMBDA * extra) / np.sqrt(len(array.position_m))


def subspaces(n_batch, *, ranged, n_sources=3, seed=0):
    """Orthonormal bases of waves a beam and more apart, turned at random, and the sorted truth."""
    rng = np.random.default_rng(seed)
    azimuth = np.linspace(-0.9, 0.9, n_sources) + rng.uniform(-0.15, 0.15, (n_batch, n_sources))
    elevation = rng.uniform(-0.5, 0.5, (n_batch, n_sources))
    far = 2 * ARRAY.aperture_m**2 / LAMBDA
    k = rng.uniform(1, 4, (n_batch, n_sources)) / far if ranged else None
    mix = rng.normal(size=(n_batch, n_sources, n_sources)) + 1j * rng.normal(size=(n_batch, n_sources, n_sources))
    return np.linalg.qr(waves(ARRAY, azimuth, elevation, k) @ mix)[0], azimuth, elevation, k


def test_the_fft_is_the_projection_of_the_dictionary():
    grid = rectangle_grid(ARRAY, LAMBDA)
    signal, *_ = subspaces(2, ranged=False)
    found = grid.projection(signal)
    assert found.shape == (2, len(grid.v), len(grid.u), 1)
    at_v, at_u = np.nonzero(grid.visible)
    elevation = np.arcsin(grid.v[at_v])
    azimuth = np.arcsin(np.clip(grid.u[at_u] / np.cos(elevation), -1, 1))
    conjugate = np.conj(waves(ARRAY, azimuth, elevation).T)
    np.testing.assert_allclose(found[:, at_v, at_u, 0], signal_projection(conjugate, signal), atol=2e-5)
    assert (found[:, ~grid.visible] == 0).all()
    step = np.diff(grid.u).max() * ARRAY.n_elements / 6
    assert step <= 1 + 1e-9  # half a beam of 8 columns


@pytest.mark.parametrize("ranged", [False, True])
def test_batches_find_what_single_frames_find(ranged):
    torch = pytest.importorskip("torch")
    signal, azimuth, elevation, k = subspaces(12, ranged=ranged)
    grids = [planar_grid(ARRAY, LAMBDA)] if ranged else [rectangle_grid(ARRAY, LAMBDA)]
    grids += [] if ranged else [planar_grid(ARRAY, LAMBDA, far_field_only=True)]
    for grid in grids:
        found = planar_music_batch(signal, grid)
        assert found.resolved.all()
        order = np.argsort(found.azimuth_rad, axis=1)
        np.testing.assert_allclose(np.take_along_axis(found.azimuth_rad, order, 1), azimuth, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(found.elevation_rad, order, 1), elevation, atol=1e-5)
        if ranged:
            np.testing.assert_allclose(np.take_along_axis(found.inverse_range_per_m, order, 1), k, rtol=1e-3)
        tensor = planar_music_batch(torch.tensor(signal), grid)
        np.testing.assert_allclose(np.sort(tensor.azimuth_rad.numpy()), np.sort(found.azimuth_rad), atol=1e-6)
        for one, az in zip(signal, azimuth, strict=True):
            np.testing.assert_allclose(np.sort(planar_music(one, grid).azimuth_rad), az, atol=1e-5)


@pytest.mark.parametrize("ranged", [False, True])
def test_two_sources_that_share_a_maximum_of_the_grid_are_both_found(ranged):
    """Pairs drawn anywhere in front that overlap by less than 0.7: one grid maximum for both now and then."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    azimuth, elevation = rng.uniform(-1, 1, (120, 2)), rng.uniform(-0.7, 0.7, (120, 2))
    k = rng.uniform(1, 8, (120, 2)) * LAMBDA / (2 * ARRAY.aperture_m**2) if ranged else None
    a = waves(ARRAY, azimuth, elevation, k)
    apart = np.abs(np.einsum("bn,bn->b", a[..., 0].conj(), a[..., 1])) < 0.7
    signal, grid = np.linalg.qr(a[apart])[0], planar_grid(ARRAY, LAMBDA, far_field_only=not ranged)
    found = planar_music_batch(signal, grid)
    assert len(signal) > 105 and found.resolved.all()
    np.testing.assert_allclose(np.sort(found.azimuth_rad), np.sort(azimuth[apart]), atol=1e-4)
    tensor = planar_music_batch(torch.tensor(signal), grid)
    np.testing.assert_allclose(np.sort(tensor.elevation_rad.numpy()), np.sort(found.elevation_rad), atol=1e-6)


def test_what_is_not_there_is_not_filled_up():
    grid = rectangle_grid(ARRAY, LAMBDA)
    rng = np.random.default_rng(1)
    signal, *_ = subspaces(1, ranged=False, n_sources=2)
    mixed = np.concatenate([signal, rng.normal(size=(1, 48, 1)) + 1j * rng.normal(size=(1, 48, 1))], axis=2)
    found = planar_music_batch(np.linalg.qr(mixed)[0], grid)
    assert found.resolved.sum() == 2
    assert np.isnan(found.azimuth_rad[~found.found]).all()
    assert len(planar_music(np.linalg.qr(mixed)[0][0], grid).azimuth_rad) == found.found.sum()


@pytest.mark.parametrize("far_field_only", [True, False])
def test_the_block_counts_sources_by_the_criterion(far_field_only):
    rng = np.random.default_rng(2)
    azimuth, elevation = np.array([-0.4, 0.3]), np.array([0.2, -0.1])
    s = (rng.normal(size=(2, 100)) + 1j * rng.normal(size=(2, 100))) * 3
    x = waves(ARRAY, azimuth, elevation) * np.sqrt(48) @ s
    noise = rng.normal(size=(48, 100)) + 1j * rng.normal(size=(48, 100))
    block = told(PlanarMusic("planar", n_sources=0, far_field_only=far_field_only), ARRAY)
    out = given(block, iq=iq_frame(x + noise))
    assert out.header.meta == {"n_requested": 2, "n_unresolved": 0}
    np.testing.assert_allclose(np.sort(out["azimuth_rad"]), azimuth, atol=0.01)
    nothing = given(block, iq=iq_frame(noise))
    assert nothing["azimuth_rad"].shape == (0,)
    assert isinstance(block._built[2], RectangleGrid) == far_field_only


def test_rectangles_are_recognized():
    found = uniform_rectangle(ARRAY.position_m)
    assert found.shape == (6, 8)
    assert found.spacing_x_m == pytest.approx(LAMBDA / 2)
    stretched = ARRAY.position_m * [1, 1, 0.7] + [3, 2, 1]
    assert uniform_rectangle(stretched).spacing_z_m == pytest.approx(0.35 * LAMBDA)
    moved = ARRAY.position_m.copy()
    moved[5, 0] += 1e-3 * LAMBDA
    others = (ARRAY.position_m[::-1], ARRAY.position_m[:-1], moved, ArrayGeometry.ula(8, 0.03).position_m)
    for other in (*others, ArrayGeometry.uca(8, 0.1).position_m, ARRAY.position_m[:1]):
        with pytest.raises(ParamError, match="expected a uniform rectangle"):
            uniform_rectangle(other)
    with pytest.raises(ParamError, match="above half a wavelength"):
        rectangle_grid(ArrayGeometry.ura(4, 4, 0.6 * LAMBDA), LAMBDA)

"""FFT and two-step dictionaries against the same steering vectors written out one by one."""

import numpy as np
import pytest

from blocks.subspace.fresnel_grid import fresnel_grid, fresnel_reach
from blocks.subspace.near_field_line import near_field_line, near_field_line_batch
from blocks.subspace.signal_subspace import signal_subspace_from_samples
from blocks.subspace.uniform_projection import (
    fft_sines,
    fresnel_chirp,
    fresnel_projection,
    line_projection,
    rectangle_projection,
    separable_projection,
)
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from hil.wavefront import steering_vector_polar
from tests.blocks.subspace.scene import LAMBDA, snapshots


def subspace(n, m, seed=0):
    rng = np.random.default_rng(seed)
    return np.linalg.qr(rng.normal(size=(n, m)) + 1j * rng.normal(size=(n, m)))[0]


def projected(a, u):
    return float((np.abs(a.conj() @ u) ** 2).sum() / (np.abs(a) ** 2).sum())


def test_line():
    u, spacing = subspace(9, 3), 0.4 * LAMBDA
    got = line_projection(u, 24)
    x = ArrayGeometry.ula(9, spacing).position_m[:, 0]
    expected = [projected(np.exp(2j * np.pi / LAMBDA * x * s), u) for s in fft_sines(24, spacing, LAMBDA)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_rectangle_and_separable():
    rows, columns, spacing = 3, 4, LAMBDA / 2
    u, array = subspace(12, 2), ArrayGeometry.ura(columns, rows, spacing)
    sines_v, sines_u = fft_sines(8, spacing, LAMBDA), fft_sines(10, spacing, LAMBDA)
    expected = np.array(
        [
            [projected(np.exp(2j * np.pi / LAMBDA * array.position_m @ np.array([su, 0, sv])), u) for su in sines_u]
            for sv in sines_v
        ]
    )
    np.testing.assert_allclose(rectangle_projection(u, (rows, columns), (8, 10)), expected, atol=1e-12)
    z, x = array.position_m[::columns, 2], array.position_m[:columns, 0]
    conjugate_z = np.exp(-2j * np.pi / LAMBDA * sines_v[:, None] * z) / np.sqrt(rows)
    conjugate_x = np.exp(-2j * np.pi / LAMBDA * sines_u[:, None] * x) / np.sqrt(columns)
    np.testing.assert_allclose(separable_projection(u, conjugate_z, conjugate_x), expected, atol=1e-12)


def test_fresnel():
    n, array = 16, ArrayGeometry.ula(16, LAMBDA / 2)
    u, curvature = subspace(n, 3), np.array([0.0, 0.05, 0.3])
    chirp = fresnel_chirp(array.position_m[:, 0], curvature, LAMBDA)
    got = fresnel_projection(u, chirp, 32)
    sines = fft_sines(32, LAMBDA / 2, LAMBDA)
    for i, c in enumerate(curvature):
        for j in range(1, 32):
            azimuth = np.arcsin(sines[j])
            distance = np.cos(azimuth) ** 2 / c if c else np.inf
            a = steering_vector_polar(array.position_m, azimuth, distance, LAMBDA, model="fresnel")
            assert got[i, j] == pytest.approx(projected(a, u), abs=1e-12)


def test_batched_and_in_torch():
    torch = pytest.importorskip("torch")
    u = np.stack([subspace(12, 2), subspace(12, 2, seed=1)])
    chirp = fresnel_chirp(np.linspace(-1, 1, 12), np.linspace(0, 1, 5), 0.1)
    for one, args in (
        (line_projection, (16,)),
        (rectangle_projection, ((3, 4), (4, 8))),
        (fresnel_projection, (chirp, 16)),
    ):
        tensors = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
        whole = one(u, *args)
        np.testing.assert_allclose(whole[1], one(u[1], *args), atol=1e-12)
        np.testing.assert_allclose(one(torch.tensor(u), *tensors).numpy(), whole, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(32, 2), (128, 3)])
def test_search_finds_what_is_there(n, m):
    array, rng = ArrayGeometry.ula(n, LAMBDA / 2), np.random.default_rng(n)
    grid = fresnel_grid(array, LAMBDA)
    for _ in range(20):
        azimuth = np.arcsin(np.linspace(-0.7, 0.7, m) + rng.uniform(-0.1, 0.1, m))
        distance = 1 / rng.uniform(0, 1 / grid.range_min_m, m)
        u = signal_subspace_from_samples(snapshots(array, azimuth, distance, 20, 100, rng).x, m)
        found = near_field_line(u, grid)
        order = np.argsort(found.azimuth_rad)
        assert found.resolved.all()
        # a hundredth of a beam, and of the curvature that turns the edge by 2 rad
        np.testing.assert_allclose(found.azimuth_rad[order], azimuth, atol=0.02 / n)
        np.testing.assert_allclose(found.inverse_range_per_m[order], 1 / distance, atol=0.05 * grid.curvature_per_m[1])
        again = near_field_line(u, grid, start=found.point)
        np.testing.assert_allclose(again.azimuth_rad, found.azimuth_rad, atol=1e-5 / n)


def test_a_stream_starts_from_the_last_frame_and_searches_when_that_fails():
    array, rng = ArrayGeometry.ula(64, LAMBDA / 2), np.random.default_rng(3)
    grid = fresnel_grid(array, LAMBDA)
    start = None
    for azimuth in ([-0.3, 0.4], [-0.299, 0.401], [0.1, 0.7]):  # the last is a jump
        u = signal_subspace_from_samples(snapshots(array, azimuth, [3.0, 5.0], 20, 100, rng).x, 2)
        found = near_field_line(u, grid, start=start)
        np.testing.assert_allclose(np.sort(found.azimuth_rad), azimuth, atol=1e-3)
        assert found.resolved.all()
        start = found.point


@pytest.mark.parametrize("range_min_m", [None, "sectors"])
def test_batches_and_torch_find_what_single_frames_find(range_min_m):
    torch = pytest.importorskip("torch")
    array, rng = ArrayGeometry.ula(64, LAMBDA / 2), np.random.default_rng(8)
    reach = fresnel_reach(array.aperture_m, LAMBDA)
    grid = fresnel_grid(array, LAMBDA, range_min_m=reach * 1.05 if range_min_m else None)
    assert (grid.layer is None) == (range_min_m is None)
    u = [
        signal_subspace_from_samples(snapshots(array, [-0.4 + d, 0.5], [4.0, 5.0], 20, 60, rng).x, 2)
        for d in (0.0, 0.1, 0.2)
    ]
    found = near_field_line_batch(np.stack(u), grid)
    assert found.resolved.all()
    tensor = near_field_line_batch(torch.tensor(np.stack(u)), grid)
    for i, one in enumerate(u):
        alone = near_field_line(one, grid)
        np.testing.assert_allclose(found.azimuth_rad[i], alone.azimuth_rad, atol=1e-9)
        np.testing.assert_allclose(found.inverse_range_per_m[i], alone.inverse_range_per_m, atol=1e-7)
        np.testing.assert_allclose(tensor.azimuth_rad[i].numpy(), alone.azimuth_rad, atol=1e-7)


def test_search_of_noise_resolves_nothing():
    grid = fresnel_grid(ArrayGeometry.ula(64, LAMBDA / 2), LAMBDA)
    assert not near_field_line(subspace(64, 2), grid).resolved.any()


def test_refusals():
    array = ArrayGeometry.ula(64, LAMBDA / 2)
    with pytest.raises(ParamError, match="where Fresnel waves fail"):
        fresnel_grid(array, LAMBDA, range_min_m=0.5)
    with pytest.raises(ParamError, match="directions repeat"):
        fresnel_grid(ArrayGeometry.ula(8, LAMBDA), LAMBDA)
    with pytest.raises(ParamError, match="expected a uniform line"):
        fresnel_grid(ArrayGeometry.uca(8, LAMBDA), LAMBDA)
    with pytest.raises(ParamError, match="n_fft >= 12 elements, got 8"):
        line_projection(subspace(12, 2), 8)
    with pytest.raises(ParamError, match="3 x 5 elements, subspace of 12"):
        rectangle_projection(subspace(12, 2), (3, 5), (8, 8))
    grid = fresnel_grid(array, LAMBDA)
    with pytest.raises(ParamError, match="grid of 64 sensors"):
        near_field_line(subspace(12, 2), grid)
    with pytest.raises(EstimationError, match="not finite"):
        near_field_line(np.full((64, 2), np.nan + 0j), grid)

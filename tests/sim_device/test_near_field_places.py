import numpy as np
import pytest
from scipy.optimize import least_squares

from hil.errors import ParamError
from sim_device.near_field_places import NearFieldPlaces
from sim_device.propagation import channel_matrix


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    one, other = (NearFieldPlaces({"n_sources": (2, 4)}, 3, "train") for _ in range(2))
    other.batch(0, 9)
    for name, array in one.batch(5, 4).items():
        np.testing.assert_array_equal(array, other.batch(5, 4)[name])


def test_no_two_splits_batches_or_seeds_share_a_place():
    seen = set()
    for seed in (1, 2):
        for split in ("train", "validation", "test"):
            for number in range(3):
                azimuth = NearFieldPlaces({}, seed, split).batch(number, 50)["azimuth_rad"]
                assert seen.isdisjoint(azimuth.ravel().tolist())
                seen.update(azimuth.ravel().tolist())
    assert len(seen) == 2 * 3 * 3 * 100


@pytest.mark.parametrize("coherent", [False, True])
def test_samples_are_those_of_the_devices_propagation(coherent):
    """Noise aside: 200 dB above it, the samples lie in the span of the device's own channel matrix."""
    places = NearFieldPlaces({"snr_db": (200, 200), "coherent": coherent}, 4, "test")
    batch = places.batch(0, 5)
    for x, azimuth, r in zip(batch["samples"], batch["azimuth_rad"], batch["range_m"], strict=True):
        source_m = np.stack([r * np.sin(azimuth), r * np.cos(azimuth), np.zeros(2)], axis=-1)
        channel = channel_matrix(places.array.channel_position_m, source_m, 300e6)
        waveform, *_ = np.linalg.lstsq(channel, x.astype(np.complex128), rcond=None)
        np.testing.assert_allclose(channel @ waveform, x, rtol=1e-4, atol=1e-4 * np.abs(x).max())
        if coherent:
            np.testing.assert_allclose(waveform[0], waveform[1], rtol=1e-3, atol=1e-3 * np.abs(waveform).max())


def test_power_is_signal_to_noise_at_one_sensor():
    places = NearFieldPlaces({"n_sources": (1, 1), "snr_db": (10, 10), "amplitude": False}, 5, "train")
    power = np.mean(np.abs(places.batch(0, 400)["samples"]) ** 2)
    assert power == pytest.approx(11.0, rel=0.03)


def test_places_fill_the_limits_and_keep_their_separation():
    params = {"n_sources": (1, 3), "separation_rad": 0.3}
    batch = NearFieldPlaces(params, 6, "train").batch(0, 2000)
    azimuth, n = batch["azimuth_rad"], batch["n_sources"]
    assert set(n) == {1, 2, 3}
    np.testing.assert_array_equal(np.isfinite(azimuth).sum(axis=1), n)
    assert np.nanmin(azimuth) == pytest.approx(-np.pi / 3, abs=0.01)
    assert np.nanmax(azimuth) == pytest.approx(np.pi / 3, abs=0.01)
    full = np.sort(azimuth[n == 3], axis=1)
    assert np.diff(full, axis=1).min() >= 0.3 - 1e-12
    # Fresnel and half the Fraunhofer distance of 15 elements at 300 MHz, by hand: D = 7 m and wavelength 1 m, nearly
    assert np.nanmin(batch["range_m"]) == pytest.approx((7**4 / 8) ** (1 / 3), rel=0.01)
    assert np.nanmax(batch["range_m"]) == pytest.approx(49, rel=0.01)


def test_displaced_elements_are_one_array_for_all_splits_or_drawn_for_each_example():
    """Displacements fitted to some examples explain others, of another batch and split, only if they are the same."""
    quiet = {"n_sources": (1, 1), "snr_db": (200, 200), "position_error": 0.2}
    once = {**quiet, "position_error_of": "array"}
    fitted = _fit_displacements(NearFieldPlaces(once, 7, "train"), 3, 8)
    assert 0.1 < np.abs(fitted).max() < 0.45
    assert _misfit_rad(NearFieldPlaces(once, 7, "test"), 0, 4, fitted) < 0.01
    assert _misfit_rad(NearFieldPlaces(once, 8, "test"), 0, 4, fitted) > 0.1
    assert _misfit_rad(NearFieldPlaces(quiet, 7, "train"), 3, 8, fitted) > 0.1
    straight = NearFieldPlaces({"n_sources": (1, 1), "snr_db": (200, 200)}, 7, "train")
    assert _misfit_rad(straight, 0, 4, np.zeros(15)) < 0.001


def _phase_errors_rad(places, number, n, displacement_m):
    """Phases of single sources against the exact wavefront on displaced elements, ``[n, sensor]``."""
    batch = places.batch(number, n)
    element_m = places.array.channel_position_m.copy()
    element_m[:, 0] += displacement_m
    out = []
    for x, azimuth, r in zip(batch["samples"], batch["azimuth_rad"][:, 0], batch["range_m"][:, 0], strict=True):
        source_m = r * np.array([[np.sin(azimuth), np.cos(azimuth), 0.0]])
        seen = (x.astype(np.complex128) @ x[7].conj()) / channel_matrix(element_m, source_m, 300e6)[:, 0]
        out.append(np.angle(seen / seen.sum()))
    return np.array(out)


def _misfit_rad(places, number, n, displacement_m):
    return np.sqrt(np.mean(_phase_errors_rad(places, number, n, displacement_m) ** 2))


def _fit_displacements(places, number, n):
    return least_squares(lambda d: _phase_errors_rad(places, number, n, d).ravel(), np.zeros(15)).x


def test_snapshots_are_drawn_for_each_batch_between_fewest_and_most():
    places = NearFieldPlaces({"n_snapshots": 10, "n_snapshots_most": 1000}, 6, "train")
    drawn = np.array([places.batch(i, 1)["samples"].shape[-1] for i in range(300)])
    assert 10 <= drawn.min() < 12 and 900 < drawn.max() <= 1000
    assert np.median(drawn) == pytest.approx(100, rel=0.3)  # the middle of the logarithm
    np.testing.assert_array_equal(places.batch(3, 2)["samples"], places.batch(3, 2)["samples"])


def test_impossible_limits_are_refused():
    with pytest.raises(ParamError, match="n_snapshots_most: expected at least 100, got 20"):
        NearFieldPlaces({"n_snapshots_most": 20}, 0, "train")
    with pytest.raises(ParamError, match="fewest <= most"):
        NearFieldPlaces({"n_sources": (3, 2)}, 0, "train")
    with pytest.raises(ParamError, match="do not fit"):
        NearFieldPlaces({"n_sources": (2, 8), "separation_rad": 0.5}, 0, "train")


def test_a_share_of_the_examples_is_coherent():
    params = {"snr_db": (60, 60), "coherent": True, "coherent_share": 0.25, "separation_rad": 0.5}
    x = NearFieldPlaces(params, 8, "train").batch(0, 400)["samples"]
    second_of_first = [s[1] / s[0] for s in np.linalg.svd(x, compute_uv=False)]
    assert np.mean(np.array(second_of_first) < 0.01) == pytest.approx(0.25, abs=0.07)


def test_sources_of_a_planar_array_lie_above_and_below():
    params = {"array": {"kind": "ura", "nx": 4, "nz": 4}, "elevation_limit_rad": 0.7, "snr_db": (200, 200)}
    places = NearFieldPlaces({**params, "n_sources": (1, 3)}, 4, "train")
    batch = places.batch(0, 500)
    elevation = batch["elevation_rad"]
    np.testing.assert_array_equal(np.isfinite(elevation).sum(axis=1), batch["n_sources"])
    assert np.nanmin(elevation) == pytest.approx(-0.7, abs=0.02) and np.nanmax(elevation) == pytest.approx(
        0.7, abs=0.02
    )
    for i in range(3):
        m = batch["n_sources"][i]
        azimuth, up, r = (batch[k][i, :m] for k in ("azimuth_rad", "elevation_rad", "range_m"))
        flat = r * np.cos(up)
        source_m = np.stack([flat * np.sin(azimuth), flat * np.cos(azimuth), r * np.sin(up)], axis=-1)
        channel = channel_matrix(places.array.channel_position_m, source_m, 300e6)
        x = batch["samples"][i].astype(np.complex128)
        waveform, *_ = np.linalg.lstsq(channel, x, rcond=None)
        np.testing.assert_allclose(channel @ waveform, x, rtol=1e-4, atol=1e-4 * np.abs(x).max())


def test_what_is_drawn_in_the_plane_does_not_move():
    """First numbers of a batch as they were before there was any elevation: shipped cards name such data."""
    batch = NearFieldPlaces({"coherent": True, "random_phase": True}, 3, "train").batch(5, 8)
    assert not batch["elevation_rad"].any()
    np.testing.assert_allclose(batch["azimuth_rad"][0], [0.712919029164472, 0.5023944819681185])
    np.testing.assert_allclose(
        batch["samples"][0, :2, 0],
        [-1.2229588031768799 - 0.8487233519554138j, -0.1798618584871292 - 2.090003252029419j],
        rtol=1e-6,
    )

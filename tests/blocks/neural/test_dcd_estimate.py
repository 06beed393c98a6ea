import numpy as np
import pytest

from blocks.neural.dcd_estimate import dcd_estimate, line_azimuths, ranges_along
from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.moments import Moments
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.wavefront import steering_vector_polar

LINE = ArrayGeometry.ula(15, 0.5)
DICTIONARY = steering_dictionary(LINE, 1.0)


def steering(azimuth, ranges):
    a = steering_vector_polar(LINE.channel_position_m, np.array(azimuth), np.array(ranges), 1.0, amplitude=True)
    return a.T


def subspace(azimuth, ranges):
    return np.linalg.qr(steering(azimuth, ranges))[0]


def test_plane_waves_give_their_azimuths():
    azimuth = [-0.7, 0.05, 0.9]
    np.testing.assert_allclose(line_azimuths(subspace(azimuth, [1e9] * 3), 0.5), azimuth, atol=1e-6)


@pytest.mark.parametrize("batch", [False, True])
def test_ranges_along_the_angles_lie_off_the_grid(batch):
    azimuth, ranges = np.array([-0.4, 0.3]), np.array([9.3, 27.7])
    signal = subspace(azimuth, ranges)
    if batch:
        signal, azimuth = np.stack([signal] * 3), np.stack([azimuth] * 3)
    found = ranges_along(signal, azimuth, DICTIONARY)
    np.testing.assert_allclose(1 / found.inverse_range_per_m, np.broadcast_to(ranges, azimuth.shape), rtol=0.02)
    assert found.depth.max() < 0.01


def test_a_plane_wave_has_its_null_at_the_end_of_the_grid():
    azimuth = np.array([0.2])
    found = ranges_along(subspace(azimuth, [1e9]), azimuth, DICTIONARY)
    assert found.inverse_range_per_m[0] * DICTIONARY.fraunhofer_m < 0.1


def test_a_parabola_needs_three_ranges():
    with pytest.raises(ParamError, match="at least 3 ranges"):
        ranges_along(subspace([0.1], [9.0]), np.array([0.1]), DICTIONARY, 2)


def test_the_fit_takes_places_to_those_of_the_samples_near_and_far():
    rng = np.random.default_rng(4)
    azimuth, ranges = np.array([-0.3, 0.4]), np.array([12.0, 1e4])
    waveform, noise = (rng.standard_normal((m, 100, 2)).view(complex)[..., 0] for m in (2, 15))
    x = steering(azimuth, ranges) @ waveform + 0.03 * noise
    # both networks are off: angles by a hundredth, the far source has no null in the second
    plane = subspace(azimuth + 0.01, [1e9, 1e9])
    spherical = subspace(azimuth[:1], ranges[:1] * 1.1)
    estimate = dcd_estimate(plane, spherical, Moments.of_samples(x), DICTIONARY, 0.5)
    np.testing.assert_allclose(estimate.azimuth_rad, azimuth, atol=2e-3)
    assert estimate.range_m[0] == pytest.approx(12.0, rel=0.02)
    assert estimate.far_field.tolist() == [False, True]
    assert estimate.resolved.all()
    rough = dcd_estimate(plane, spherical, Moments.of_samples(x), DICTIONARY, 0.5, polish=False)
    np.testing.assert_allclose(rough.azimuth_rad, azimuth + 0.01, atol=1e-6)
    assert rough.resolved.tolist() == [True, False]

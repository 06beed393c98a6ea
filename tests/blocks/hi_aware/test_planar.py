"""Planar arrays with faults: azimuth, elevation and range off any grid, against the Cramer-Rao bound."""

import numpy as np
import pytest

from blocks.bounds.impaired import impaired_crb
from blocks.hi_aware.estimate import estimate_with_faults
from blocks.hi_aware.hi_aware_block import HiAware
from blocks.hi_aware.joint_fit import Kind, fit_jointly
from blocks.hi_aware.pilots import zadoff_chu
from blocks.hi_aware.planar_dictionary import planar_dictionary, turn_into_xz
from blocks.hi_aware.reduce import reduce_blind, reduce_by_pilots
from blocks.hi_aware.scene import Places, Scene
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.hi_aware.simulate import WAVELENGTH_M, phase_faults

RECTANGLE = ArrayGeometry.ura(16, 16, WAVELENGTH_M / 2)
AZ, EL, R = np.array([0.35, -0.3, 0.1]), np.array([0.2, -0.25, 0.5]), np.array([0.5, 0.8, 0.35])
PARAMETERS = ("azimuth", "elevation", "inverse_range")


def steering(position_m, az, el, r):
    """By the distances themselves, ``[sensor, source]``."""
    u = np.stack([np.cos(el) * np.sin(az), np.cos(el) * np.cos(az), np.sin(el)], axis=-1)
    distance = np.linalg.norm(r[:, None, None] * u[:, None] - position_m, axis=-1)
    return (r[:, None] / distance * np.exp(-2j * np.pi * (distance - r[:, None]) / WAVELENGTH_M)).T


def simulate(rng, c, snr_db, array=RECTANGLE, az=AZ, el=EL, r=R, n_snapshots=100):
    """Samples, pilots, gains and noise power; the SNR is over all targets."""
    k, n = len(az), len(c)
    s = (rng.standard_normal((k, n_snapshots)) + 1j * rng.standard_normal((k, n_snapshots))) / np.sqrt(2)
    gain = np.exp(2j * np.pi * rng.uniform(size=k))
    noise_power = k / 10 ** (snr_db / 10)
    noise = rng.standard_normal((n, n_snapshots)) + 1j * rng.standard_normal((n, n_snapshots))
    a = steering(array.channel_position_m, az, el, r)
    return c[:, None] * (a @ (gain[:, None] * s)) + np.sqrt(noise_power / 2) * noise, s, gain, noise_power


def reduced(y, s, mode):
    return reduce_by_pilots(y, s) if mode == "pilots" else reduce_blind(y, len(s))


def errors_over_bound(rng, mode, snr_db, share, array=RECTANGLE):
    """Errors ``[source, (azimuth, elevation, inverse range)]`` in units of the bound with unknown gains and faults."""
    n = array.n_elements
    c = np.where(rng.uniform(size=n) < share, np.exp(2j * np.pi * rng.uniform(size=n)), 1)
    az, el = AZ + rng.uniform(-0.03, 0.03, 3), EL + rng.uniform(-0.03, 0.03, 3)
    r = R * (1 + rng.uniform(-0.05, 0.05, 3))
    y, s, gain, noise_power = simulate(rng, c, snr_db, array, az, el, r)
    found = estimate_with_faults(reduced(y, s, mode), planar_dictionary(array, WAVELENGTH_M)).places
    bound = impaired_crb(
        array.channel_position_m, az, el, r, WAVELENGTH_M, gain[:, None] * s, c, noise_power,
        unknown_phase=np.flatnonzero(c != 1), known_waveforms=mode == "pilots", parameters=PARAMETERS,
    )  # fmt: skip
    order = np.abs(found.azimuth_rad - az[:, None]).argmin(axis=1)
    error = np.stack(
        [found.azimuth_rad[order] - az, found.elevation_rad[order] - el, found.inverse_range_per_m[order] - 1 / r], 1
    )
    return error / np.sqrt(np.einsum("kaka->ka", bound))


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_faults_and_places_of_one_frame(mode):
    rng = np.random.default_rng(1)
    c = phase_faults(256, [3, 40, 41, 57, 200], rng)
    c[100] = 0
    y, s, _, _ = simulate(rng, c, 15)
    dictionary = planar_dictionary(RECTANGLE, WAVELENGTH_M)
    found = estimate_with_faults(reduced(y, s, mode), dictionary)
    np.testing.assert_array_equal(np.flatnonzero(found.kind == Kind.PHASE), [3, 40, 41, 57, 200])
    np.testing.assert_array_equal(np.flatnonzero(found.kind == Kind.COMPLEX), [100])
    order = np.abs(found.places.azimuth_rad - AZ[:, None]).argmin(axis=1)
    deviation = np.sqrt(np.einsum("kaa->ka", found.fit.covariance))[order]
    places = np.stack([found.places.azimuth_rad, found.places.inverse_range_per_m, found.places.elevation_rad], 1)
    assert (np.abs(places[order] - np.stack([AZ, 1 / R, EL], 1)) < 4.5 * deviation).all()


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_the_covariance_of_the_fit_is_the_bound(mode):
    """That of the joint fit at the truth against :func:`impaired_crb`, which works out the same by a full matrix."""
    rng = np.random.default_rng(2)
    c = phase_faults(256, [3, 99], rng)
    y, s, gain, noise_power = simulate(rng, c, 60)
    data = reduced(y, s, mode)._replace(noise_power=noise_power)
    kind = np.where(c != 1, Kind.PHASE, Kind.INTACT).astype(np.int8)
    scene = Scene.of(planar_dictionary(RECTANGLE, WAVELENGTH_M))
    fit = fit_jointly(data, scene, Places(AZ, 1 / R, EL), kind, c, max_iterations=0)
    bound = impaired_crb(
        RECTANGLE.position_m, AZ, EL, R, WAVELENGTH_M, gain[:, None] * s, c, noise_power, unknown_phase=[3, 99],
        known_waveforms=mode == "pilots", parameters=("azimuth", "inverse_range", "elevation"),
    )  # fmt: skip
    np.testing.assert_allclose(fit.covariance, np.einsum("kakb->kab", bound), rtol=0.01, atol=1e-14)


def random_plane():
    """90 elements anywhere in a plane that leans back and to the side: no rows, no columns."""
    rng = np.random.default_rng(3)
    across, up = np.array([0.96, 0.28, 0.0]), np.array([0.056, -0.192, 0.979796])
    place = rng.uniform(-0.045, 0.045, (90, 2))
    return ArrayGeometry.from_positions(place[:, :1] * across + place[:, 1:] * up)


def ring():
    """An upright ring of 64."""
    angle = 2 * np.pi * np.arange(64) / 64
    return ArrayGeometry.from_positions(0.05 * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], axis=1))


@pytest.mark.parametrize(
    ("array", "mode"),
    [(random_plane(), "pilots"), (random_plane(), "blind"), (ring(), "pilots")],
    ids=["random plane, pilots", "random plane, blind", "ring, pilots"],
)
def test_any_plane(array, mode):
    """Squared errors in units of the bound: 20 frames have 60 a coordinate, whose mean spreads by 0.18."""
    rng = np.random.default_rng(4)
    squared = np.array([errors_over_bound(rng, mode, 15, 0.03, array) for _ in range(20)]) ** 2
    assert (squared.mean(axis=(0, 1)) < 1 + 3 * 0.18).all(), squared.mean(axis=(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("snr_db", "share"), [(0, 0.02), (10, 0.04), (30, 0.14)])
@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_efficient(mode, snr_db, share):
    """RMSE to the bound in azimuth, elevation and inverse range: at least 1.05 lies inside the 99.7 % interval.

    The mean of 300 squared errors of unit variance spreads by sqrt(2 / 300) = 0.082.
    """
    rng = np.random.default_rng(6)
    squared = np.array([errors_over_bound(rng, mode, snr_db, share) for _ in range(100)]) ** 2
    mean = squared.mean(axis=(0, 1))
    assert (mean < 1.05**2 + 3 * 0.082).all(), mean


def test_turns_of_planes():
    np.testing.assert_array_equal(turn_into_xz(RECTANGLE.position_m), np.eye(3))
    turn = turn_into_xz(random_plane().position_m)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.abs((random_plane().position_m @ turn.T)[:, 1]).max() < 1e-12
    level = ArrayGeometry.uca(16, 0.05)
    np.testing.assert_allclose(turn_into_xz(level.position_m)[1], [0, 0, 1], atol=1e-12)
    body = RECTANGLE.position_m + np.array([0, 0.01, 0]) * (np.arange(256) % 2)[:, None]
    for none in (ArrayGeometry.ula(8, 0.1).position_m, body):
        assert turn_into_xz(none) is None
    with pytest.raises(ParamError, match="no one plane"):
        planar_dictionary(ArrayGeometry.ula(8, 0.1), WAVELENGTH_M)


PILOTS = [{"length": 101, "root": 1}, {"length": 101, "root": 5}, {"length": 101, "root": 7}]


def frames(c, n, rng, array=RECTANGLE):
    header = Header("sim.iq", 0, sample_rate_hz=1e6, frequency_hz=30e9, timebase="device")
    yield descriptor_frame(header, array, {"sim": {"pilots": PILOTS}})
    a = steering(array.position_m, AZ, EL, R)
    for seq in range(n):
        s = np.stack([zadoff_chu(p["length"], p["root"], 1000 * seq, 100) for p in PILOTS])
        noise = rng.standard_normal((len(c), 100)) + 1j * rng.standard_normal((len(c), 100))
        y = (0.01 * (c[:, None] * (a @ s) + np.sqrt(0.05) * noise)).astype(np.complex64)
        at = header._replace(seq=seq, sample_start=1000 * seq, time_ns=10**6 * seq)
        yield Frame.of(at, iq=(y, "sensor snapshot", "FS"))


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_block(mode):
    """Elevations and their covariances and bounds in their places, though the fit orders coordinates otherwise."""
    rng = np.random.default_rng(7)
    c = phase_faults(256, [5, 17], rng)
    block = HiAware("hi", mode=mode, n_sources=0 if mode == "pilots" else 3)
    for frame in frames(c, 3, rng):
        out = dict(block.feed("iq", frame))
    assert block.stats()["searched"] == 1 and block.stats()["faulty_elements"] == [5, 17]
    e, b = out["estimates"], out["bounds"]
    order = np.abs(e["azimuth_rad"] - AZ[:, None]).argmin(axis=1)
    deviation = np.sqrt(np.einsum("kaa->ka", e["polar_covariance"]))
    error = np.stack([e["azimuth_rad"], e["elevation_rad"], 1 / e["range_m"]], 1)[order] - np.stack([AZ, EL, 1 / R], 1)
    assert (np.abs(error) < 4.5 * deviation[order]).all()
    told = np.stack([b["azimuth_std_rad"], b["elevation_std_rad"], b["range_std_m"] / e["range_m"] ** 2], 1)
    assert ((deviation >= told * (1 - 1e-9)) & (deviation < 1.3 * told)).all()
    assert (b["elevation_std_known_rad"] <= b["elevation_std_rad"] * (1 + 1e-9)).all()


def test_block_keeps_to_one_elevation_where_asked():
    rng = np.random.default_rng(8)
    stream = list(frames(np.ones(256), 1, rng))
    block = HiAware("hi", elevation="search", azimuth_limit_rad=1.0)
    block.feed("iq", stream[0])
    with pytest.raises(EstimationError, match="azimuth_limit_rad"):
        block.feed("iq", stream[1])
    block = HiAware("hi", elevation="fixed")
    block.feed("iq", stream[0])
    with pytest.raises(EstimationError, match=r"unexplained|do not fit"):
        block.feed("iq", stream[1])  # targets are not at elevation 0: an error, not a number

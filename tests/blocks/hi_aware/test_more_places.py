"""Several places of one pilot, and echoes of one waveform without pilots: how many, where, and at the bound."""

import numpy as np
import pytest

from blocks.hi_aware.estimate import estimate_with_faults
from blocks.hi_aware.hi_aware_block import HiAware
from blocks.hi_aware.joint_fit import fit_jointly
from blocks.hi_aware.pilots import zadoff_chu
from blocks.hi_aware.planar_dictionary import planar_dictionary
from blocks.hi_aware.reduce import reduce_blind, reduce_by_pilots, signal_columns, with_places
from blocks.hi_aware.scene import Places, Scene
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError
from hil.frame import Frame, Header
from hil.wavefront import steering_vector_polar
from tests.blocks.hi_aware.simulate import AZIMUTH_RAD, RANGE_M, WAVELENGTH_M, dictionary, phase_faults, simulate
from tests.blocks.hi_aware.test_planar import RECTANGLE, steering


def echoes(rng, c, snr_db, az, r, waveform, amplitude, n_snapshots=100):
    """Each place sends ``waveform[place]`` with its amplitude and a random phase; SNR over all places.

    Returns samples, waveforms ``[waveform, snapshot]``, what each place sends ``[place, snapshot]``, noise power.
    """
    s = rng.standard_normal((max(waveform) + 1, n_snapshots)) + 1j * rng.standard_normal(
        (max(waveform) + 1, n_snapshots)
    )
    s /= np.sqrt(2)
    sent = (amplitude * np.exp(2j * np.pi * rng.uniform(size=len(az))))[:, None] * s[list(waveform)]
    a = Scene.of(dictionary(len(c))).vectors(az, 1 / r).T
    noise_power = np.sum(np.square(amplitude)) / 10 ** (snr_db / 10)
    noise = rng.standard_normal((len(c), n_snapshots)) + 1j * rng.standard_normal((len(c), n_snapshots))
    return c[:, None] * (a @ sent) + np.sqrt(noise_power / 2) * noise, s, sent, noise_power


def squared_over_bound(found, data, az, r, c, sent, noise_power):
    """Squared errors ``[place, (azimuth, inverse range)]`` over the bound with the coefficients known."""
    order = np.abs(found.places.azimuth_rad - az[:, None]).argmin(axis=1)
    assert len(set(order.tolist())) == len(az) == len(found.places.azimuth_rad)
    true = found.data._replace(noise_power=noise_power)
    if true.pilot is not None:
        true = with_places(true, len(az), true.pilot[order])
    at = fit_jointly(
        true, Scene.of(dictionary(len(c))), Places(az, 1 / r), np.zeros(len(c), np.int8), c, max_iterations=0
    )
    error = np.stack([found.places.azimuth_rad[order] - az, found.places.inverse_range_per_m[order] - 1 / r], axis=1)
    return error**2 / np.einsum("kaa->ka", at.covariance)


@pytest.mark.parametrize(
    ("waveform", "amplitude"),
    [((0, 0), (1.0, 1.0)), ((0, 0), (1.0, 0.1)), ((0, 1, 0, 1), (1.0, 1.0, 0.5, 0.5))],
    ids=["two equal", "an echo 20 dB down", "two pilots with an echo each"],
)
def test_targets_that_share_a_pilot(waveform, amplitude):
    """Four frames at 15 dB with 3 % faulty: always the right number and whose each is, errors within 5 deviations."""
    rng = np.random.default_rng(1)
    az, r = np.array([0.26, -0.26, -0.5, 0.1])[: len(waveform)], np.array([10.0, 18.0, 8.0, 12.0])[: len(waveform)]
    for _ in range(4):
        c = phase_faults(256, rng.choice(256, 8, replace=False), rng)
        here = az + rng.uniform(-0.005, 0.005, len(az))
        y, s, sent, noise_power = echoes(rng, c, 15, here, r, waveform, amplitude)
        found = estimate_with_faults(reduce_by_pilots(y, s), dictionary(), most_places=6)
        squared = squared_over_bound(found, None, here, r, c, sent, noise_power)
        assert (squared < 25).all()
        order = np.abs(found.places.azimuth_rad - here[:, None]).argmin(axis=1)
        pilot = np.zeros(len(az), int) if found.data.pilot is None else found.data.pilot
        assert pilot[order].tolist() == list(waveform)


@pytest.mark.parametrize("asked", [True, False])
def test_coherent_echoes_without_pilots(asked):
    """Three echoes of one waveform: a covariance of rank one, in which MUSIC sees none of them."""
    rng = np.random.default_rng(2)
    az, r = AZIMUTH_RAD, RANGE_M
    for _ in range(2):
        c = phase_faults(256, rng.choice(256, 6, replace=False), rng)
        y, _, sent, noise_power = echoes(rng, c, 10, az, r, (0, 0, 0), (1.0, 0.8, 0.6))
        data = reduce_blind(y, 3 if asked else 1)
        assert signal_columns(data).n_waveforms == 1
        found = estimate_with_faults(data, dictionary(), most_places=3 if asked else 6)
        assert (squared_over_bound(found, None, az, r, c, sent, noise_power) < 25).all()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_coherent_places_are_at_the_bound(mode):
    """The mean of 150 squared errors of unit variance spreads by sqrt(2 / 150) = 0.115."""
    rng = np.random.default_rng(3)
    squared = []
    for _ in range(75):
        c = np.where(rng.uniform(size=256) < 0.03, np.exp(2j * np.pi * rng.uniform(size=256)), 1)
        az, r = np.array([0.26, -0.26]) + rng.uniform(-0.01, 0.01, 2), np.array([10.0, 14.0])
        y, s, sent, noise_power = echoes(rng, c, 10, az, r, (0, 0), (1.0, 0.7))
        data = reduce_by_pilots(y, s) if mode == "pilots" else reduce_blind(y, 1)
        squared.append(
            squared_over_bound(
                estimate_with_faults(data, dictionary(), most_places=4), None, az, r, c, sent, noise_power
            )
        )
    mean = np.mean(squared, axis=(0, 1))
    assert (mean < 1.05**2 + 3 * 0.115).all(), mean


@pytest.mark.slow
@pytest.mark.parametrize(("snr_db", "share"), [(-10, 0.02), (10, 0.04), (30, 0.14)])
@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_no_place_too_many(mode, snr_db, share):
    """Three targets with a waveform each, faults as they come: the further search changes nothing at all."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        c = np.where(rng.uniform(size=256) < share, np.exp(2j * np.pi * rng.uniform(size=256)), 1)
        case = simulate(rng, c, snr_db, azimuth_rad=AZIMUTH_RAD + rng.uniform(-0.01, 0.01, 3))
        data = reduce_by_pilots(case.y, case.pilots) if mode == "pilots" else reduce_blind(case.y, 3)
        more = estimate_with_faults(data, dictionary(), most_places=8)
        np.testing.assert_array_equal(more.places.stacked(), estimate_with_faults(data, dictionary()).places.stacked())


def test_an_echo_before_a_planar_array():
    rng = np.random.default_rng(5)
    az, el, r = np.array([0.3, -0.2]), np.array([0.1, 0.3]), np.array([0.5, 0.7])
    c = phase_faults(256, [4, 50, 51], rng)
    s = rng.standard_normal((1, 100)) + 1j * rng.standard_normal((1, 100))
    y = c[:, None] * (steering(RECTANGLE.position_m, az, el, r) @ (np.array([[1.0], [0.5j]]) * s))
    y = y + 0.2 * (rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape))
    for data in (reduce_by_pilots(y, s), reduce_blind(y, 1)):
        found = estimate_with_faults(data, planar_dictionary(RECTANGLE, WAVELENGTH_M), most_places=4)
        order = np.abs(found.places.azimuth_rad - az[:, None]).argmin(axis=1)
        assert found.places.azimuth_rad.shape == (2,)
        stacked = found.places.stacked()[:, order]
        np.testing.assert_allclose(stacked, [az, 1 / r, el], atol=0.03)
        deviation = np.sqrt(np.einsum("kaa->ak", found.fit.covariance))[:, order]
        assert (np.abs(stacked - [az, 1 / r, el]) < 5 * deviation).all()
        np.testing.assert_array_equal(np.flatnonzero(found.kind), [4, 50, 51])


LINE = ArrayGeometry.ula(64, WAVELENGTH_M / 2)


def frame(seq, rng, echo):
    header = Header(
        "sim.iq", seq, sample_start=1000 * seq, sample_rate_hz=1e6, frequency_hz=30e9, time_ns=seq * 10**6,
        timebase="device",
    )  # fmt: skip
    a = steering_vector_polar(
        LINE.position_m, np.array([0.3, -0.25]), np.array([1.5, 3.0]), WAVELENGTH_M, amplitude=True
    )
    y = a.T @ np.array([[1.0], [echo]]) * zadoff_chu(101, 1, 1000 * seq, 100)
    y = y + 0.15 * (rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape))
    return Frame.of(header, iq=((0.01 * y).astype(np.complex64), "sensor snapshot", "FS"))


@pytest.mark.parametrize("max_paths", [1, 3])
def test_an_echo_that_comes_and_goes_on_a_stream(max_paths):
    rng = np.random.default_rng(6)
    block = HiAware("hi", pilots=({"length": 101, "root": 1},), max_paths=max_paths)
    block.feed("iq", descriptor_frame(Header("sim.iq", 0, frequency_hz=30e9), LINE))
    seen = []
    for seq in range(10):
        try:
            out = dict(block.feed("iq", frame(seq, rng, 0.6 if 3 <= seq < 7 else 0.0)))
        except EstimationError:  # one place does not explain two
            seen.append(None)
            continue
        seen.append(out["estimates"].header.meta["pilot"])
        assert len(out["bounds"]["azimuth_std_rad"]) == len(seen[-1])
    if max_paths == 1:
        assert [v for v in seen if v] == [[0]] * 6
    else:
        assert seen == [[0]] * 3 + [[0, 0]] * 4 + [[0]] * 3

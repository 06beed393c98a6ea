import numpy as np
import pytest

from blocks.neural.likeliest import explains, likeliest
from blocks.neural.neural_music import NeuralNearFieldMusic
from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import near_field_from_subspace
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header
from hil.wavefront import SPEED_OF_LIGHT_M_S, steering_vector_polar

LINE = ArrayGeometry.ula(15, 0.5)
SEARCH = steering_dictionary(LINE, 1.0)
AZIMUTH, RANGE = np.array([-0.4, 0.5]), np.array([12.0, 20.0])


def samples(seed, *, coherent=True, noise=0.1):
    rng = np.random.default_rng(seed)
    a = steering_vector_polar(LINE.channel_position_m, AZIMUTH, RANGE, 1.0, amplitude=True).T
    s = rng.normal(size=(2, 100)) + 1j * rng.normal(size=(2, 100))
    if coherent:
        s = np.array([[1], [1j]]) * s[:1]
    return a @ s + noise * (rng.normal(size=(15, 100)) + 1j * rng.normal(size=(15, 100)))


def of_random_subspace(moments, seed, n_sources=2):
    """What a network that has learned nothing gives."""
    rng = np.random.default_rng(seed)
    signal, _ = np.linalg.qr(rng.normal(size=(15, n_sources)) + 1j * rng.normal(size=(15, n_sources)))
    return near_field_from_subspace(signal, moments, SEARCH, polish=False)


@pytest.mark.parametrize("coherent", [False, True])
def test_a_poor_start_does_no_harm(coherent):
    moments = Moments.of_samples(samples(1, coherent=coherent))
    poor = of_random_subspace(moments, 2)
    assert not explains(poor, moments, SEARCH)
    best = likeliest(moments, SEARCH, 2, [poor])
    assert explains(best, moments, SEARCH) and best.resolved.all()
    np.testing.assert_allclose(np.sort(best.azimuth_rad), AZIMUTH, atol=5e-3)


def test_a_good_start_is_kept():
    moments = Moments.of_samples(samples(1, coherent=False))
    good = likeliest(moments, SEARCH, 2, [])
    assert explains(good, moments, SEARCH)
    again = likeliest(moments, SEARCH, 2, [good])
    np.testing.assert_allclose(np.sort(again.range_m), np.sort(good.range_m), rtol=1e-2)


def test_a_source_that_is_not_there_is_not_resolved():
    moments = Moments.of_samples(samples(5))
    best = likeliest(moments, SEARCH, 3, [])
    assert best.resolved.sum() == 2
    np.testing.assert_allclose(np.sort(best.azimuth_rad[best.resolved]), AZIMUTH, atol=2e-2)


def test_the_block_takes_a_second_opinion_where_the_network_is_wrong(monkeypatch):
    header = Header("sim.iq", 0, frequency_hz=SPEED_OF_LIGHT_M_S, sample_rate_hz=1e6, sample_start=0)
    rng = np.random.default_rng(0)
    k = rng.normal(size=(15, 15)) + 1j * rng.normal(size=(15, 15))
    found = {}
    for second in (False, True):
        block = NeuralNearFieldMusic("net", n_sources=2, second_opinion=second, keep_unresolved=True)
        block.set_up()
        list(block.feed("iq", descriptor_frame(header, LINE)))
        monkeypatch.setattr(block, "_surrogate", lambda _: (k @ k.conj().T)[None])
        out = block.feed("iq", Frame.of(header, iq=(samples(7).astype(np.complex64), "sensor snapshot", "FS")))
        (frame,) = [f for port, f in out if port == "estimates" and f.header.kind == "data"]
        found[second] = np.sort(frame["azimuth_rad"])
    np.testing.assert_allclose(found[True], AZIMUTH, atol=5e-3)
    assert found[False].shape != (2,) or abs(found[False] - AZIMUTH).max() > 0.02

"""The MUSIC blocks: frames in, estimates out, and what they refuse."""

import numpy as np
import pytest

from blocks.subspace.music import (
    FarFieldMusic,
    FarFieldMusicFromCovariance,
    NearFieldMusic,
    NearFieldMusicFromCovariance,
)
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.subspace.scene import FREQUENCY_HZ, LAMBDA, snapshots
from tests.jig import check_frames

ARRAY = ArrayGeometry.ula(48, LAMBDA / 2, array_id="line")
HEADER = Header("dev.iq", 0, frequency_hz=FREQUENCY_HZ, epoch=3)


def samples(azimuth=(-0.3, 0.4), range_m=(12.0, 18.0), seed=0, n=100, snr_db=10.0):
    scene = snapshots(ARRAY, list(azimuth), list(range_m), snr_db, n, np.random.default_rng(seed))
    return scene.x.astype(np.complex64)


def iq_frame(x, header=HEADER):
    return Frame.of(header, iq=(x, "sensor snapshot", "FS"))


def covariance_frame(x, header=HEADER):
    exact = x.astype(np.complex128)
    return Frame.of(
        header,
        covariance=(exact @ exact.conj().T / x.shape[1], "sensor sensor", "FS^2"),
        n_snapshots=(np.array(x.shape[1]), "", ""),
    )


def estimates(outputs):
    return [f for name, f in outputs if name == "estimates" and f.header.kind == "data"]


@pytest.mark.parametrize("n_snapshots", [100, 30])
@pytest.mark.parametrize("from_covariance", [False, True])
def test_finds_two_sources_without_being_told_how_many(from_covariance, n_snapshots):
    x = samples(n=n_snapshots)

    def check(outputs):
        (out,) = estimates(outputs)
        assert out.header.epoch == 3
        assert out.header.meta == {"n_requested": 2, "n_unresolved": 0}
        order = np.argsort(out["azimuth_rad"])
        np.testing.assert_allclose(out["azimuth_rad"][order], [-0.3, 0.4], atol=1e-3)
        np.testing.assert_allclose(out["range_m"][order], [12.0, 18.0], rtol=0.05)
        np.testing.assert_allclose(out["power_db"], 10.0, atol=2)
        assert out["polar_covariance"].shape == (2, 3, 3)
        assert (out["polar_covariance"][:, 1] == 0).all()
        assert not [f for name, f in outputs if name == "spectrum" and f.header.kind == "data"]

    kind = NearFieldMusicFromCovariance if from_covariance else NearFieldMusic
    frame = covariance_frame(x) if from_covariance else iq_frame(x)
    check_frames(lambda: kind("music"), [descriptor_frame(HEADER, ARRAY), frame], check)


def test_noise_alone_gives_an_empty_frame_and_not_none():
    block = NearFieldMusic("music")
    block.feed("iq", descriptor_frame(HEADER, ARRAY))
    (out,) = estimates(block.feed("iq", iq_frame(samples(azimuth=(), range_m=()))))
    assert out["azimuth_rad"].shape == (0,)
    assert out["polar_covariance"].shape == (0, 3, 3)


def test_asked_for_more_it_gives_what_there_is_and_counts_the_rest():
    block = NearFieldMusic("music", n_sources=3)
    block.feed("iq", descriptor_frame(HEADER, ARRAY))
    (out,) = estimates(block.feed("iq", iq_frame(samples())))
    assert out["azimuth_rad"].shape == (2,)
    assert out.header.meta == {"n_requested": 3, "n_unresolved": 1}
    assert block.stats() == {"sources_requested_not_resolved": 1}


def test_channel_map_of_the_descriptor_is_used():
    turned = ArrayGeometry.ula(48, LAMBDA / 2, channel_map=tuple(reversed(range(48))))
    block = NearFieldMusic("music")
    block.feed("iq", descriptor_frame(HEADER, turned))
    (out,) = estimates(block.feed("iq", iq_frame(np.ascontiguousarray(samples()[::-1]))))
    np.testing.assert_allclose(np.sort(out["azimuth_rad"]), [-0.3, 0.4], atol=1e-3)


def test_retune_is_followed_frame_by_frame():
    """Twice the wavelength in the header: the same samples come from angles of twice the sine."""
    block = NearFieldMusic("music", n_sources=2, range_min_m=2.0)
    block.feed("iq", descriptor_frame(HEADER, ARRAY))
    x = samples(range_m=(np.inf, np.inf))
    block.feed("iq", iq_frame(x))
    (out,) = estimates(block.feed("iq", iq_frame(x, HEADER.replace(frequency_hz=FREQUENCY_HZ / 2, epoch=4))))
    np.testing.assert_allclose(np.sort(np.sin(out["azimuth_rad"])), 2 * np.sin([-0.3, 0.4]), atol=3e-3)


def test_spectrum_comes_every_so_many_frames_and_peaks_at_the_sources():
    block = NearFieldMusic("music", n_sources=2, spectrum_every=2)
    block.feed("iq", descriptor_frame(HEADER, ARRAY))
    outputs = [block.feed("iq", iq_frame(samples(seed=seed))) for seed in range(4)]
    spectra = [[f for name, f in out if name == "spectrum"] for out in outputs]
    assert [len(s) for s in spectra] == [1, 0, 1, 0]
    frame = spectra[0][0]
    values = frame["spectrum_db"]
    assert values.dtype == np.float32
    assert values.shape == (len(frame["azimuth_rad"]), len(frame["range_m"]))
    at = np.unravel_index(values.argmax(), values.shape)
    assert min(abs(frame["azimuth_rad"][at[0]] - a) for a in (-0.3, 0.4)) < 0.02


@pytest.mark.parametrize("kind", [FarFieldMusic, FarFieldMusicFromCovariance])
def test_far_field(kind):
    x = samples(range_m=(np.inf, np.inf))
    block = kind("music", n_sources=2)
    ((port, _),) = block.inputs.items()
    block.feed(port, descriptor_frame(HEADER, ARRAY))
    (out,) = estimates(block.feed(port, iq_frame(x) if port == "iq" else covariance_frame(x)))
    np.testing.assert_allclose(np.sort(out["azimuth_rad"]), [-0.3, 0.4], atol=1e-3)
    assert np.isinf(out["range_m"]).all()
    assert (out["polar_covariance"][:, 2, 2] == 0).all()


def test_parameters_may_change_while_it_runs():
    block = NearFieldMusic("music", n_sources=1)
    block.feed("iq", descriptor_frame(HEADER, ARRAY))
    assert len(estimates(block.feed("iq", iq_frame(samples())))[0]["azimuth_rad"]) == 1
    block.set_params(n_sources=2)
    assert len(estimates(block.feed("iq", iq_frame(samples())))[0]["azimuth_rad"]) == 2


def test_refusals_name_the_block_and_the_fix():
    block = NearFieldMusic("music", n_sources=2)
    with pytest.raises(EstimationError, match="music: no array descriptor has come"):
        block.feed("iq", iq_frame(samples()))
    block.feed("iq", descriptor_frame(HEADER, ARRAY))
    with pytest.raises(EstimationError, match="frames carry no centre frequency; set the parameter frequency_hz"):
        block.feed("iq", iq_frame(samples(), HEADER.replace(frequency_hz=None)))
    with pytest.raises(EstimationError, match="array 'line' has 48 channels, the data 47"):
        block.feed("iq", iq_frame(samples()[:47]))
    with pytest.raises(EstimationError, match="2 sources asked of 48 sensors and 1 snapshots"):
        block.feed("iq", iq_frame(samples()[:, :1]))
    with pytest.raises(ParamError, match="n_sources"):
        NearFieldMusic("music", n_sources=-1)


def test_frames_with_values_that_are_no_numbers_are_refused():
    block = NearFieldMusic("music")
    block.feed("iq", descriptor_frame(HEADER, ARRAY))
    x = samples()
    x[3, 5] = np.nan
    with pytest.raises(EstimationError, match="power nan"):
        block.feed("iq", iq_frame(x))

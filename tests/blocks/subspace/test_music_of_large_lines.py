"""The MUSIC blocks where the search is by FFT and the subspace is followed from frame to frame."""

import numpy as np
import pytest

from blocks.subspace.line_dictionary import LineDictionary
from blocks.subspace.music import FarFieldMusic, NearFieldMusic, NearFieldMusicFromCovariance
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.subspace.scene import FREQUENCY_HZ, LAMBDA, snapshots

LINE = ArrayGeometry.ula(128, LAMBDA / 2, array_id="line")
HEADER = Header("dev.iq", 0, frequency_hz=FREQUENCY_HZ, epoch=1)


def samples(azimuth, seed, n=60, snr_db=10.0, array=LINE):
    return snapshots(array, azimuth, [120.0, 40.0], snr_db, n, np.random.default_rng(seed)).x.astype(np.complex64)


def frame(x, epoch=1):
    return Frame.of(HEADER.replace(epoch=epoch), iq=(x, "sensor snapshot", "FS"))


def started(block, array=LINE):
    block.feed(next(iter(block.inputs)), descriptor_frame(HEADER, array))
    return block


def estimate(block, data):
    (out,) = [f for name, f in block.feed(next(iter(block.inputs)), data) if name == "estimates"]
    return out


@pytest.mark.parametrize("cls", [NearFieldMusic, FarFieldMusic])
def test_large_lines_are_searched_by_fft_and_give_what_the_dictionary_gives(cls):
    x = samples([-0.3, 0.4], 1)
    by = {}
    for search in ("auto", "dictionary"):
        block = started(cls("music", n_sources=2, search=search, keep_unresolved=True))
        by[search] = estimate(block, frame(x))
        assert isinstance(block._built[2], LineDictionary) == (search == "auto")
    for name in ("azimuth_rad", "range_m", "polar_covariance", "power_db"):
        np.testing.assert_allclose(by["auto"][name], by["dictionary"][name], rtol=1e-3)


@pytest.mark.parametrize(
    ("array", "limits"),
    [(ArrayGeometry.ula(64, LAMBDA / 2), {}), (ArrayGeometry.uca(128, 1.0), {}), (LINE, {"range_min_m": 1.0})],
)
def test_others_are_not(array, limits):
    block = started(NearFieldMusic("music", n_sources=1, **limits), array)
    x = snapshots(array, [0.2], [80.0], 10, 60, np.random.default_rng(2)).x.astype(np.complex64)
    estimate(block, frame(x))
    assert not isinstance(block._built[2], LineDictionary)


def test_asked_for_where_it_does_not_apply_it_says_what_does():
    block = started(NearFieldMusic("music", n_sources=1, search="fft", range_min_m=0.5))
    with pytest.raises(EstimationError, match=r"ranges from 5\.562 m; take search 'auto'"):
        estimate(block, frame(samples([-0.3, 0.4], 1)))


@pytest.mark.parametrize("kind", [NearFieldMusic, NearFieldMusicFromCovariance, FarFieldMusic])
def test_tracked_estimates_are_those_computed_anew(kind):
    tracking, anew = (started(kind("music", n_sources=2, track=track)) for track in (True, False))
    told = []
    for i in range(12):
        data = frame(samples([-0.3 + 1e-4 * i, 0.4], i, n=200))
        if kind is NearFieldMusicFromCovariance:
            x = data["iq"].astype(np.complex128)
            arrays = {
                "covariance": (x @ x.conj().T / 200, "sensor sensor", "FS^2"), "n_snapshots": (np.array(200), "", ""),
            }  # fmt: skip
            data = Frame.of(data.header, **arrays)
        one, other = estimate(tracking, data), estimate(anew, data)
        told.append(one.header.meta["subspace"])
        i, j = np.argsort(one["azimuth_rad"]), np.argsort(other["azimuth_rad"])
        deviation = np.sqrt(other["polar_covariance"][j, 0, 0])
        assert (np.abs(one["azimuth_rad"][i] - other["azimuth_rad"][j]) < 0.1 * deviation).all()
    assert told == ["computed"] + 11 * ["tracked"]
    assert tracking.stats()["subspaces_tracked"] == 11
    assert "subspaces_tracked" not in anew.stats()


def test_a_jump_and_a_new_epoch_are_computed_anew():
    block = started(NearFieldMusic("music", n_sources=2, track=True))
    told = []
    for seed, (epoch, azimuth) in enumerate([(1, -0.3), (1, -0.3), (1, 0.9), (1, 0.9), (2, 0.9)]):
        out = estimate(block, frame(samples([azimuth, 0.4], seed), epoch))
        np.testing.assert_allclose(np.sort(out["azimuth_rad"]), np.sort([azimuth, 0.4]), atol=1e-3)
        told.append(out.header.meta["subspace"])
    assert told[0] == "computed" and told[1] == "tracked" and told[3] == "tracked" and told[4] == "computed"


def test_tracking_needs_the_number_of_sources():
    block = started(NearFieldMusic("music", track=True))
    with pytest.raises(ParamError, match="track needs n_sources"):
        estimate(block, frame(samples([-0.3, 0.4], 1)))

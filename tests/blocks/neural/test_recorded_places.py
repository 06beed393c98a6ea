import numpy as np
import pytest

from blocks.neural.recorded_places import RecordedPlaces
from hil.array import ArrayGeometry
from hil.descriptor import array_of, descriptor_frame
from hil.errors import ParamError, RecordingError
from hil.frame import Frame
from hil.record import open_recording, open_writer
from hil.wavefront import direction_vector, steering_vector, steering_vector_polar
from tests.blocks.neural.captures import ARRAY, FREQUENCY_HZ, SOURCES, record

SPLITS = ("train", "validation", "test")
ONCE = {"rounds": 1, "apart_m": 0.3}


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Of an array that stands somewhere and looks elsewhere."""
    pose = {"origin_m": (3.0, -2.0, 0.0), "orientation_xyzw": (0.0, 0.0, 0.6, 0.8)}
    there = ArrayGeometry.ula(9, 0.5, **pose)
    sources = [
        {**s, "motion": {**s["motion"], "centre_m": c, "extent_m": [3.5, 3.5, 0]}}
        for s, c in zip(SOURCES, there.to_world([[1.0, 8, 0], [-1.0, 8, 0]]).tolist(), strict=True)
    ]
    path = tmp_path_factory.mktemp("capture") / "a.mcap"
    return record(path, array={**ARRAY, **pose}, sources=sources)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """3 s of an array at the origin."""
    return record(tmp_path_factory.mktemp("short") / "s.mcap", n_frames=60)


def data(split, *paths, seed=1, **params):
    return RecordedPlaces({"paths": [str(p) for p in paths], **ONCE, **params}, seed, split)


def frames(path):
    """By plain reading: time, samples and array-frame places of each frame."""
    with open_recording(path) as recording:
        found = list(recording.frames())
    array = next(array_of(f) for f in found if f.header.kind == "descriptor")
    truth = {f.header.seq: f["position_m"] for f in found if f.header.stream == "truth" and f.header.kind == "data"}
    return [
        (f.header.time_ns / 1e9, f["iq"], (truth[f.header.seq] - array.origin_m) @ array.rotation)
        for f in found
        if f.header.stream == "iq" and f.header.kind == "data"
    ]


def all_of(places):
    return places.batch(0, places.n_examples)


def changed(path, target, change):
    """A copy of a recording, each frame as ``change`` gives it back."""
    writer = open_writer(target)
    with open_recording(path) as recording:
        for frame in recording.frames():
            given = change(frame)
            if given is not None:
                writer.write(given)
    writer.close()
    return target


def test_examples_are_the_frames_with_the_places_of_their_sources_as_the_array_sees_them(capture):
    by_samples = {x.tobytes(): at for _, x, at in frames(capture)}
    test = data("test", capture)
    batch = all_of(test)
    assert (batch["samples"].dtype, batch["samples"].shape[1:]) == (np.complex64, (9, 64))
    for i, x in enumerate(batch["samples"]):
        here = direction_vector(batch["azimuth_rad"][i], batch["elevation_rad"][i]) * batch["range_m"][i, :, None]
        np.testing.assert_allclose(here, by_samples[x.tobytes()], atol=1e-9)
    assert set(batch["n_sources"]) == {2}
    assert test.wavelength_m == pytest.approx(1.0)
    p = test.params
    assert (p.frequency_hz, p.n_snapshots, p.n_sources, p.snr_estimated) == (FREQUENCY_HZ, 64, (2, 2), True)
    assert 18 < p.snr_db[0] < 20 < p.snr_db[1] < 22
    np.testing.assert_allclose(np.mean(batch["snr_db"]), 20, atol=0.5)
    again = RecordedPlaces({**{f: getattr(p, f) for f in p.__struct_fields__}, "paths": (str(capture),)}, 1, "test")
    assert again.params == p  # what stands on a card makes the same data


@pytest.mark.parametrize("rounds", [1, 2])
def test_splits_share_neither_time_nor_place(capture, rounds):
    when = {x.tobytes(): (t, at) for t, x, at in frames(capture)}
    found = {}
    for split in SPLITS:
        examples = all_of(data(split, capture, rounds=rounds, gap_s=0.3, apart_m=0.5))["samples"]
        found[split] = [when[x.tobytes()] for x in examples]
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        for t, at in found[one]:
            assert min(abs(t - u) for u, _ in found[other]) >= 0.3 - 1e-9
            assert min(np.abs(at - there).max() for _, there in found[other]) > 0.5


def test_order_is_the_seeds_and_each_example_comes_once_before_any_comes_again(capture):
    train = data("train", capture)
    n = train.n_examples
    batches = [train.batch(i, 50)["samples"] for i in range(-(-2 * n // 50))]
    drawn = [x.tobytes() for b in batches for x in b]
    first, second = drawn[:n], drawn[n : 2 * n]
    assert len(set(first)) == len(set(second)) == n
    assert set(first) == set(second)
    assert first != second
    same = data("train", capture)
    np.testing.assert_array_equal(same.batch(3, 50)["samples"], batches[3])
    other = data("train", capture, seed=2)
    assert not np.array_equal(other.batch(3, 50)["samples"], batches[3])
    assert {x.tobytes() for x in all_of(other)["samples"]} == set(first)


def test_a_test_of_other_frames_than_training_looked_at_shares_no_place_either(capture):
    """Training took each third frame, next to a test without a gap; a test of all frames has none of its places."""
    when = {x.tobytes(): at for _, x, at in frames(capture)}
    few = all_of(data("train", capture, gap_s=0.0, rounds=9, apart_m=1.0, every=3))["samples"]
    many = all_of(data("test", capture, gap_s=0.0, rounds=9, apart_m=1.0))["samples"]
    there = np.array([when[x.tobytes()] for x in many])
    for x in few:
        assert np.abs(when[x.tobytes()] - there).max(axis=(1, 2)).min() > 1.0


def test_recordings_for_one_split_alone_are_all_of_it(capture, tmp_path):
    other = record(tmp_path / "b.mcap", n_frames=60, seed=8)
    params = {"test_paths": [str(other)], "apart_m": 0.0}
    test = data("test", capture, **params)
    mine = {x.tobytes() for _, x, _ in frames(other)}
    assert {x.tobytes() for x in all_of(test)["samples"]} <= mine
    assert test.n_examples > 50
    assert len({x.tobytes() for x in all_of(data("train", capture, **params))["samples"]} & mine) == 0
    capture_gone = RecordedPlaces({"paths": ["gone.mcap"], **params}, 1, "test")  # tests need no training data
    assert capture_gone.n_examples == test.n_examples
    # the same recording on both sides has no place that is not shared
    with pytest.raises(RecordingError, match=r"train: 0 frames of .* at places of validation or test; record longer"):
        data("train", capture, validation_paths=[str(capture)], test_paths=[str(capture)])


def test_frames_are_cut_to_snapshots_of_one_number_or_of_many(capture):
    whole, cut = data("test", capture), data("test", capture, n_snapshots=16)
    assert cut.n_examples == 4 * whole.n_examples
    pieces = {x[:, i : i + 16].tobytes() for x in all_of(whole)["samples"] for i in range(0, 64, 16)}
    assert {x.tobytes() for x in all_of(cut)["samples"]} == pieces
    some = data("train", capture, n_snapshots=8, n_snapshots_most=64)
    lengths = [some.batch(i, 4)["samples"].shape[2] for i in range(40)]
    assert min(lengths) < 14
    assert max(lengths) > 40
    assert lengths == [some.batch(i, 4)["samples"].shape[2] for i in range(40)]
    assert (some.params.n_snapshots, some.params.n_snapshots_most) == (8, 64)


def test_counts_and_sigmf_are_read_as_samples_are(capture, tmp_path):
    """Integers as a converter gives them, of any scale, and SigMF, which keeps them otherwise."""

    def counts(frame):
        if frame.header.stream != "iq" or frame.header.kind != "data":
            return frame
        pairs = np.rint(frame["iq"].view(np.float32).reshape(9, 64, 2) * 32768).astype(np.int16)
        return Frame.of(frame.header, iq=(pairs, "sensor snapshot iq", "count"))

    plain = all_of(data("test", capture))
    for name in ("c.mcap", "c.sigmf-meta"):
        raw = all_of(data("test", changed(capture, tmp_path / name, counts)))
        np.testing.assert_allclose(raw["samples"] / 32768, plain["samples"], atol=2.2e-5)  # half a step of both
        np.testing.assert_array_equal(raw["azimuth_rad"], plain["azimuth_rad"])


def test_what_is_no_example_is_left_out_and_told(capture, tmp_path, caplog):
    def change(frame):
        h = frame.header
        if h.stream != "iq" or h.kind != "data":
            return frame
        if h.seq % 5 == 0:
            return Frame(h.replace(meta={"usable": False}), frame.arrays)
        if h.seq % 5 == 1:
            return Frame(h, {"iq": np.zeros_like(frame["iq"])})
        if h.seq % 5 == 2:
            return Frame(h, {"iq": np.full_like(frame["iq"], np.nan)})
        return frame

    broken = changed(capture, tmp_path / "d.mcap", change)
    kept = {x.tobytes() for _, x, _ in frames(broken)[3::5]} | {x.tobytes() for _, x, _ in frames(broken)[4::5]}
    seen = all_of(data("test", broken))
    assert {x.tobytes() for x in seen["samples"]} <= kept
    assert "50 not usable, as the device says" in caplog.text
    assert "100 silent or not finite" in caplog.text
    half = data("test", broken, every=2)
    assert abs(half.n_examples - len(seen["samples"]) / 2) < 3
    left = data("test", capture, azimuth_limit_rad=0.3, range_m=[5.0, 9.0])
    at = all_of(left)
    assert np.abs(at["azimuth_rad"]).max() < 0.3
    assert at["range_m"].min() >= 5
    assert at["range_m"].max() <= 9
    assert "a source beyond azimuth_limit_rad=0.3" in caplog.text


def test_sources_that_come_and_go_leave_places_that_are_not_a_number(tmp_path):
    def one_or_two(frame):
        if frame.header.stream == "truth" and frame.header.kind == "data" and frame.header.seq % 2:
            axes = {"position_m": "source xyz", "id": "source"}
            return Frame.of(frame.header, **{k: (frame[k][:1], axis, "") for k, axis in axes.items()})
        return frame

    path = changed(record(tmp_path / "e.mcap", n_frames=150), tmp_path / "f.mcap", one_or_two)
    train = data("train", path)
    batch = all_of(train)
    assert train.params.n_sources == (1, 2)
    absent = np.arange(2) >= batch["n_sources"][:, None]
    for name in ("azimuth_rad", "elevation_rad", "range_m"):
        np.testing.assert_array_equal(np.isnan(batch[name]), absent)
    assert set(data("train", path, n_sources=[2, 2]).batch(0, 20)["n_sources"]) == {2}


def test_a_line_has_the_azimuth_of_the_cone_and_a_rectangle_the_elevation(tmp_path):
    high = [{**s, "motion": {**s["motion"], "centre_m": [0, 8, 5], "extent_m": [3, 2, 1]}} for s in SOURCES]
    path = record(tmp_path / "g.mcap", sources=high, n_frames=100)
    batch = all_of(data("test", path, apart_m=0.0))
    at = {x.tobytes(): p for _, x, p in frames(path)}
    line = ArrayGeometry.ula(9, 0.5).position_m
    assert not batch["elevation_rad"].any()
    for x, azimuth, distance in zip(batch["samples"], batch["azimuth_rad"], batch["range_m"], strict=True):
        told = steering_vector_polar(line, azimuth, distance, 1.0, amplitude=True)
        np.testing.assert_allclose(told, steering_vector(line, at[x.tobytes()], 1.0, amplitude=True), atol=1e-9)
    rectangle = record(tmp_path / "h.mcap", array={"kind": "ura", "nx": 4, "nz": 4}, sources=high, n_frames=100)
    params = {"apart_m": 0.0, "range_m": [3.0, 20.0]}
    tilted = data("test", rectangle, elevation_limit_rad=1.0, **params)
    assert all_of(tilted)["elevation_rad"].min() > 0.2
    with pytest.raises(RecordingError, match=r"a source beyond elevation_limit_rad=0.05"):
        data("test", rectangle, **params)


def test_truth_of_another_rate_is_the_nearest_in_time(capture, tmp_path, caplog):
    def seldom(frame):
        return (
            None if frame.header.stream == "truth" and frame.header.kind == "data" and frame.header.seq % 4 else frame
        )

    path = changed(capture, tmp_path / "i.mcap", seldom)
    kept = {t: at for i, (t, _, at) in enumerate(frames(capture)) if i % 4 == 0}
    when = {x.tobytes(): t for t, x, _ in frames(capture)}
    batch = all_of(data("test", path, truth_within_s=0.11))
    assert not caplog.text
    for i, x in enumerate(batch["samples"]):
        nearest = min(kept, key=lambda t: abs(t - when[x.tobytes()]))
        here = direction_vector(batch["azimuth_rad"][i]) * batch["range_m"][i, :, None]
        distances = [np.abs(here - kept[t]).max() for t in kept if abs(t - when[x.tobytes()]) < 0.1025]
        assert min(distances) < 1e-9
        assert abs(nearest - when[x.tobytes()]) < 0.11
    data("test", path, truth_within_s=0.06)
    assert "62 no truth of its time" in caplog.text


def moved(header_change=None, array=None, when=lambda h: True):
    """Changes headers, or the array that descriptors tell."""

    def change(frame):
        h = frame.header
        if not when(h):
            return frame
        if h.kind == "descriptor":
            return frame if array is None else descriptor_frame(h, array)
        return frame if header_change is None else Frame(header_change(h), frame.arrays)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: None if f.header.stream == "truth" else f, r"has no stream 'truth', it has iq: training needs"),
        (
            lambda f: None if f.header.stream == "truth" and f.header.kind == "data" else f,
            "no frame of stream 'truth' in it",
        ),
        (lambda f: None if f.header.stream == "iq" and f.header.kind == "data" else f, "no frame of stream 'iq' in it"),
        (
            lambda f: None if f.header.kind == "descriptor" else f,
            "none of 60 frames is of use: 60 before any array descriptor",
        ),
        (
            moved(lambda h: h.replace(time_ns=h.time_ns + 10**12), when=lambda h: h.stream == "truth"),
            r"no frame has a source within 0.05 s of it; the truth begins \+1000.000 s from the samples",
        ),
        (
            moved(lambda h: h.replace(timebase="utc"), when=lambda h: h.stream == "truth"),
            "times of the samples are device, those of the truth utc",
        ),
        (
            moved(lambda h: h.replace(time_ns=h.time_ns % 10**9)),
            r"goes back at frame 20, so the device was started again",
        ),
        (moved(lambda h: h.replace(time_ns=None, timebase=None, sample_start=None)), "has no time"),
        (
            lambda f: Frame(f.header.replace(stream=f"{f.header.seq % 2}.{f.header.stream}"), f.arrays),
            r"has several streams 'iq', it has 0.iq, 0.truth, 1.truth, 1.iq: .* data.iq and data.truth name",
        ),
        (moved(lambda h: h.replace(frequency_hz=None)), "its carrier is not known: give data.frequency_hz"),
        (
            moved(lambda h: h.replace(frequency_hz=3.1e8), when=lambda h: h.seq > 9),
            r"several carriers, 299792458 Hz in .* and 310000000 Hz in .*: give data.frequency_hz",
        ),
        (moved(array=ArrayGeometry.ula(8, 0.5)), r"has 9 channels, the array has 8: record with the geometry"),
    ],
)
def test_recordings_of_no_use_are_refused_with_the_reason(short, tmp_path, change, message):
    with pytest.raises(RecordingError, match=message):
        data("train", changed(short, tmp_path / "j.mcap", change))


def test_two_arrays_or_carriers_do_not_go_together(short, tmp_path):
    narrow = changed(short, tmp_path / "k.mcap", moved(array=ArrayGeometry.ula(9, 0.45)))
    with pytest.raises(RecordingError, match=r"s.mcap and .*k.mcap are of two arrays, .* by 0.2 wavelengths"):
        data("train", short, narrow)
    fewer = changed(short, tmp_path / "l.mcap", moved(array=ArrayGeometry.ula(8, 0.5)))
    with pytest.raises(RecordingError, match=r"s.mcap is of 9 channels, .*l.mcap of 8"):
        data("train", short, fewer)
    said = data("train", short, narrow, array={"kind": "ula", "n": 9, "spacing_m": 0.4}, range_m=[1.0, 50.0])
    assert said.array.aperture_m == pytest.approx(3.2)
    retuned = changed(short, tmp_path / "m.mcap", moved(lambda h: h.replace(frequency_hz=3.1e8)))
    with pytest.raises(RecordingError, match="several carriers"):
        data("train", short, retuned)
    one = data("train", short, retuned, frequency_hz=FREQUENCY_HZ)
    assert {x.tobytes() for x in all_of(one)["samples"]} == {
        x.tobytes() for x in all_of(data("train", short))["samples"]
    }
    with pytest.raises(RecordingError, match="not at 100000000 Hz"):
        data("train", short, frequency_hz=1e8)
    later = changed(short, tmp_path / "n.mcap", turned_array())
    with pytest.raises(RecordingError, match=r"n.mcap: the array is another one from frame 30 on"):
        data("train", later)


def turned_array():
    """Another array from frame 30 on."""

    def change(frame):
        h = frame.header
        if h.stream == "iq" and h.kind == "data" and h.seq == 30:
            return descriptor_frame(h, ArrayGeometry.ula(9, 0.4))
        return frame

    return change


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"paths": ["nowhere.mcap"]}, RecordingError, "cannot read nowhere.mcap: No such file"),
        ({"paths": []}, ParamError, "data.paths: expected recordings for train, got none"),
        ({"path": "a.mcap"}, ParamError, "data: .*unknown field `path`"),
        ({"shares": [0, 0, 0]}, ParamError, "shares: expected one above 0"),
        ({"n_snapshots_most": 50}, ParamError, "n_snapshots_most: give n_snapshots too"),
        ({"n_snapshots": 60, "n_snapshots_most": 50}, ParamError, "n_snapshots_most: expected at least 60, got 50"),
        (
            {"gap_s": 3.0},
            ParamError,
            r"s.mcap: a recording of 3.02 s, cut in 1 rounds, has parts of 0.453 s, and 3 s are lost",
        ),
        (
            {"shares": [0, 1, 0]},
            RecordingError,
            "train: 0 frames of .* with 60; left out: none left out; record longer",
        ),
        ({"apart_m": 50.0}, RecordingError, "record longer, let the sources move, or name recordings"),
        ({"n_snapshots": 65}, RecordingError, "left out: .* too few snapshots"),
        ({"n_snapshots": 2}, ParamError, r"cannot be estimated: no noise is left .*; give data.snr_db"),
        (
            {"iq": "x"},
            RecordingError,
            "has no stream 'x', it has iq, truth: .* data.iq and data.truth name the streams",
        ),
        ({"iq": "truth"}, RecordingError, "expected samples, with axes sensor and snapshot; data.iq names another"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(short, params, error, message):
    with pytest.raises(error, match=message):
        RecordedPlaces({"paths": [str(short)], **ONCE, **params}, 1, "train")


def test_memory_is_refused_before_it_is_taken(tmp_path):
    path = record(tmp_path / "o.mcap", n_snapshots=1024, n_frames=40, frame_period_s=0.3)
    with pytest.raises(
        ParamError, match=r"27 examples of 9 channels x 1024 snapshots take 2 MiB, the limit is 1: take fewer"
    ):
        data("train", path, most_mib=1, apart_m=0.0)


def test_a_ratio_that_is_known_is_taken_as_it_is(short):
    known = data("train", short, snr_db=[3.0, 9.0], n_snapshots=2)
    assert (known.params.snr_db, known.params.snr_estimated) == ((3.0, 9.0), False)
    assert np.isnan(known.batch(0, 4)["snr_db"]).all()


def test_sources_of_unequal_power_spread_the_ratio_as_the_truth_says(tmp_path):
    weak = [SOURCES[0], {**SOURCES[1], "power_db": -30.0}]
    low, high = data("train", record(tmp_path / "p.mcap", sources=weak, n_frames=150)).params.snr_db
    assert low == pytest.approx(10, abs=1.5)
    assert high == pytest.approx(20, abs=1.5)

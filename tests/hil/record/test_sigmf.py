"""SigMF recordings: written, validated and read by the sigmf package, cut, gone on with, damaged; others' files."""

import json
import logging
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import sigmf

from hil.array import ArrayGeometry
from hil.errors import HilError, RecordingError
from hil.frame import Frame
from hil.record import open_recording, open_writer
from hil.record.sigmf_format import utc_of, utc_text
from tests.hil.record.streams import RATE_HZ, ULA, descriptor, header, iq, same, session, truth

logging.getLogger("hil.record").setLevel(logging.CRITICAL)


def record(path: Path, frames, existing="refuse"):
    writer = open_writer(path, existing, chunk_bytes=4096)
    for frame in frames:
        writer.write(frame)
    writer.close()


def read(path: Path, **options):
    with open_recording(path, **options) as recording:
        return list(recording.frames()), recording


def test_round_trip_to_the_bit(tmp_path):
    frames = session()
    record(tmp_path / "a.sigmf-meta", frames)
    came, recording = read(tmp_path / "a.sigmf-meta")
    assert len(came) == len(frames)
    assert all(map(same, came, frames))
    assert recording.closed
    assert recording.problems == []
    assert recording.streams() == ("sim.iq", "sim.truth")
    assert came[1]["iq"].flags.c_contiguous
    assert not list(tmp_path.glob("*journal*"))
    assert [f.header.seq for f in read(tmp_path / "a.sigmf-data")[0]] == [f.header.seq for f in frames]


def test_the_sigmf_package_finds_it_valid_and_reads_the_samples(tmp_path):
    frames = session()
    record(tmp_path / "a.sigmf-meta", frames)
    other = sigmf.fromfile(str(tmp_path / "a.sigmf-meta"))  # checks the hash as well
    other.validate()
    samples = [f["iq"] for f in frames if f.header.stream == "sim.iq" and f.header.kind == "data"]
    assert np.array_equal(other.read_samples(), np.concatenate(samples, axis=1).T)
    captures = other.get_captures()
    assert [c["core:sample_start"] for c in captures] == [0, 11 * 16, 18 * 16, 28 * 16]
    assert [c["core:global_index"] for c in captures] == [0, 13 * 16, 20 * 16, 30 * 16]
    assert [c["core:frequency"] for c in captures] == [5e9, 5e9, 5.1e9, 5.1e9]
    assert captures[1]["core:datetime"] == "2023-11-14T22:13:20.000208123Z"
    labels = [a["core:label"] for a in other.get_annotations()]
    assert labels.count("truth") == 38
    assert labels.count("overflow") == labels.count("descriptor") == 1
    restored = ArrayGeometry.from_sigmf_spatial(other.get_global_info(), captures[0])
    assert np.allclose(restored.to_world(restored.position_m), ULA.to_world(ULA.position_m))


def test_frames_that_follow_share_a_segment_also_where_times_are_rounded(tmp_path):
    frames = [iq(n, sample_rate_hz=30.72e6, time_ns=1000 + n * 16 * 1000 * 100 // 3072) for n in range(3, 50)]
    record(tmp_path / "a.sigmf-meta", frames)
    assert len(json.loads((tmp_path / "a.sigmf-meta").read_text())["captures"]) == 1
    assert all(map(same, read(tmp_path / "a.sigmf-meta")[0], frames))


def test_repeated_description_is_kept_once_and_a_new_one_begins_a_segment(tmp_path):
    moved = ArrayGeometry.ula(4, 0.04, array_id="ula4")
    frames = [descriptor(), iq(0), descriptor(1), iq(1), descriptor(2, moved), iq(2)]
    record(tmp_path / "a.sigmf-meta", frames)
    came, _ = read(tmp_path / "a.sigmf-meta")
    assert all(map(same, came, [frames[i] for i in (0, 1, 3, 4, 5)]))
    assert len(json.loads((tmp_path / "a.sigmf-meta").read_text())["captures"]) == 2


@pytest.mark.parametrize(("dtype", "datatype"), [("int16", "ci16_le"), ("int8", "ci8")])
def test_integer_samples(tmp_path, dtype, datatype):
    pairs = np.random.default_rng(1).integers(-128, 128, (3, 8, 2)).astype(dtype)
    frame = Frame.of(header(0, 8), iq=(pairs, "sensor snapshot iq", "1"))
    record(tmp_path / "a.sigmf-meta", [frame])
    assert same(read(tmp_path / "a.sigmf-meta")[0][0], frame)
    other = sigmf.fromfile(str(tmp_path / "a.sigmf-meta"))
    assert other.get_global_info()["core:datatype"] == datatype
    scaled = other.read_samples() * (np.iinfo(dtype).max + 1)
    assert np.allclose(scaled.T, pairs[..., 0] + 1j * pairs[..., 1])


def test_unclosed_it_is_read_from_its_journal(tmp_path):
    frames = session()
    writer = open_writer(tmp_path / "a.sigmf-meta")
    for frame in frames:
        writer.write(frame)
    writer.flush()
    came, recording = read(tmp_path / "a.sigmf-meta")
    assert all(map(same, came, frames))
    assert len(came) == len(frames)
    assert not recording.closed
    assert recording.problems == ["not closed: read from its journal"]
    sigmf.fromfile(str(tmp_path / "a.sigmf-meta")).validate()  # the metadata are there and valid all the while
    writer.close()


def test_cut_anywhere_it_is_read_as_far_as_both_files_go_and_gone_on_with(tmp_path):
    frames = session()
    writer = open_writer(tmp_path / "a.sigmf-meta")
    for frame in frames:
        writer.write(frame)
    writer.flush()
    rng = np.random.default_rng(1)
    for _ in range(40):
        for name in ("a.sigmf-meta", "a.sigmf-data", "a.sigmf-journal"):
            shutil.copy(tmp_path / name, tmp_path / name.replace("a.", "b."))
        for name in ("b.sigmf-data", "b.sigmf-journal"):
            data = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(data[: int(rng.integers(len(data) // 2, len(data)))])
        came, _ = read(tmp_path / "b.sigmf-meta")
        samples = [f for f in came if f.header.stream == "sim.iq" and f.header.kind == "data"]
        assert len(samples) > 10
        original = {f.header.seq: f for f in frames if f.header.stream == "sim.iq" and f.header.kind == "data"}
        assert all(f["iq"].tobytes() == original[f.header.seq]["iq"].tobytes() for f in samples[:18])
        record(tmp_path / "b.sigmf-meta", [iq(90, epoch=2), iq(91, epoch=2)], existing="append")
        longer, recording = read(tmp_path / "b.sigmf-meta")
        assert recording.closed
        assert recording.problems == []
        assert [f.header.seq for f in longer[-2:]] == [90, 91]
        assert same(longer[-1], iq(91, epoch=2))
        sigmf.fromfile(str(tmp_path / "b.sigmf-meta")).validate()
        for path in tmp_path.glob("b.*"):
            path.unlink()
    writer.close()


def test_going_on_with_a_closed_one(tmp_path):
    record(tmp_path / "a.sigmf-meta", session()[:30])
    record(tmp_path / "a.sigmf-meta", session()[30:], existing="append")
    came, recording = read(tmp_path / "a.sigmf-meta")
    assert all(map(same, came, session()))
    assert len(came) == len(session())
    assert recording.closed


def test_refusals(tmp_path):
    record(tmp_path / "a.sigmf-meta", session())
    with pytest.raises(RecordingError, match=r"a\.sigmf-meta exists: choose another path"):
        open_writer(tmp_path / "a.sigmf-meta")
    with pytest.raises(RecordingError, match="a SigMF archive cannot grow while it is written"):
        open_writer(tmp_path / "a.sigmf")
    with pytest.raises(RecordingError, match="SigMF samples are not compressed"):
        open_writer(tmp_path / "b.sigmf-meta", compression="zstd")
    writer = open_writer(tmp_path / "b.sigmf-meta")
    writer.write(iq(0))
    for frame, message in [
        (iq(1, n_sensors=5), "is of one kind, cf32_le of 4 channels, got iq: complex64"),
        (iq(1, sample_rate_hz=2e6), r"one sample rate, 1000000\.0 Hz, got 2000000\.0 Hz: use \.mcap"),
        (iq(1, stream="other.iq", n_snapshots=5000), r"stream 'other\.iq' .* does not fit beside"),
    ]:
        with pytest.raises(RecordingError, match=message):
            writer.write(frame)
    writer.close()


def test_overwriting_leaves_nothing_of_the_old(tmp_path):
    record(tmp_path / "a.sigmf-meta", session())
    record(tmp_path / "a.sigmf-meta", [iq(5)], existing="overwrite")
    (came,) = read(tmp_path / "a.sigmf-meta")[0]
    assert same(came, iq(5))


def test_no_samples_no_recording(tmp_path):
    record(tmp_path / "a.sigmf-meta", [truth(1)])
    assert not list(tmp_path.glob("a.*"))


# -- recordings made elsewhere -----------------------------------------------------------------------------------------


def foreign(tmp_path, data, datatype="cf32_le", channels=2, captures=None, **fields):
    data.tofile(tmp_path / "f.sigmf-data")
    common = {"core:datatype": datatype, "core:version": "1.2.0", "core:num_channels": channels, **fields}
    meta = {"global": common, "captures": captures or [{"core:sample_start": 0}], "annotations": []}
    (tmp_path / "f.sigmf-meta").write_text(json.dumps(meta))
    return tmp_path / "f.sigmf-meta"


def test_foreign_recording_is_cut_into_frames(tmp_path):
    x = np.random.default_rng(1).standard_normal((25, 2, 2)).astype(np.float32)
    captures = [
        {"core:sample_start": 0, "core:frequency": 1e9, "core:datetime": "2024-01-01T00:00:00.5Z"},
        {"core:sample_start": 15, "core:frequency": 2e9, "core:global_index": 100},
    ]
    spatial = ArrayGeometry.ula(2, 0.1).to_sigmf_spatial()
    captures[0].update(spatial["captures"])
    path = foreign(tmp_path, x, captures=captures, **{"core:sample_rate": 1e3, **spatial["global"]})
    came, recording = read(path, frame_samples=10)
    assert recording.streams() == ("sigmf.iq",)
    assert [(f.header.kind, f.header.seq, f.header.epoch, f.header.sample_start) for f in came] == [
        ("descriptor", 0, 0, 0),
        ("data", 0, 0, 0),
        ("data", 1, 0, 10),
        ("data", 2, 1, 100),
    ]
    assert np.array_equal(np.concatenate([f["iq"] for f in came[1:]], axis=1), (x[..., 0] + 1j * x[..., 1]).T)
    assert came[2].header.time_ns == utc_of("2024-01-01T00:00:00.510Z")
    assert came[3].header.lost.samples == 85
    assert came[3].header.time_ns is None


@pytest.mark.parametrize("datatype", ["ci16_le", "ci16_be", "ci8", "cu8", "cf64_be", "ci32_le"])
def test_foreign_samples_have_full_scale_1(tmp_path, datatype):
    kind = {"i": ">i", "u": "u", "f": ">f"}[datatype[1]]
    n = {"ci8": 1, "cu8": 1, "ci16_le": 2, "ci16_be": 2, "ci32_le": 4, "cf64_be": 8}[datatype]
    dtype = np.dtype(f"{kind}{n}").newbyteorder(">" if datatype.endswith("be") else "<")
    full = 1.0 if kind == ">f" else 2.0 ** (8 * n - 1)
    offset = full if kind == "u" else 0
    stored = np.array([[0.5, -0.25], [-1, 0]]) * full + offset
    path = foreign(tmp_path, stored.astype(dtype), datatype, channels=1)
    (frame,) = read(path)[0]
    assert np.array_equal(frame["iq"], np.array([[0.5 - 0.25j, -1]], np.complex64))
    assert frame["iq"].dtype == np.complex64


def test_archive_is_read_where_it_lies(tmp_path):
    record(tmp_path / "a.sigmf-meta", session())
    with tarfile.open(tmp_path / "a.sigmf", "w") as archive:
        for suffix in ("meta", "data"):
            archive.add(tmp_path / f"a.sigmf-{suffix}", f"a/a.sigmf-{suffix}")
    came, _ = read(tmp_path / "a.sigmf")
    assert all(map(same, came, session()))
    assert len(came) == len(session())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"core:datatype": "rf32_le"}, "core:datatype 'rf32_le' is not read, only complex samples"),
        ({"core:num_channels": 0}, "core:num_channels: expected 1 to 65536, got 0"),
        ({"core:sample_rate": -1}, "core:sample_rate: expected a number above 0, got -1"),
    ],
)
def test_what_is_not_read_is_refused(tmp_path, change, message):
    with pytest.raises(RecordingError, match=message):
        open_recording(foreign(tmp_path, np.zeros(8, np.float32), **change))


def test_what_the_schema_forbids_is_named_and_read_all_the_same(tmp_path):
    x = np.zeros((4, 2, 2), np.float32)
    assert read(foreign(tmp_path, x))[1].problems == []
    came, recording = read(foreign(tmp_path, x, **{"core:author": 5}))
    assert [f["iq"].shape for f in came] == [(2, 4)]
    (problem,) = recording.problems
    assert "not as SigMF has them" in problem
    assert "core:author" in problem
    assert "5 is not of type 'string'" in problem


def test_times_have_nanoseconds():
    assert utc_of(utc_text(1_700_000_000_123_456_789)) == 1_700_000_000_123_456_789
    assert utc_of("1970-01-01T00:00:01Z") == 10**9
    with pytest.raises(RecordingError, match="is no time"):
        utc_of("yesterday")


def fuzz(tmp_path: Path, n: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    record(tmp_path / "a.sigmf-meta", session(12))
    own = (tmp_path / "a.sigmf-meta").read_bytes()
    samples = (tmp_path / "a.sigmf-data").read_bytes()
    with tarfile.open(tmp_path / "a.sigmf", "w") as archive:
        for suffix in ("meta", "data"):
            archive.add(tmp_path / f"a.sigmf-{suffix}")
    archived = (tmp_path / "a.sigmf").read_bytes()
    n_frames = 0
    for index in range(n):
        data = bytearray(archived if index % 3 == 0 else own)
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(len(data)))
            match int(rng.integers(4)):
                case 0:
                    data[at] = int(rng.choice(np.frombuffer(b'0123456789-{}[]",:.enul\x00\xff', np.uint8)))
                case 1:
                    data[at : at + 3] = b'"x"'
                case 2:
                    del data[at : at + int(rng.integers(1, 9))]
                case 3:
                    data[at:at] = data[at : at + 5]
        name = "z.sigmf" if index % 3 == 0 else "z.sigmf-meta"
        (tmp_path / name).write_bytes(data)
        (tmp_path / "z.sigmf-data").write_bytes(
            samples[: int(rng.integers(len(samples)))] if index % 5 == 0 else samples
        )
        try:
            n_frames += len(read(tmp_path / name)[0])
        except HilError as error:
            assert isinstance(error, RecordingError), error
    return n_frames


def test_mutated_files_are_read_as_far_as_they_go(tmp_path):
    assert fuzz(tmp_path, 500, seed=1) > 100


@pytest.mark.slow
def test_many_mutated_files(tmp_path):
    assert fuzz(tmp_path, 10_000, seed=2) > 1000


def test_rate_is_that_of_the_frames(tmp_path):
    record(tmp_path / "a.sigmf-meta", [iq(0)])
    assert read(tmp_path / "a.sigmf-meta")[0][0].header.sample_rate_hz == RATE_HZ

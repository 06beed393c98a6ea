"""MCAP recordings: written, read by others, cut anywhere, gone on with, damaged."""

import logging
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap.writer import Writer as OtherWriter

from hil.errors import HilError, RecordingError
from hil.record import open_recording, open_writer
from hil.record.compression import compress, decompress
from hil.record.packing import pack_parts, unpack_frame
from hil.wire import encode
from tests.hil.record.streams import iq, same, session

logging.getLogger("hil.record").setLevel(logging.CRITICAL)


def record(path: Path, frames, existing="refuse", **options):
    writer = open_writer(path, existing, **options)
    for frame in frames:
        writer.write(frame)
    writer.close()


def read(path: Path, **options):
    with open_recording(path) as recording:
        return list(recording.frames(**options)), recording


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("chunk_bytes", [4096, 1 << 20])
def test_round_trip_to_the_bit(tmp_path, compression, chunk_bytes):
    frames = session()
    record(tmp_path / "a.mcap", frames, compression=compression, chunk_bytes=chunk_bytes)
    came, recording = read(tmp_path / "a.mcap")
    assert len(came) == len(frames)
    assert all(map(same, came, frames))
    assert recording.closed
    assert recording.problems == []
    assert recording.streams() == ("sim.iq", "sim.truth")


def test_frame_larger_than_a_chunk(tmp_path):
    frames = [iq(0, n_snapshots=4096), iq(1), iq(2, n_snapshots=8192)]
    record(tmp_path / "a.mcap", frames, chunk_bytes=4096)
    assert all(map(same, read(tmp_path / "a.mcap")[0], frames))


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_another_reader_reads_it(tmp_path, compression):
    frames = session()
    record(tmp_path / "a.mcap", frames, compression=compression, chunk_bytes=4096)
    with (tmp_path / "a.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        statistics = reader.get_summary().statistics
        assert statistics.message_count == len(frames)
        assert statistics.channel_count == 2
        assert len(reader.get_summary().chunk_indexes) == statistics.chunk_count > 3
        by_channel = list(reader.iter_messages(topics=["sim.truth"]))
        assert [m.sequence for _, _, m in by_channel] == [
            f.header.seq for f in frames if f.header.stream == "sim.truth"
        ]
        schema, channel, message = by_channel[5]
        assert (schema.name, channel.message_encoding) == ("hil-frame-v1", "hil-frame-v1")
        assert same(unpack_frame(message.data), [f for f in frames if f.header.stream == "sim.truth"][5])
    with (tmp_path / "a.mcap").open("rb") as file:
        records = list(StreamReader(file, validate_crcs=True).records)
        assert sum(type(r).__name__ == "Message" for r in records) == len(frames)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("compression", list(CompressionType))
def test_what_another_writer_wrote_is_read(tmp_path, chunked, compression):
    frames = session()
    with (tmp_path / "a.mcap").open("wb") as file:
        writer = OtherWriter(file, chunk_size=2048, compression=compression, use_chunking=chunked)
        writer.start()
        schema = writer.register_schema("hil-frame-v1", "", b"")
        channels = {n: writer.register_channel(n, "hil-frame-v1", schema) for n in ("sim.iq", "sim.truth")}
        other = writer.register_channel("log", "json", 0)
        writer.add_message(other, 0, b"{}", 0)
        for frame in frames:
            data = b"".join(map(bytes, pack_parts(encode(frame))))
            writer.add_message(channels[frame.header.stream], frame.header.time_ns, data, 0)
        writer.finish()
    came, recording = read(tmp_path / "a.mcap")
    assert all(map(same, came, frames))
    assert len(came) == len(frames)
    assert recording.closed
    assert set(recording.streams()) == {"sim.iq", "sim.truth"}


def test_streams_and_start_are_chosen(tmp_path):
    record(tmp_path / "a.mcap", session())
    came, _ = read(tmp_path / "a.mcap", streams=["sim.truth"])
    assert {f.header.stream for f in came} == {"sim.truth"}
    came, _ = read(tmp_path / "a.mcap", start_s=24 * 16e-6)
    assert came[0].header.kind == "descriptor"
    assert came[1].header.seq == 24
    with pytest.raises(RecordingError, match=r"has no stream 'x', it has sim\.iq, sim\.truth"):
        read(tmp_path / "a.mcap", streams=["x"])


def test_cut_anywhere_it_is_read_up_to_the_last_whole_chunk(tmp_path):
    frames = session()
    record(tmp_path / "a.mcap", frames, chunk_bytes=4096)
    whole = (tmp_path / "a.mcap").read_bytes()
    counts = []
    for cut in [*range(9, 1200, 41), *range(1200, len(whole), 397), len(whole) - 1]:
        (tmp_path / "b.mcap").write_bytes(whole[:cut])
        came, recording = read(tmp_path / "b.mcap")
        assert not recording.closed
        assert recording.problems
        assert all(map(same, came, frames)), "what is read is the beginning"
        counts.append(len(came))
    assert counts == sorted(counts)
    assert counts[-1] == len(frames)


def test_goes_on_behind_the_last_whole_chunk(tmp_path):
    frames = session()
    record(tmp_path / "a.mcap", frames[:40], chunk_bytes=4096)
    whole = (tmp_path / "a.mcap").read_bytes()
    for cut in (len(whole), len(whole) - 5, len(whole) - 900, len(whole) // 2, 30):
        (tmp_path / "b.mcap").write_bytes(whole[:cut])
        n_kept = len(read(tmp_path / "b.mcap")[0])
        record(tmp_path / "b.mcap", frames[40:], existing="append")
        came, recording = read(tmp_path / "b.mcap")
        assert recording.closed
        assert recording.problems == []
        assert len(came) == n_kept + len(frames) - 40
        assert all(map(same, came, [*frames[:n_kept], *frames[40:]]))
        with (tmp_path / "b.mcap").open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            assert reader.get_summary().statistics.message_count == len(came)
            assert len(list(reader.iter_messages())) == len(came)


def test_going_on_where_nothing_is_begins(tmp_path):
    record(tmp_path / "a.mcap", session(), existing="append")
    assert len(read(tmp_path / "a.mcap")[0]) == len(session())


def test_damaged_chunk_is_left_out_and_named(tmp_path):
    frames = session()
    record(tmp_path / "a.mcap", frames, chunk_bytes=4096)
    data = bytearray((tmp_path / "a.mcap").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.mcap").write_bytes(data)
    came, recording = read(tmp_path / "a.mcap")
    assert 0 < len(came) < len(frames)
    assert any("checksum" in p or "damaged" in p for p in recording.problems)
    left = iter(frames)
    assert all(any(same(f, g) for g in left) for f in came), "the others, in order"


#: Unpacks its input; tells the error, and the most memory that it took meanwhile.
_PEAK = """
import sys, tracemalloc
from hil.errors import RecordingError
from hil.record.compression import decompress
data = sys.stdin.buffer.read()
tracemalloc.start()
try:
    decompress(data, sys.argv[1], int(sys.argv[2]))
except RecordingError as error:
    print(error, tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("method", ["lz4", "zstd"])
def test_unpacked_size_that_lies_takes_no_memory(method):
    data = bytes(compress(b"a" * 5_000_000, method))
    assert decompress(data, method, 5_000_000) == b"a" * 5_000_000
    for size, message in ((2 << 30, "got 5000000"), (1000, "expected 1000 bytes, got 1048576"), (0, "expected 0")):
        # in a process of its own: tracemalloc counts what all threads of a process take
        told = subprocess.run(
            [sys.executable, "-c", _PEAK, method, str(size)], input=data, capture_output=True, check=True
        )
        said, peak = told.stdout.decode().rsplit(maxsplit=1)
        assert message in said
        assert int(peak) < 16 << 20
    with pytest.raises(RecordingError, match=f"not {method} data|expected 10 bytes"):
        decompress(b"0123456789", method, 10)
    with pytest.raises(RecordingError):
        decompress(data[:-9], method, 5_000_000)
    with pytest.raises(RecordingError, match="compression 'gz' is not known"):
        decompress(b"", "gz", 0)


def test_refusals(tmp_path):
    record(tmp_path / "a.mcap", session())
    with pytest.raises(RecordingError, match=r"a\.mcap exists: choose another path, or overwrite=true"):
        open_writer(tmp_path / "a.mcap")
    with pytest.raises(RecordingError, match=r"cannot record to .*: No such file or directory"):
        open_writer(tmp_path / "no" / "a.mcap")
    with pytest.raises(RecordingError, match=r"expected a name that ends in \.mcap or \.sigmf-meta"):
        open_writer(tmp_path / "a.bin")
    with pytest.raises(RecordingError, match=r"cannot read .*none\.mcap: No such file"):
        open_recording(tmp_path / "none.mcap")
    (tmp_path / "b.mcap").write_bytes(b"not one")
    with pytest.raises(RecordingError, match="is no MCAP file: it begins with b'not one'"):
        open_recording(tmp_path / "b.mcap")
    with pytest.raises(RecordingError, match="is no MCAP file"):
        open_writer(tmp_path / "b.mcap", "append")
    assert (tmp_path / "b.mcap").read_bytes() == b"not one"
    with (tmp_path / "c.mcap").open("wb") as file:
        writer = OtherWriter(file)
        writer.start()
        writer.add_message(writer.register_channel("log", "json", 0), 0, b"{}", 0)
        writer.finish()
    with pytest.raises(RecordingError, match="holds no frames: channel 'log' is 'json', expected 'hil-frame-v1'"):
        open_recording(tmp_path / "c.mcap")
    with pytest.raises(RecordingError, match="was not written by a recorder"):
        open_writer(tmp_path / "c.mcap", "append")


def fuzz(tmp_path: Path, n: int, seed: int) -> int:
    """Read ``n`` mutated files; return how many frames came of them."""
    rng = np.random.default_rng(seed)
    good = []
    for compression in ("none", "lz4", "zstd"):
        record(tmp_path / f"{compression}.mcap", session(12), compression=compression, chunk_bytes=4096)
        good.append((tmp_path / f"{compression}.mcap").read_bytes())
    n_frames = 0
    for _ in range(n):
        data = bytearray(good[int(rng.integers(3))])
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(len(data)))
            match int(rng.integers(4)):
                case 0:
                    data[at] = int(rng.integers(256))
                case 1:
                    data[at : at + 8] = rng.bytes(8)
                case 2:
                    del data[at : at + int(rng.integers(1, 64))]
                case 3:
                    data[at : at + 8] = b"\xff" * 8
        if rng.random() < 0.3:
            del data[int(rng.integers(len(data))) :]
        (tmp_path / "fuzz.mcap").write_bytes(data)
        try:
            n_frames += len(read(tmp_path / "fuzz.mcap")[0])
            record(tmp_path / "fuzz.mcap", [iq(50)], existing="append")
            assert same(read(tmp_path / "fuzz.mcap")[0][-1], iq(50))
        except HilError as error:
            assert isinstance(error, RecordingError)
    return n_frames


def test_mutated_files_are_read_as_far_as_they_go(tmp_path):
    assert fuzz(tmp_path, 300, seed=1) > 1000


@pytest.mark.slow
def test_many_mutated_files(tmp_path):
    assert fuzz(tmp_path, 10_000, seed=2) > 10_000


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_lengths_that_lie_take_no_memory(tmp_path, compression):
    """Lengths all over the file say 4 GiB or more, where it has some thousand bytes."""
    record(tmp_path / "a.mcap", session(3), compression=compression)
    good = (tmp_path / "a.mcap").read_bytes()
    tracemalloc.start()
    try:
        for at in range(8, len(good) - 8, 29 if compression == "none" else 7):
            for lie in (b"\xff\xff\xff\xff", b"\0\0\0\0\0\0\0\x40"):
                (tmp_path / "b.mcap").write_bytes(good[:at] + lie + good[at + len(lie) :])
                try:
                    read(tmp_path / "b.mcap")
                except RecordingError as error:
                    assert str(error)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()

"""How fast are recordings written and read, and what does a killed recorder take with it?

``python -m benchmarks.recording [--quick] [--json]``. Frames of 256 elements x 100 snapshots are written and read in
the two formats, beside the bare samples in a plain file and the writers and readers of the packages ``mcap`` and
``sigmf``. All that was written is read back and compared before anything is timed. Files are in the system's folder
for temporary ones and stay in the page cache, so this is the cost of the formats and not of a disk. Then a recorder is
killed (``kill -9``) at random moments while frames come, and what it had taken is compared with what is in its file.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sigmf
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from benchmarks.report import Report, median_ci95
from hil.frame import Frame, Header
from hil.record import Recorder, open_recording, open_writer
from hil.record.packing import pack_parts, unpack_frame
from hil.wire import encode

N_ELEMENTS, N_SNAPSHOTS, RATE_HZ = 256, 100, 10_000.0
FRAME_BYTES = 8 * N_ELEMENTS * N_SNAPSHOTS
FLUSH_INTERVAL_S, CHUNK_BYTES = 1.0, 1 << 20
#: Frames a second while the recorder is killed, and their shape: the time or the size of what waits is the bound.
KILLED = {"small frames": (4, 16), "large frames": (N_ELEMENTS, N_SNAPSHOTS)}
KILLED_FRAMES_PER_S = 100


def frames_of(n_frames: int, n_elements: int = N_ELEMENTS, n_snapshots: int = N_SNAPSHOTS) -> list[Frame]:
    """Noise, which no format makes smaller. Sixteen blocks of samples serve all frames in turn."""
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((16, n_elements, n_snapshots, 2), np.float32)
    blocks = parts.view(np.complex64)[..., 0]
    first = Header("sim.iq", 0, sample_start=0, sample_rate_hz=RATE_HZ, time_ns=0, timebase="utc")
    frames = []
    for seq in range(n_frames):
        start = seq * n_snapshots
        header = first.replace(seq=seq, sample_start=start, time_ns=round(start / RATE_HZ * 1e9))
        frames.append(Frame.of(header, iq=(blocks[seq % 16], "sensor snapshot", "FS")))
    return frames


# -- ways to write and to read ---------------------------------------------------------------------------------------


def write_plain(path: Path, frames: list[Frame]) -> None:
    with path.open("wb", buffering=0) as file:
        for frame in frames:
            file.write(frame["iq"].data)


def read_plain(path: Path) -> Iterator[Any]:
    with path.open("rb", buffering=0) as file:
        while data := file.read(FRAME_BYTES):
            yield np.frombuffer(data, np.complex64).reshape(N_ELEMENTS, N_SNAPSHOTS)


def write_ours(path: Path, frames: list[Frame]) -> None:
    path.unlink(missing_ok=True)
    writer = open_writer(path, "overwrite", chunk_bytes=CHUNK_BYTES)
    for frame in frames:
        writer.write(frame)
    writer.close()


def read_ours(path: Path) -> Iterator[Any]:
    with open_recording(path) as recording:
        for frame in recording.frames():
            yield frame["iq"]


def write_mcap_package(path: Path, frames: list[Frame]) -> None:
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.NONE)
        writer.start()
        channel = writer.register_channel("sim.iq", "hil-frame-v1", writer.register_schema("hil-frame-v1", "", b""))
        for frame in frames:
            time_ns = frame.header.time_ns or 0
            writer.add_message(channel, time_ns, b"".join(pack_parts(encode(frame))), time_ns, frame.header.seq)
        writer.finish()


def read_mcap_package(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for _, _, message in make_reader(file, validate_crcs=True).iter_messages(log_time_order=False):
            yield unpack_frame(message.data)["iq"]


def write_sigmf_package(path: Path, frames: list[Frame]) -> None:
    """Samples into the file, then the hash over the file and the metadata, as one writes SigMF by hand."""
    data = path.with_suffix(".sigmf-data")
    with data.open("wb", buffering=0) as file:
        for frame in frames:
            file.write(np.ascontiguousarray(frame["iq"].T).data)
    common = {
        sigmf.DATATYPE_KEY: "cf32_le",
        sigmf.NUM_CHANNELS_KEY: N_ELEMENTS,
        sigmf.SAMPLE_RATE_KEY: RATE_HZ,
    }
    meta = sigmf.SigMFFile(data_file=str(data), global_info=common)
    meta.add_capture(0)
    meta.tofile(str(path), overwrite=True)


def read_sigmf_package(path: Path) -> Iterator[Any]:
    signal = sigmf.fromfile(str(path), skip_checksum=True)
    for start in range(0, signal.sample_count, N_SNAPSHOTS):
        yield np.ascontiguousarray(signal.read_samples(start, N_SNAPSHOTS).T)


Ways = tuple[str, str, Callable[[Path, list[Frame]], None], Callable[[Path], Iterator[Any]]]
WAYS: tuple[Ways, ...] = (
    ("plain file", "plain.bin", write_plain, read_plain),
    ("package mcap", "package.mcap", write_mcap_package, read_mcap_package),
    ("MCAP", "ours.mcap", write_ours, read_ours),
    ("package sigmf", "package.sigmf-meta", write_sigmf_package, read_sigmf_package),
    ("SigMF", "ours.sigmf-meta", write_ours, read_ours),
)
BESIDE = {"MCAP": "package mcap", "SigMF": "package sigmf"}


def check(folder: Path, frames: list[Frame]) -> None:
    """Every way gives back every sample, and the packages read what we write."""
    for name, file, write, read in WAYS:
        write(folder / file, frames)
        readers = [read]
        if name == "MCAP":
            readers.append(read_mcap_package)
        elif name == "SigMF":
            readers.append(read_sigmf_package)
            sigmf.fromfile(str(folder / file)).validate()  # its hash, too
        for reader in readers:
            came = list(reader(folder / file))
            if [a.tobytes() for a in came] != [f["iq"].tobytes() for f in frames]:
                raise AssertionError(f"{name}: {reader.__name__} gives back {len(came)} frames that differ")


def time_ways(folder: Path, frames: list[Frame], rounds: int) -> dict[str, dict[str, list[float]]]:
    """MB/s of samples, written and read: all ways in turn in each round, so that all meet the same machine."""
    n_mb = len(frames) * FRAME_BYTES / 1e6
    rates: dict[str, dict[str, list[float]]] = {"write": {}, "read": {}}
    for _ in range(rounds):
        for name, file, write, read in WAYS:
            start = time.perf_counter()
            write(folder / file, frames)
            wrote = time.perf_counter()
            n_read = sum(1 for _ in read(folder / file))
            done = time.perf_counter()
            if n_read != len(frames):
                raise AssertionError(f"{name}: read {n_read} frames of {len(frames)}")
            rates["write"].setdefault(name, []).append(n_mb / (wrote - start))
            rates["read"].setdefault(name, []).append(n_mb / (done - wrote))
    return rates


# -- killed ----------------------------------------------------------------------------------------------------------


def record_until_killed(path: Path, case: str) -> None:
    """The child: takes a frame every 10 ms and says so."""
    blocks = frames_of(16, *KILLED[case])
    block = Recorder("rec", path=str(path), flush_interval_s=FLUSH_INTERVAL_S, chunk_bytes=CHUNK_BYTES)
    start = time.monotonic()
    for seq in range(10**9):
        time.sleep(max(0.0, start + seq / KILLED_FRAMES_PER_S - time.monotonic()))
        frame = blocks[seq % 16]
        block.feed("in0", Frame(frame.header.replace(seq=seq), frame.arrays))
        sys.stdout.buffer.write(seq.to_bytes(8, "little"))
        sys.stdout.buffer.flush()


def lost_frames(path: Path, case: str, after_s: float) -> int:
    """Frames that a recorder had taken and that are not in its file, when it is killed ``after_s`` its first frame."""
    command = [sys.executable, "-m", "benchmarks.recording", "--record", str(path), case]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = child.stdout.read(8)
        time.sleep(after_s)
        child.kill()
        told += child.stdout.read()
    n_taken = len(told) // 8
    with open_recording(path) as recording:
        came = [frame.header.seq for frame in recording.frames()]
    if came != list(range(len(came))):
        raise AssertionError(f"{path}: what is read is not the beginning")
    return n_taken - len(came)


def time_kills(report: Report, folder: Path, kills: int) -> None:
    rng = np.random.default_rng(2)
    for case, (n_elements, n_snapshots) in KILLED.items():
        for name, suffix in (("MCAP", ".mcap"), ("SigMF", ".sigmf-meta")):
            lost = [
                lost_frames(folder / f"{case.split()[0]}{kill}{suffix}", case, rng.uniform(1.0, 3.0))
                for kill in range(kills)
            ]
            n_bytes = 8 * n_elements * n_snapshots
            case_name = f"{name}, {n_elements} x {n_snapshots} at {KILLED_FRAMES_PER_S} frames/s"
            lost_s = np.array(lost) / KILLED_FRAMES_PER_S
            median, ci95 = median_ci95(lost_s)
            most_s, most_mb, waits_mb = lost_s.max(), max(lost) * n_bytes / 1e6, (CHUNK_BYTES + n_bytes) / 1e6
            report.add(case_name, "lost by kill -9, median", median, "s", n=kills, ci95=ci95)
            report.add(case_name, "lost by kill -9, most", most_s, "s", n=kills, at_most=FLUSH_INTERVAL_S)
            report.add(case_name, "lost by kill -9, most", most_mb, "MB", n=kills, at_most=waits_mb)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recording", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames, rounds and kills")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--record", nargs=2, metavar=("PATH", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        record_until_killed(Path(options.record[0]), options.record[1])
        return
    n_frames, rounds, kills = (100, 7, 4) if options.quick else (500, 15, 20)
    logging.getLogger("hil.record").setLevel(logging.ERROR)  # that a killed recorder did not close its file is known
    report = Report("recording", as_json=options.json)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = frames_of(n_frames)
        check(folder, frames)
        for what, ways in time_ways(folder, frames, rounds).items():
            plain, _ = median_ci95(ways["plain file"])
            for way, rates in ways.items():
                rate, ci95 = median_ci95(rates)
                case = f"{n_frames} frames of {N_ELEMENTS} x {N_SNAPSHOTS}, {way}"
                other = BESIDE.get(way, None if way == "plain file" else "plain file")
                against = None if other is None else median_ci95(ways[other])[0]
                report.add(case, what, rate, "MB/s", n=rounds, ci95=ci95, against=other,
                           ratio=None if against is None else rate / against)  # fmt: skip
                if way in BESIDE:
                    report.add(case, what, rate, "MB/s", n=rounds, ci95=ci95, against="plain file", ratio=rate / plain)
        time_kills(report, folder, kills)
    report.finish()


if __name__ == "__main__":
    main()

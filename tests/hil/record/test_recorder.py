"""The recorder: takes everything, flushes in time, outlives a full disk, goes on after a death."""

import errno
import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from hil.errors import ParamError, RecordingError
from hil.frame import Frame, Loss
from hil.port import Port
from hil.record import Recorder, describe_recording, open_recording
from hil.record import storage as storage_module
from tests.hil.record.streams import descriptor, header, iq, same, session, truth


def frames_of(path) -> list[Frame]:
    with open_recording(path) as recording:
        return list(recording.frames())


def recorder(path, **params) -> Recorder:
    return Recorder("rec", path=str(path), **params)


@pytest.mark.parametrize("name", ["a.mcap", "a.sigmf-meta"])
def test_records_all_kinds_from_all_inputs_in_order(tmp_path, name):
    block = recorder(tmp_path / name, n_inputs=2)
    assert list(block.inputs) == ["in0", "in1"]
    for frame in session():
        assert block.feed("in1" if frame.header.stream == "sim.truth" else "in0", frame) == []
    assert block.finish() == []
    block.close()
    assert all(map(same, frames_of(tmp_path / name), session()))
    stats = block.stats()
    assert stats["frames"] == len(session())
    assert (stats["lost"], stats["unflushed"], stats["stopped"]) == (0, 0, None)
    assert stats["lost_before"] == 2
    assert stats["bytes"] == sum(p.stat().st_size for p in tmp_path.iterdir())


def test_keeps_no_reference_to_what_it_was_fed(tmp_path):
    block = recorder(tmp_path / "a.mcap")
    frame = iq(1)
    block.feed("in0", frame)
    frame.arrays["iq"][:] = 0
    block.finish()
    assert same(frames_of(tmp_path / "a.mcap")[0], iq(1))


def test_flushes_though_nothing_more_comes(tmp_path):
    block = recorder(tmp_path / "a.mcap", flush_interval_s=0.05)
    block.feed("in0", iq(1))
    deadline = time.monotonic() + 10
    while block.stats()["unflushed"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert block.stats()["unflushed_age_s"] == 0
    assert same(frames_of(tmp_path / "a.mcap")[0], iq(1))
    block.close()


def test_killed_it_leaves_all_that_was_flushed(tmp_path):
    """kill -9 in the middle; then another process goes on in the same file."""
    program = textwrap.dedent(
        """
        import itertools, sys, time
        from hil.record import Recorder
        from tests.hil.record.streams import iq
        block = Recorder("rec", path=sys.argv[1], flush_interval_s=0.05, chunk_bytes=4096)
        for seq in itertools.count():
            block.feed("in0", iq(seq))
            if seq == 100:
                time.sleep(0.5)
                assert block.stats()["unflushed"] == 0
                print("flushed", flush=True)
        """
    )
    for name in ("a.mcap", "a.sigmf-meta"):
        path = tmp_path / name
        with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "flushed\n"
            time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
        came = frames_of(path)
        assert len(came) > 100
        assert all(same(f, iq(seq)) for seq, f in enumerate(came) if path.suffix == ".mcap")
        assert [f["iq"].tobytes() for f in came] == [iq(seq)["iq"].tobytes() for seq in range(len(came))]
        block = recorder(path)
        block.restarted()
        block.feed("in0", iq(100_000))
        block.finish()
        assert [f.header.seq for f in frames_of(path)] == [*range(len(came)), 100_000]
        described = describe_recording(path)
        assert described["closed"]
        assert described["streams"]["sim.iq"]["missing"] == 100_000 - len(came)


def stopped(results) -> dict:
    ((port, frame),) = results
    assert port == "events"
    assert frame.header.kind == "event"
    assert frame.header.stream == "rec.events"
    return dict(frame.header.meta)


@pytest.mark.parametrize("name", ["a.mcap", "a.sigmf-meta"])
def test_disk_that_fills_stops_the_recording_once_and_never_the_receiver(tmp_path, name, caplog):
    """The file may have 60000 bytes: RLIMIT_FSIZE makes the kernel refuse the rest."""
    block = recorder(tmp_path / name, chunk_bytes=4096)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        results = [block.feed("in0", iq(seq)) for seq in range(400)]
        results.append(block.finish())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    told = [r for r in results if r]
    assert len(told) == 1
    meta = stopped(told[0])
    assert meta["event"] == "recording_stopped"
    assert meta["reason"] == os.strerror(errno.EFBIG)
    assert "recording to" in caplog.text
    came = frames_of(tmp_path / name)
    assert [f["iq"].tobytes() for f in came] == [iq(seq)["iq"].tobytes() for seq in range(len(came))]
    assert len(came) == meta["frames"] > 50
    assert block.stats()["lost"] == 400 - len(came)
    assert block.stats()["stopped"] == os.strerror(errno.EFBIG)


def test_disk_that_fills_while_nothing_comes_is_told_with_the_next_frame(tmp_path, monkeypatch):
    block = recorder(tmp_path / "a.mcap", flush_interval_s=0.05)
    assert block.feed("in0", iq(0)) == []

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage_module.os, "writev", full)
    deadline = time.monotonic() + 10
    while block.stats()["stopped"] is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stopped(block.feed("in0", iq(1)))["reason"] == "No space left on device"
    assert block.feed("in0", iq(2)) == []
    assert block.finish() == []
    assert block.stats()["lost"] == 3


def test_partial_write_is_taken_back(tmp_path, monkeypatch):
    """A disk takes half of a chunk and no more: the file ends before it, and has its index."""
    block = recorder(tmp_path / "a.mcap")
    for seq in range(5):
        block.feed("in0", iq(seq))
    block._writer.flush()
    real, state = os.writev, {"n": 0}

    def half(fd, views):
        state["n"] += 1
        if state["n"] == 1:
            return real(fd, [bytes(views[0])[:20]])
        if state["n"] == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, views)

    monkeypatch.setattr(storage_module.os, "writev", half)
    block.feed("in0", iq(5))
    told = [r for r in (block.finish(), block.feed("in0", iq(6))) if r]
    assert [stopped(r)["frames"] for r in told] == [5]
    came = frames_of(tmp_path / "a.mcap")
    assert [f.header.seq for f in came] == [0, 1, 2, 3, 4]


def test_what_the_format_cannot_hold_stops_the_recording(tmp_path):
    block = recorder(tmp_path / "a.sigmf-meta")
    block.feed("in0", iq(0))
    assert "is of one kind" in stopped(block.feed("in0", iq(1, n_sensors=3)))["reason"]
    block.finish()
    assert [f.header.seq for f in frames_of(tmp_path / "a.sigmf-meta")] == [0]


def test_stream_that_the_format_has_no_place_for_is_left_out_and_told_once(tmp_path):
    block = recorder(tmp_path / "a.sigmf-meta", n_inputs=2)
    block.feed("in0", iq(0))
    big = Frame.of(header(0, stream="m.spectrum"), s=(np.zeros((70, 70)), "azimuth range", "dB"))
    meta = stopped(block.feed("in1", big))
    assert (meta["event"], meta["stream"]) == ("stream_not_recorded", "m.spectrum")
    assert "record to .mcap" in meta["reason"]
    assert block.feed("in1", big) == []
    assert block.feed("in0", iq(1)) == []
    assert block.finish() == []
    assert [f.header.seq for f in frames_of(tmp_path / "a.sigmf-meta")] == [0, 1]
    assert (block.stats()["refused"], block.stats()["lost"], block.stats()["stopped"]) == (2, 0, None)


def test_existing_file_is_refused_unless_told(tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"precious")
    with pytest.raises(RecordingError, match=r"a\.mcap exists: choose another path, or overwrite=true to replace it"):
        recorder(tmp_path / "a.mcap").setup()
    assert (tmp_path / "a.mcap").read_bytes() == b"precious"
    block = recorder(tmp_path / "a.mcap", overwrite=True)
    block.feed("in0", iq(1))
    block.finish()
    assert len(frames_of(tmp_path / "a.mcap")) == 1


def test_restarted_where_it_cannot_go_on_says_so_and_lets_the_receiver_run(tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"no MCAP")
    block = recorder(tmp_path / "a.mcap")
    block.restarted()
    assert "is no MCAP file" in stopped(block.feed("in0", iq(1)))["reason"]
    assert block.feed("in0", iq(2)) == []
    assert block.stats()["lost"] == 2
    assert (tmp_path / "a.mcap").read_bytes() == b"no MCAP"


def test_another_path_while_running_begins_another_file(tmp_path):
    block = recorder(tmp_path / "a.mcap")
    block.feed("in0", iq(1))
    block.set_params(flush_interval_s=2.0)
    block.feed("in0", iq(2))
    block.set_params(path=str(tmp_path / "b.mcap"))
    block.feed("in0", iq(3))
    block.finish()
    assert [f.header.seq for f in frames_of(tmp_path / "a.mcap")] == [1, 2]
    assert [f.header.seq for f in frames_of(tmp_path / "b.mcap")] == [3]


def test_a_path_that_cannot_be_leaves_the_recording_as_it_is(tmp_path):
    block = recorder(tmp_path / "a.mcap")
    block.feed("in0", iq(1))
    with pytest.raises(RecordingError, match="No such file or directory"):
        block.set_params(path=str(tmp_path / "none" / "b.mcap"))
    block.feed("in0", iq(2))
    block.finish()
    assert [f.header.seq for f in frames_of(tmp_path / "a.mcap")] == [1, 2]


def test_synced_to_the_disk_when_asked(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(storage_module.os, "fdatasync", synced.append)
    block = recorder(tmp_path / "a.mcap", flush_interval_s=0.05, sync=True, chunk_bytes=4096)
    for seq in range(20):
        block.feed("in0", iq(seq))
    deadline = time.monotonic() + 10
    while not synced and time.monotonic() < deadline:
        time.sleep(0.01)
    block.finish()
    assert synced


def test_parameters_and_ports():
    with pytest.raises(ParamError, match=r"Expected `float` > 0.0 - at `\$.flush_interval_s`"):
        recorder("a.mcap", flush_interval_s=0)
    block = pickle.loads(pickle.dumps(recorder("a.mcap", n_inputs=3)))
    assert list(block.inputs) == ["in0", "in1", "in2"]
    assert all(isinstance(port, Port) and port.fields is None for port in block.inputs.values())
    assert block.own_worker


def test_inspection_says_what_is_in_it(tmp_path):
    for name in ("a.mcap", "a.sigmf-meta"):
        block = recorder(tmp_path / name)
        for frame in session():
            block.feed("in0", frame)
        block.finish()
        described = describe_recording(tmp_path / name)
        assert described["closed"]
        assert described["problems"] == []
        assert described["arrays"]["ula4"]["n_elements"] == 4
        stream = described["streams"]["sim.iq"]
        assert (stream["frames"], stream["missing"], stream["n_gaps"], stream["restarts"]) == (38, 2, 1, 0)
        assert stream["gaps"] == [{"after_seq": 10, "missing": 2, "epoch": 0}]
        assert stream["lost"] == {"frames": 2, "samples": 32, "clipped": 0}
        assert stream["epochs"] == [0, 1]
        assert stream["frequency_hz"] == [5e9, 5.1e9]
        assert stream["arrays"]["iq"] == {
            "dtype": "complex64",
            "axes": ["sensor", "snapshot"],
            "shape": [4, 16],
            "unit": "FS",
        }
        assert stream["events"] == {"overflow": 1}
        assert stream["calibration"] == {"none": 38}
        assert stream["duration_s"] == pytest.approx(39 * 16e-6 + 777e-9)
        assert described["bytes"] == sum(p.stat().st_size for p in tmp_path.glob(name.split("-")[0] + "*"))


def test_inspection_of_a_stream_that_counts_in_steps(tmp_path):
    block = recorder(tmp_path / "a.mcap")
    for seq in (3, 7, 11, 23, 27, 2, 6):
        block.feed("in0", Frame(header(seq, stream="cov.out", lost=Loss(), arrays=())))
    block.finish()
    stream = describe_recording(tmp_path / "a.mcap")["streams"]["cov.out"]
    assert stream["gaps"] == [{"after_seq": 11, "missing": 2, "epoch": 0}]
    assert (stream["missing"], stream["restarts"]) == (2, 1)


@pytest.mark.parametrize(
    ("seqs", "step", "missing"),
    [
        ((0, 20, 23, 40, 60, 80), None, None),  # now and then, and every 20th: what a block tells of faults
        ((0, 1, 2, 30, 41, 70, 76), None, None),
        ((0, 4, 8, 12, 14), 4, 0),  # the last is what was left
        ((0, 1, 2, 3, 9), 1, 5),
        ((5,), 1, 0),
    ],
)
def test_inspection_of_a_stream_that_skips_on_purpose(tmp_path, seqs, step, missing):
    block = recorder(tmp_path / "a.mcap")
    for seq in seqs:
        block.feed("in0", Frame(header(seq, stream="hi_aware.faults", lost=Loss(), arrays=())))
    block.finish()
    stream = describe_recording(tmp_path / "a.mcap")["streams"]["hi_aware.faults"]
    assert (stream["step"], stream["missing"]) == (step, missing)
    assert (stream["gaps"] == []) == (not missing)


def test_descriptor_and_truth_alone_are_recorded_too(tmp_path):
    block = recorder(tmp_path / "a.mcap")
    for frame in (descriptor(), truth(1)):
        block.feed("in0", frame)
    block.finish()
    assert len(frames_of(tmp_path / "a.mcap")) == 2


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, logger="hil.record")


@pytest.mark.parametrize(("name", "package"), [("a.mcap", "mcap"), ("a.sigmf-meta", "sigmf")])
def test_missing_package_is_named_with_the_fix(tmp_path, name, package):
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from hil.errors import RecordingError
        from hil.record import open_recording, open_writer
        for name in [name for name in sys.modules if name.partition(".")[0] == sys.argv[2]]:
            raise AssertionError(f"{name} is imported before it is needed")
        sys.modules[sys.argv[2]] = None
        for open_it in (open_writer, open_recording):
            try:
                open_it(Path(sys.argv[1]))
            except RecordingError as error:
                assert "is not installed: pip install 'hil-receiver[record]'" in str(error), error
            else:
                raise AssertionError(open_it)
        """
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / name, package], check=True)

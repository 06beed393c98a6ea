"""The ways that benchmarks.recording compares give back the same samples; a killed recorder's loss is counted."""

import pytest

from benchmarks import recording
from hil.record import open_recording
from tests.benchmarks.test_run import rows_of


def test_every_way_gives_back_every_sample(tmp_path):
    recording.check(tmp_path, recording.frames_of(5))


def test_the_check_finds_a_way_that_loses_a_frame(tmp_path, monkeypatch):
    name, file, write, read = recording.WAYS[0]
    monkeypatch.setattr(recording, "WAYS", [(name, file, lambda path, frames: write(path, frames[1:]), read)])
    with pytest.raises(AssertionError, match="plain file: read_plain gives back 4 frames that differ"):
        recording.check(tmp_path, recording.frames_of(5))


def test_what_a_killed_recorder_lost_is_counted(tmp_path):
    """Nothing is flushed by then, or a beginning is: which, only the clock knows; both must add up."""
    n_lost = recording.lost_frames(tmp_path / "a.mcap", "small frames", after_s=0.3)
    with open_recording(tmp_path / "a.mcap") as killed:
        assert not killed.closed
    assert n_lost >= 0


@pytest.mark.slow
def test_rows_are_whole():
    assert any(row["target"] is not None for row in rows_of("recording"))

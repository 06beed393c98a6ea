"""What killed runs leave behind is swept, what lives is left alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hil.runtime import leftovers, shm_pool

HOLD = """
import sys, time
from pathlib import Path
from hil.runtime import leftovers
leftovers.SHM_DIRECTORY = Path(sys.argv[1])
with leftovers.run_directory() as directory:
    (leftovers.SHM_DIRECTORY / f"{directory.name}.e0.ctl").write_bytes(b"x")
    print(directory, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shm").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(leftovers, "SHM_DIRECTORY", tmp_path / "shm")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    assert shm_pool.SHM_DIRECTORY != leftovers.SHM_DIRECTORY


def test_a_killed_run_is_swept_and_one_that_lives_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "shm")]
    with (
        leftovers.run_directory() as mine,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        own = tmp_path / "shm" / f"{mine.name}.pool"
        own.write_bytes(b"x")
        assert leftovers.sweep() == []
        process.kill()
        process.wait()
        assert theirs.is_dir() and list((tmp_path / "shm").glob(f"{theirs.name}.*"))
        assert leftovers.sweep() == [theirs.name]
        assert not theirs.exists() and not list((tmp_path / "shm").glob(f"{theirs.name}.*"))
        assert mine.is_dir() and own.exists()
    assert not mine.exists() and not own.exists()


def test_only_what_runs_leave_is_touched(tmp_path: Path) -> None:
    others = [tmp_path / "tmp" / "hil-runs-0", tmp_path / "tmp" / "hil-12-notes", tmp_path / "tmp" / "else"]
    for directory in others:
        directory.mkdir()
        (directory / "file").touch()
    assert leftovers.sweep() == []
    assert all((directory / "file").exists() for directory in others)

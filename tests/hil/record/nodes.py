"""Nodes for tests of recording: importable by worker processes."""

import os
import signal
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from hil.frame import Frame
from hil.record import Recorder, RecorderParams


class MortalRecorderParams(RecorderParams, frozen=True):
    die_once_at: Annotated[int, Meta(description="Number of the frame at which it is killed")] = -1
    marker: Annotated[str, Meta(description="File that says that it was")] = ""


class MortalRecorder(Recorder):
    """Killed in the middle of a frame, once."""

    params: MortalRecorderParams

    def feed(self, port: str, frame: Frame) -> list[tuple[str, Frame]]:
        marker = Path(self.params.marker)
        if frame.header.seq == self.params.die_once_at and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().feed(port, frame)

"""What the replay of a recording in any format shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from drivers.paced import Paced, PacedParams
from hil.errors import DriverError, RecordingError
from hil.frame import Frame
from hil.params import Seconds
from hil.record.recording import Recording, open_recording


class ReplayParams(PacedParams, frozen=True, kw_only=True):
    path: Annotated[str, Meta(min_length=1, description="Recording to replay")]
    start_s: Annotated[Seconds, Meta(description="Leave out so much of the beginning")] = 0.0
    frame_samples: Annotated[
        int, Meta(ge=1, le=1 << 24, description="Samples a frame of SigMF that was recorded elsewhere")
    ] = 1024


class Replay(Paced):
    """Base of the replays."""

    params: ReplayParams

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._recording: Recording | None = None

    def open_frames(self) -> Iterator[Frame]:
        self._recording = self.open_recording()
        return self._recording.frames(start_s=self.params.start_s)

    def open_recording(self) -> Recording:
        try:
            return open_recording(Path(self.params.path), frame_samples=self.params.frame_samples)
        except RecordingError as error:
            raise DriverError(f"{type(self).__name__} {self.name!r}: {error}") from error

    def problems(self) -> list[str]:
        return [] if self._recording is None else self._recording.problems

    def close(self) -> None:
        if self._recording is not None:
            self._recording.close()
            self._recording = None

    def stats(self) -> dict[str, Any]:
        return {"path": self.params.path, "frames": self.n_frames, "problems": list(self.problems())}

"""Replay an MCAP recording: the streams that were recorded, through ports of the same names."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from drivers.replay import Replay, ReplayParams
from hil.errors import DriverError
from hil.frame import Header
from hil.port import Port
from hil.record.recording import Recording


class McapReplayParams(ReplayParams, frozen=True):
    ports: Annotated[
        dict[str, str] | None,
        Meta(description="Output port -> recorded stream; all streams, each under its last name, where not given"),
    ] = None


class McapReplay(Replay):
    """Frames of an MCAP recording.

    Without ``ports`` the file is looked into when the driver is made: ``sim.iq`` becomes the port ``iq``, or ``sim_iq``
    where two streams would be called alike.

    Raises:
        DriverError: The file cannot be read, or has no such stream.
    """

    params: McapReplayParams
    contiguous: ClassVar[bool] = False  # streams of blocks are recorded too, and these may count in steps

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        ports = self.params.ports if self.params.ports is not None else self._recorded_ports()
        # Each replay has the outputs that its recording has
        self.outputs = {port: Port.any() for port in ports}  # type: ignore[misc]
        self._port_of = {stream: port for port, stream in ports.items()}

    def open_recording(self) -> Recording:
        recording = super().open_recording()
        missing = set(self.params.ports.values() if self.params.ports else ()) - set(recording.streams())
        if missing:
            has = ", ".join(recording.streams()) or "none"
            recording.close()
            raise DriverError(
                f"{type(self).__name__} {self.name!r}: {self.params.path} has no stream "
                f"{', '.join(sorted(missing))!r}, it has {has}"
            )
        return recording

    def port_of(self, header: Header) -> str | None:
        return self._port_of.get(header.stream)

    def _recorded_ports(self) -> dict[str, str]:
        with self.open_recording() as recording:
            streams = recording.streams()
        if not streams:
            raise DriverError(f"{type(self).__name__} {self.name!r}: {self.params.path} has no streams in it")
        last = [stream.rsplit(".", 1)[-1] for stream in streams]
        return {
            name if last.count(name) == 1 else stream.replace(".", "_"): stream
            for stream, name in zip(streams, last, strict=True)
        }

"""Puts a device's noise source on and off through the control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, field

from hil.params import Params

if TYPE_CHECKING:
    from hil.runtime.asker import Asker


class NoiseSource(Params, frozen=True):
    """How the noise source is put on and off: a verb of the device's driver."""

    verb: Annotated[str, Meta(min_length=1, description="NODE.VERB of the graph, or a verb of `control`")]
    on: Annotated[dict[str, Any], Meta(description="arguments that put it on")] = field(
        default_factory=lambda: {"on": True}
    )
    off: Annotated[
        dict[str, Any] | None, Meta(description="arguments that put it off; null: it goes off by itself")
    ] = field(default_factory=lambda: {"on": False})
    control: Annotated[
        str | None, Meta(description="address of the control plane to ask; absent: that of this graph")
    ] = None


class NoiseSwitch:
    """Asks for the noise source, once and then every ``retry_frames`` frames until it is as wanted.

    Args:
        source: Whom to ask; ``None``: nobody, the source comes on by itself or by hand.
        retry_frames: Frames between two requests.
    """

    def __init__(self, source: NoiseSource | None, retry_frames: int) -> None:
        self._source, self._retry_frames = source, retry_frames
        self._asker: Asker | None = None
        self._wanted: bool | None = None
        self._waited = 0
        self.n_asked = 0
        if source is not None:
            from hil.runtime.asker import Asker  # blocks are imported without transport

            self._asker = Asker(source.control)

    def want(self, on: bool) -> None:
        """Called with each frame for which the source should be on, or off, and is not."""
        if self._source is None or self._asker is None:
            return
        if on == self._wanted and self._waited < self._retry_frames:
            self._waited += 1
            return
        self._wanted, self._waited = on, 0
        arguments = self._source.on if on else self._source.off
        if arguments is not None:
            self.n_asked += on
            self._asker.ask(self._source.verb, **arguments)

    def put_off_for_a_while(self) -> None:
        """What it gave told nothing: off, and on again after ``retry_frames`` frames."""
        self.want(False)
        self._wanted, self._waited = True, 0

    def new_epoch(self) -> None:
        """The next request is made at once."""
        self._wanted = None

    def refusals(self) -> list[str]:
        """Requests that were refused or not answered, since the last call."""
        answers = self._asker.answers() if self._asker is not None else []
        return [f"{a.verb}: {a.error}" for a in answers if a.error is not None]

    def close(self) -> None:
        """Let the last requests go out."""
        if self._asker is not None:
            self._asker.close()
            self._asker = None

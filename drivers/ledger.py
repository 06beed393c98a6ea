"""The accounts of a live stream: numbers, epochs, what was lost, and the events that tell of it.

Every live driver keeps one a stream, so that they all count alike: a sample that the device took and the driver did
not get is in ``header.lost`` of the next frame, exactly where the device numbers its samples; where it cannot be known
how many, an event says so with ``samples: null``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.frame import NO_LOSS, AnyArray, Frame, Header, Loss, Timebase

#: A late subscriber learns within so long what the array is.
DESCRIPTOR_PERIOD_S = 2.0


class Ledger:
    """Makes the frames of one stream and keeps its accounts.

    Args:
        stream: Name of the stream, ``"radio.iq"``.
        array: What the sensors are.
        extra: Plain values for the descriptor, e.g. ``{"raw": {"full_scale": 2048.0}}``.

    Attributes:
        epoch: Of the next frame.
        seq: Number of the next frame.
        next_tick: The sample that should come next; ``None``: not known, after a start or where ticks began anew.
    """

    def __init__(self, stream: str, array: ArrayGeometry, extra: Mapping[str, Any] | None = None) -> None:
        self.stream, self.array, self.extra = stream, array, dict(extra or {})
        self.epoch = self.seq = 0
        self.next_tick: int | None = None
        self.sample_rate_hz: float | None = None
        self.frequency_hz: float | None = None
        self.total = NO_LOSS
        self.n_frames = 0
        self._lost = NO_LOSS
        self._described_s = float("-inf")

    def resume(self, seq: int) -> None:
        """Go on behind frame ``seq``, which a driver that was killed has delivered."""
        self.seq = seq + 1

    def data(
        self,
        *,
        tick: int | None,
        n_samples: int,
        time_ns: int | None,
        timebase: Timebase | None,
        lost: Loss = NO_LOSS,
        clipped: int = 0,
        meta: Mapping[str, Any] | None = None,
        **arrays: tuple[AnyArray, str, str],
    ) -> list[Frame]:
        """Return a data frame, after an event ``gap`` where samples are missing before it.

        Args:
            tick: Index of the first sample since the device started; ``None`` where the device does not say.
            n_samples: Samples a channel.
            time_ns: Time of the first sample.
            timebase: What that counts from.
            lost: Frames (and their samples) that the device numbered and that did not come.
            clipped: Samples at the converter's limit.
            meta: Small extra knowledge.
            arrays: ``name=(array, "axis names", unit)``.
        """
        out: list[Frame] = []
        if lost.frames:
            self.seq += lost.frames
        if tick is not None and self.next_tick is not None and tick > self.next_tick and not lost.samples:
            lost = lost.plus(Loss(samples=tick - self.next_tick))
        if lost.samples or lost.frames:
            out.append(self.event("gap", samples=lost.samples, frames=lost.frames))
        all_lost = self._lost.plus(lost)
        if clipped:
            all_lost = all_lost.plus(Loss(clipped=clipped))
        if all_lost != NO_LOSS:
            self.total, self._lost = self.total.plus(all_lost), NO_LOSS
        header = self._header(tick, time_ns, timebase, all_lost, dict(meta or {}))
        out.append(Frame.of(header, **arrays))
        self.next_tick = None if tick is None else tick + n_samples
        self.seq += 1
        self.n_frames += 1
        return out

    def lose(self, loss: Loss) -> None:
        """Let the next frame tell of ``loss``; for what is lost where no frame follows at once."""
        self.seq += loss.frames
        self._lost = self._lost.plus(loss)

    def event(self, event: str, **values: Any) -> Frame:
        """Something happened before the next frame: ``overflow``, ``disconnected`` ..."""
        return Frame(self._header()._replace(kind="event", meta={"event": event, **values}))

    def unnumbered_gap(self, missing_s: float) -> Frame:
        """Samples are missing, somewhere before the next frame, that nothing numbers; about how long they last."""
        why = "fewer samples came than the clock of this host says"
        return self.event("gap", samples=None, frames=None, seconds=missing_s, why=why)

    def new_epoch(self, event: str, *, ticks_go_on: bool = False, **values: Any) -> list[Frame]:
        """A retune, gain change, reconnect ... : what was calibrated before is stale. The event, and a descriptor.

        Args:
            event: What it is.
            ticks_go_on: The device counts its samples through it.
            values: Of the event.
        """
        self.epoch += 1
        if not ticks_go_on:
            self.next_tick = None
        return [self.event(event, **values), self.descriptor()]

    def descriptor(self) -> Frame:
        """What the array is."""
        self._described_s = time.monotonic()
        return descriptor_frame(self._header(), self.array, self.extra)

    def descriptor_due(self) -> list[Frame]:
        """A descriptor where the last one is some time ago."""
        due = time.monotonic() - self._described_s >= DESCRIPTOR_PERIOD_S
        return [self.descriptor()] if due else []

    def stats(self) -> dict[str, Any]:
        return {
            "frames": self.n_frames,
            "epoch": self.epoch,
            "frames_lost": self.total.frames,
            "samples_lost": self.total.samples,
            "samples_clipped": self.total.clipped,
        }

    def _header(
        self,
        tick: int | None = None,
        time_ns: int | None = None,
        timebase: Timebase | None = None,
        lost: Loss = NO_LOSS,
        meta: Mapping[str, Any] | None = None,
    ) -> Header:
        return Header(
            stream=self.stream,
            seq=self.seq,
            epoch=self.epoch,
            sample_start=tick,
            sample_rate_hz=self.sample_rate_hz,
            frequency_hz=self.frequency_hz,
            time_ns=time_ns,
            timebase=timebase,
            host_time_ns=time.time_ns(),
            array_id=self.array.array_id,
            lost=lost,
            meta={} if meta is None else meta,
        )

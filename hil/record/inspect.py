"""What is in a recording: ``hil inspect FILE``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hil.descriptor import array_of
from hil.errors import HilError
from hil.frame import Frame
from hil.record.recording import open_recording

#: Gaps that are listed one by one; all are counted.
MAX_GAPS = 100


class _Stream:
    """What the frames of one stream say, taken one by one."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.calibration: Counter[str] = Counter()
        self.steps: Counter[int] = Counter()
        self.calibration_ids: dict[str, None] = {}
        self.epochs: dict[int, None] = {}
        self.frequencies_hz: dict[float | None, None] = {}
        self.rates_hz: dict[float | None, None] = {}
        self.array_ids: dict[str, None] = {}
        self.arrays: dict[str, dict[str, Any]] = {}
        self.candidates: list[dict[str, int]] = []
        self.lost = {"frames": 0, "samples": 0, "clipped": 0}
        self.n_bytes = 0
        self.first_seq: int | None = None
        self.last_seq: int | None = None
        self.last_step = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.timebase: str | None = None

    def take(self, frame: Frame) -> None:
        h = frame.header
        self.kinds[h.kind] += 1
        self.epochs[h.epoch] = None
        if h.kind == "event":
            self.events[str(h.meta.get("event", "?"))] += 1
        self.lost["frames"] += h.lost.frames
        self.lost["samples"] += h.lost.samples
        self.lost["clipped"] += h.lost.clipped
        if h.array_id is not None:
            self.array_ids[h.array_id] = None
        if h.kind != "data":
            return
        self.n_bytes += frame.n_bytes
        self.calibration[h.calibration] += 1
        if h.calibration_id is not None:
            self.calibration_ids[h.calibration_id] = None
        self.frequencies_hz[h.frequency_hz] = None
        self.rates_hz[h.sample_rate_hz] = None
        self._take_order(frame)
        self._take_arrays(frame)

    def _take_order(self, frame: Frame) -> None:
        h = frame.header
        if self.last_seq is None:
            self.first_seq = h.seq
        else:
            step = h.seq - self.last_seq
            self.steps[step] += 1
            if step > 1 and len(self.candidates) < 1000 * MAX_GAPS:
                self.candidates.append({"after_seq": self.last_seq, "step": step, "epoch": h.epoch})
            self.last_step = step
        self.last_seq = h.seq
        if h.time_ns is not None:
            self.first_ns = h.time_ns if self.first_ns is None else min(self.first_ns, h.time_ns)
            self.last_ns = h.time_ns if self.last_ns is None else max(self.last_ns, h.time_ns)
            self.timebase = h.timebase

    def _take_arrays(self, frame: Frame) -> None:
        for spec in frame.header.arrays:
            known = self.arrays.setdefault(
                spec.name, {"dtype": spec.dtype, "axes": list(spec.axes), "shape": list(spec.shape), "unit": spec.unit}
            )
            if known["shape"] != list(spec.shape):
                sizes = zip(known["shape"], spec.shape, strict=False)
                known["shape"] = [a if a == b else None for a, b in sizes]  # None: it varies

    def _usual_step(self) -> int | None:
        """From one frame's number to the next: more than 1 where a block makes one frame of several.

        ``None`` where there is no usual step, as the stream has a frame only when there is something to tell: then
        numbers say nothing of losses. A stream that lost some frames has its usual step most of the time, and never a
        shorter one but at its end, where what is left makes a frame.
        """
        forward = Counter({step: n for step, n in self.steps.items() if step > 0})
        if not forward:
            return 1
        usual, n = min(forward.items(), key=lambda item: (-item[1], item[0]))
        if 0 < self.last_step < usual:
            forward[self.last_step] -= 1
        shorter = sum(n for step, n in forward.items() if step < usual)
        return usual if not shorter and 2 * n >= forward.total() else None

    def summary(self) -> dict[str, Any]:
        usual = self._usual_step()
        long_steps = {} if usual is None else {step: n for step, n in self.steps.items() if step > usual}
        gaps = [
            {"after_seq": c["after_seq"], "missing": c["step"] // usual - 1, "epoch": c["epoch"]}
            for c in self.candidates
            if usual is not None and c["step"] > usual
        ]
        duration_s = None
        if self.first_ns is not None and self.last_ns is not None:
            duration_s = (self.last_ns - self.first_ns) / 1e9
        return {
            "frames": self.kinds["data"],
            "bytes": self.n_bytes,
            "arrays": self.arrays,
            "descriptors": self.kinds["descriptor"],
            "events": dict(self.events),
            "eof": self.kinds["eof"] > 0,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "step": usual,
            "missing": None if usual is None else sum((step // usual - 1) * n for step, n in long_steps.items()),
            "gaps": gaps[:MAX_GAPS],
            "n_gaps": sum(long_steps.values()),
            "restarts": sum(n for step, n in self.steps.items() if step <= 0),
            "lost": self.lost,
            "epochs": list(self.epochs),
            "sample_rate_hz": [rate for rate in self.rates_hz if rate is not None],
            "frequency_hz": [frequency for frequency in self.frequencies_hz if frequency is not None],
            "start_ns": self.first_ns,
            "end_ns": self.last_ns,
            "timebase": self.timebase,
            "duration_s": duration_s,
            "frames_per_s": None if not duration_s else (self.kinds["data"] - 1) / duration_s,
            "calibration": dict(self.calibration),
            "calibration_ids": list(self.calibration_ids),
            "array_ids": list(self.array_ids),
        }


def describe_recording(path: str | Path) -> dict[str, Any]:
    """Read the whole recording at ``path`` once and return what is in it, as plain values.

    ``streams`` has for each stream its arrays, counts by kind, times, epochs, calibration states, what is missing by
    its sequence numbers (``missing``, ``gaps``) and what its headers say was lost (``lost``). ``step`` is what it
    numbers its frames in; ``None`` for a stream that skips numbers on purpose, whose ``missing`` cannot be known and
    is ``None`` too. ``arrays`` has the geometries; ``closed`` says whether its writer finished it; ``problems`` what
    is wrong with it, in words.

    Raises:
        RecordingError: It cannot be read at all.
    """
    path = Path(path)
    with open_recording(path) as recording:
        streams: dict[str, _Stream] = {name: _Stream() for name in recording.streams()}
        arrays: dict[str, dict[str, Any]] = {}
        for frame in recording.frames():
            streams.setdefault(frame.header.stream, _Stream()).take(frame)
            if frame.header.kind == "descriptor" and "array" in frame.header.meta:
                _take_geometry(frame, arrays, recording.problems)
        return {
            "path": str(path),
            "format": recording.format,
            "bytes": sum(p.stat().st_size for p in _files(path)),
            "closed": recording.closed,
            "problems": list(recording.problems),
            "duration_s": max(
                (d for s in streams.values() if (d := s.summary()["duration_s"]) is not None), default=None
            ),
            "arrays": arrays,
            "streams": {name: stream.summary() for name, stream in streams.items()},
        }


def _take_geometry(frame: Frame, arrays: dict[str, dict[str, Any]], problems: list[str]) -> None:
    try:
        geometry = array_of(frame)
    except HilError as error:
        problems.append(f"damaged: {error}")
        return
    arrays[geometry.array_id] = {
        "n_elements": geometry.n_elements,
        "n_channels": len(geometry.channel_map),
        "aperture_m": geometry.aperture_m,
        "origin_m": geometry.origin_m.tolist(),
    }


def _files(path: Path) -> Iterable[Path]:
    if path.suffix not in (".sigmf-meta", ".sigmf-data"):
        return [path]
    suffixes = (".sigmf-meta", ".sigmf-data", ".sigmf-journal")
    return [p for suffix in suffixes if (p := path.with_suffix(suffix)).exists()]

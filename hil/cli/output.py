"""What a run prints while it runs: JSON lines, plain lines, or a live table on a terminal."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, Protocol

import msgspec

#: Plain lines are for people: at most so many a second. ``--json`` leaves none out.
_LINES_PER_S = 5.0


class Printer(Protocol):
    """Takes the records of :mod:`hil.cli.positions`. A context manager."""

    def __enter__(self) -> Printer: ...

    def __exit__(self, *exc: object) -> None: ...

    def show(self, record: dict[str, Any]) -> None:
        """Print one record.

        Raises:
            BrokenPipeError: Nobody reads any more.
        """

    def tick(self) -> None:
        """Count a frame of a run that prints none."""

    def summary(self, summary: dict[str, Any]) -> None:
        """Print the end of the run."""


def make_printer(title: str, *, as_json: bool, seconds: float | None = None, frames: int | None = None) -> Printer:
    """JSON where asked for, a live table where stdout is a terminal, plain lines otherwise."""
    if as_json:
        return JsonLines(title, seconds, frames)
    if sys.stdout.isatty():
        return LiveTable(title, seconds, frames)
    return PlainLines()


def write_json(value: Any) -> None:
    """One JSON object on a line of stdout, at once. Infinite and undefined numbers become null."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


class JsonLines:
    """One object a line, every frame; progress on stderr where that is a terminal."""

    def __init__(self, title: str, seconds: float | None = None, frames: int | None = None) -> None:
        self._progress = Progress(title, seconds, frames)
        self._live: Any = None

    def __enter__(self) -> JsonLines:
        if sys.stderr.isatty() and not sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(get_renderable=self._progress.text, console=Console(stderr=True), transient=True)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, record: dict[str, Any]) -> None:
        self._progress.n_frames += 1
        write_json(record)

    def tick(self) -> None:
        self._progress.n_frames += 1

    def summary(self, summary: dict[str, Any]) -> None:
        write_json({"summary": summary})


class PlainLines:
    """One line a frame for people, not all of them."""

    def __init__(self) -> None:
        self._next = 0.0

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, record: dict[str, Any]) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1 / _LINES_PER_S
            sys.stdout.write(line_of(record) + "\n")
            sys.stdout.flush()

    def tick(self) -> None:
        pass

    def summary(self, summary: dict[str, Any]) -> None:
        from hil.cli.summary import print_summary

        print_summary(summary)


class LiveTable:
    """The newest frame as a table that is drawn anew in place, then the summary."""

    def __init__(self, title: str, seconds: float | None = None, frames: int | None = None) -> None:
        self._progress = Progress(title, seconds, frames)
        self._records: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> LiveTable:
        from rich.live import Live

        self._live = Live(get_renderable=self._render, refresh_per_second=8)
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, record: dict[str, Any]) -> None:
        self._progress.n_frames += 1
        self._records[record.get("stream", "")] = record

    def tick(self) -> None:
        self._progress.n_frames += 1

    def summary(self, summary: dict[str, Any]) -> None:
        from hil.cli.summary import print_summary

        self._live.stop()
        print_summary(summary)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[Any] = [Text(self._progress.text(), style="bold")]
        record = self._records.get("")
        if record is not None and "pose" in record:
            parts.append(Text(_pose_words(record["pose"])))
        if record is not None and (record["sources"] or "pose" not in record):
            table = Table(box=None, pad_edge=False, header_style="cyan")
            for heading in ("id", "azimuth °", "range m", "x m", "y m", "z m", "± m", "power dB", "error m"):
                table.add_column(heading, justify="right", min_width=8)
            for source in record["sources"]:
                error = nearest_truth_m(source, record["truth"])
                azimuth = None if source["azimuth_rad"] is None else math.degrees(source["azimuth_rad"])
                cells = (azimuth, source["range_m"], source["x_m"], source["y_m"], source["z_m"], spread_m(source))
                numbers = [_number(v, 3) for v in (*cells, source["power_db"], error)]
                table.add_row("-" if source["id"] is None else str(source["id"]), *numbers)
            parts.append(table)
        parts += [Text(line_of(r)) for stream, r in self._records.items() if stream]
        return Group(*parts)


class Progress:
    """How far a run has come."""

    def __init__(self, title: str, seconds: float | None, frames: int | None) -> None:
        self.n_frames = 0
        self._title, self._seconds, self._frames = title, seconds, frames
        self._start: float | None = None

    def text(self) -> str:
        if self.n_frames == 0:
            return f"{self._title}: starting"
        now = time.monotonic()
        if self._start is None:
            self._start = now
        elapsed_s = now - self._start
        of_s = "" if self._seconds is None else f" of {self._seconds:g}"
        of_frames = "" if self._frames is None else f" of {self._frames}"
        rate = f", {self.n_frames / elapsed_s:.0f}/s" if elapsed_s > 1 else ""
        return f"{self._title}: {elapsed_s:.0f}{of_s} s, {self.n_frames}{of_frames} frames{rate}  (Ctrl-C ends)"


def line_of(record: dict[str, Any]) -> str:
    """One record in words."""
    head = f"#{record['seq']}" if record["t_ns"] is None else f"{_clock(record['t_ns'])} #{record['seq']}"
    if record["calibration"] == "stale":
        head += " calibration stale"
    if "stream" in record:
        arrays = "; ".join(f"{n} {a['dtype']} {list(a['shape'])}" for n, a in record["arrays"].items())
        return f"{head}  {record['stream']}: {arrays}"
    sources = " | ".join(_words(s, record["truth"]) for s in record["sources"])
    words = [_pose_words(record["pose"])] if "pose" in record else []
    words += [sources or "no source"] if sources or not words else []
    return f"{head}  {' || '.join(words)}"


def spread_m(source: dict[str, Any]) -> float | None:
    """Standard deviation of the position: root of the covariance's trace."""
    covariance = source["covariance"]
    return None if covariance is None else math.sqrt(max(sum(covariance[i][i] for i in range(len(covariance))), 0.0))


def nearest_truth_m(source: dict[str, Any], truth: list[dict[str, Any]] | None) -> float | None:
    """Distance to the nearest true source, where both have a position."""
    if not truth or source["x_m"] is None:
        return None
    here = [source[k] for k in ("x_m", "y_m", "z_m")]
    return min(math.dist(here, [t[k] for k in ("x_m", "y_m", "z_m")]) for t in truth)


def _pose_words(pose: dict[str, Any]) -> str:
    heading = _number(None if pose["heading_rad"] is None else math.degrees(pose["heading_rad"]), 1)
    return f"here: x {_number(pose['x_m'])} y {_number(pose['y_m'])} m, heading {heading}°"


def _words(source: dict[str, Any], truth: list[dict[str, Any]] | None) -> str:
    name = "" if source["id"] is None else f"{source['id']}: "
    words = []
    if source["x_m"] is not None:
        words.append(f"x {_number(source['x_m'])} y {_number(source['y_m'])} z {_number(source['z_m'])} m")
    spread, error = spread_m(source), nearest_truth_m(source, truth)
    if spread is not None:
        words.append(f"± {_number(spread, 3)}")
    if source["azimuth_rad"] is not None:
        polar = f"{math.degrees(source['azimuth_rad']):.2f}°"
        if source["range_m"] is not None:
            polar += f", {_number(source['range_m'])} m"
        words.append(f"({polar})")
    if error is not None:
        words.append(f"off by {_number(error, 3)}")
    return name + " ".join(words)


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _clock(t_ns: int) -> str:
    """Seconds; those of a wall clock as time of day."""
    if t_ns < 10**17:  # 1973: no receiver's wall clock
        return f"{t_ns / 1e9:9.3f} s"
    return time.strftime("%H:%M:%S", time.gmtime(t_ns // 10**9)) + f".{t_ns // 10**6 % 1000:03d}"

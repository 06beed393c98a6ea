"""Runs a graph for a command: prints its positions, records, draws, and ends with the summary."""

from __future__ import annotations

import functools
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hil.array import ArrayGeometry
from hil.cli.output import Printer, make_printer
from hil.cli.positions import Join, frame_record, position_record
from hil.cli.summary import condense
from hil.descriptor import array_of
from hil.errors import GraphError, RecordingError
from hil.frame import NO_LOSS, Frame
from hil.graph import Graph
from hil.source import Source

log = logging.getLogger(__name__)

#: What can be recorded into.
_RECORDING_SUFFIXES = (".mcap", ".sigmf-meta")
#: Events that somebody who did not ask for more should hear of; the others come with -v.
_LOUD_EVENTS = ("disconnected", "reconnect", "restart", "recording_problem")


class RunOptions(NamedTuple):
    """What the options of ``hil run`` and its like say; ``every_frame`` prints the frames of all outputs as such."""

    seconds: float | None = None
    frames: int | None = None
    as_json: bool = False
    record: Path | None = None
    overwrite: bool = False
    picture: Path | None = None
    metrics_port: int | None = None
    control: str = "tcp://127.0.0.1:*"
    inline: bool = False
    every_frame: bool = False


def run_graph(graph: Graph, options: RunOptions) -> dict[str, Any]:
    """Run ``graph`` to its end, or to Ctrl-C; return the summary that was printed.

    Raises:
        HilError: It cannot run, or failed.
        BrokenPipeError: Nobody reads stdout any more; the graph was drained and its recording is whole.
    """
    if options.record is not None:
        add_recorder(graph, options.record, exposed_outputs(graph, options.record), overwrite=options.overwrite)
    history = _History(graph, options.picture)
    printer = make_printer(graph.name, as_json=options.as_json, seconds=options.seconds, frames=options.frames)
    session = _Session(graph, printer, every_frame=options.every_frame)
    with printer:
        result = graph.run(
            seconds=options.seconds,
            frames=options.frames,
            on_frame=_together([*session.taps(), *history.taps(), *_recorder_taps(graph)]),
            inline=options.inline,
            control=options.control,
            on_ready=None if options.as_json else session.tell_where,
            metrics_port=options.metrics_port,
        )
        session.finish()
    summary = condense(graph, result, session.printed, session.n_frames, session.lost)
    picture = history.draw()
    if picture is not None:
        summary["picture"] = str(picture)
    if session.broken_pipe is not None:
        raise session.broken_pipe
    printer.summary(summary)
    return summary


def exposed_outputs(graph: Graph, path: Path) -> list[str]:
    """The outputs to record: all that are exposed; into SigMF samples and truth, which is what it holds.

    Raises:
        GraphError: There is nothing to record.
    """
    sigmf = path.suffix.startswith(".sigmf")
    wanted = {name: out for name, out in graph.exposed.items() if not sigmf or name in ("iq", "truth")}
    if not wanted:
        has = ", ".join(graph.exposed) or "nothing"
        raise GraphError(f"there is nothing to record into {path}: the graph exposes {has}")
    return list(dict.fromkeys(wanted.values()))


def add_recorder(graph: Graph, path: Path, outputs: list[str], *, overwrite: bool = False) -> None:
    """Connect a recorder to ``outputs``.

    Raises:
        RecordingError: The file exists and is not to be replaced, or cannot be made: said before anything runs.
    """
    from hil.record.recorder import Recorder

    if path.suffix not in _RECORDING_SUFFIXES:
        raise RecordingError(f"{path}: expected a name that ends in {' or '.join(_RECORDING_SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise RecordingError(f"{path}: there is no folder {path.absolute().parent}")
    if path.exists() and not overwrite:
        raise RecordingError(f"{path} exists: choose another path, or replace it with --overwrite")

    recorder = graph.add(Recorder("recorder", path=str(path), n_inputs=len(outputs), overwrite=overwrite))
    for i, output in enumerate(outputs):
        graph.connect(output, f"{recorder.name}.in{i}")


class _Session:
    """Brings what comes to the printer."""

    def __init__(self, graph: Graph, printer: Printer, *, every_frame: bool) -> None:
        self._graph, self._printer, self._every_frame = graph, printer, every_frame
        exposed = graph.exposed
        self._positions = exposed.get("positions") or exposed.get("estimates")
        self.printed = self._positions or exposed.get("pose")
        self.n_frames = 0
        self.lost = NO_LOSS
        self.broken_pipe: BrokenPipeError | None = None
        self._partners = {n: exposed[n] for n in ("truth", "pose") if n in exposed and exposed[n] != self.printed}
        self._join = Join(list(self._partners))
        self._array: ArrayGeometry | None = None

    def taps(self) -> Iterable[tuple[str, Callable[[Frame], None]]]:
        if self.printed is not None:
            yield self.printed, self._on_printed
            for name, output in self._partners.items():
                yield output, functools.partial(self._on_partner, name)
        elif self._every_frame:
            for node in self._graph.nodes.values():
                yield from ((f"{node.name}.{port}", self._on_any) for port in node.outputs)
        else:
            sources = [n for n in self._graph.nodes.values() if isinstance(n, Source) and n.outputs]
            yield f"{sources[0].name}.{next(iter(sources[0].outputs))}", self._on_any

    def tell_where(self, control: str) -> None:
        sys.stderr.write(f"{self._graph.name} runs; its control plane is {control} (hil top, hil ctl)\n")

    def finish(self) -> None:
        self._print(self._join.finish())

    def _on_printed(self, frame: Frame) -> None:
        if self._is_data(frame):
            self._count(frame)
            self._print(self._join.add(frame))

    def _on_partner(self, name: str, frame: Frame) -> None:
        if frame.header.kind == "data":
            self._print(self._join.add_partner(name, frame))
        elif frame.header.kind == "descriptor" and "array" in frame.header.meta:
            self._array = array_of(frame)

    def _on_any(self, frame: Frame) -> None:
        if self._is_data(frame):
            self._count(frame)
            if self._every_frame:
                self._show(frame_record(frame))
            else:
                self._printer.tick()

    def _is_data(self, frame: Frame) -> bool:
        header = frame.header
        if header.kind == "event":
            event = {**header.meta}
            name = event.pop("event", "event")
            level = logging.WARNING if name in _LOUD_EVENTS else logging.INFO
            log.log(level, "%s #%d: %s%s", header.stream, header.seq, name, event_words(event))
        return header.kind == "data"

    def _count(self, frame: Frame) -> None:
        self.n_frames += 1
        self.lost = self.lost.plus(frame.header.lost)

    def _print(self, ready: Iterable[tuple[Frame, dict[str, Frame]]]) -> None:
        for frame, found in ready:
            truth, pose = found.get("truth"), found.get("pose")
            if self._positions is None:
                self._show(position_record(None, truth, self._array, frame))
            else:
                self._show(position_record(frame, truth, self._array, pose))

    def _show(self, record: dict[str, Any]) -> None:
        if self.broken_pipe is not None:
            return
        try:
            self._printer.show(record)
        except BrokenPipeError as error:
            # Nobody reads any more: drain and end, as Ctrl-C does.
            self.broken_pipe = error
            signal.raise_signal(signal.SIGINT)


def event_words(values: Mapping[str, Any]) -> str:
    """What an event says, for people: `` after 2.1 s, samples 100: why``."""
    rest = dict(values)
    why, seconds = rest.pop("why", None), rest.pop("seconds", None)
    words = [] if seconds is None else [f"after {seconds:.1f} s"]
    words += [f"{k} {f'{v:.6g}' if isinstance(v, float) else v}" for k, v in rest.items() if v is not None]
    told = f" {', '.join(words)}" if words else ""
    return told if why is None else f"{told}: {why}"


class _History:
    """Keeps what a picture shows, where one is wanted."""

    def __init__(self, graph: Graph, path: Path | None) -> None:
        self._graph, self._path = graph, path
        if path is not None:
            from hil.view.history import History
            from hil.view.picture import check_can_draw

            check_can_draw(path)
            self._history = History()

    def taps(self) -> Iterable[tuple[str, Callable[[Frame], None]]]:
        if self._path is not None:
            for name in ("positions", "estimates", "truth", "spectrum"):
                if name in self._graph.exposed:
                    yield self._graph.exposed[name], getattr(self._history, f"add_{name}")

    def draw(self) -> Path | None:
        if self._path is None:
            return None
        from hil.view.picture import draw_picture

        draw_picture(self._history, self._path, self._graph.name.replace("_", " "))
        sys.stderr.write(f"picture: {self._path}\n")
        return self._path


def _recorder_taps(graph: Graph) -> Iterable[tuple[str, Callable[[Frame], None]]]:
    if "recorder" in graph.nodes and "events" in graph.nodes["recorder"].outputs:
        yield "recorder.events", _tell_recorder_event


def _tell_recorder_event(frame: Frame) -> None:
    if frame.header.kind == "event" and str(frame.header.meta.get("event", "")).startswith("recording"):
        log.error("the recording stopped, the receiver goes on: %s", frame.header.meta.get("reason"))


def _together(taps: Iterable[tuple[str, Callable[[Frame], None]]]) -> dict[str, Callable[[Frame], None]]:
    """One function an output, calling all that want it."""
    wanted: dict[str, list[Callable[[Frame], None]]] = {}
    for output, call in taps:
        wanted.setdefault(output, []).append(call)

    def all_of(calls: list[Callable[[Frame], None]]) -> Callable[[Frame], None]:
        if len(calls) == 1:
            return calls[0]

        def each(frame: Frame) -> None:
            for call in calls:
                call(frame)

        return each

    return {output: all_of(calls) for output, calls in wanted.items()}

"""``hil replay``: a recording through a flowgraph, an estimator, or onto the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Control, For, Frames, Json, Overwrite, Picture, Record, Set

if TYPE_CHECKING:
    from hil.graph import Graph
    from hil.source import Source

#: The flowgraph that puts any estimator behind a recording.
REPLAY_FLOWGRAPH = "flowgraphs.replay"
#: What a recorded stream is, by an array that only such streams have; the first that fits counts.
_SIGNS = {
    "heading_rad": "pose",
    "spectrum_db": "spectrum",
    "velocity_m_per_s": "tracks",
    "position_m": "positions",
    "azimuth_rad": "estimates",
}
#: Frames that are looked at to learn what the streams are.
_LOOK_AT = 2000


@guarded
def replay(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Recording: .mcap, .sigmf-meta or .sigmf.")],
    speed: Annotated[float, typer.Option(min=0.0, help="1: as it was, 10: ten times as fast, 0: at once.")] = 0.0,
    into: Annotated[
        str | None, typer.Option(metavar="FLOWGRAPH", help="Take the place of this flowgraph's source.")
    ] = None,
    estimator: Annotated[
        str | None, typer.Option(metavar="NAME", help="Through one estimator: near_field_music, package.module:Class.")
    ] = None,
    settings: Set = None,
    seconds: For = None,
    frames: Frames = None,
    record: Record = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    picture: Picture = None,
    control: Control = "tcp://127.0.0.1:*",
    verbose: Verbose = 0,
) -> None:
    """Replay a recording.

    With neither --into nor --estimator the recorded positions are printed as they were, or every recorded \
frame in a line where there are none.

    \b
    [cyan]hil replay run.mcap[/cyan]
    [cyan]hil replay run.mcap --into near_field_music[/cyan]
    [cyan]hil replay run.sigmf-meta --estimator far_field_music[/cyan]
    [cyan]hil replay run.mcap --speed 1 --json[/cyan]
    """
    from hil.cli.session import RunOptions, run_graph
    from hil.errors import GraphError

    if into is not None and estimator is not None:
        raise GraphError("give --into or --estimator, not both")
    options = RunOptions(seconds, frames, as_json, record, overwrite, picture, control=control)
    if into is not None:
        run_graph(_into(into, path, speed, settings or []), options)
    elif estimator is not None:
        run_graph(_through(estimator, path, speed, settings or []), options)
    else:
        graph, positions = _as_recorded(path, speed, settings or [])
        run_graph(graph, options._replace(every_frame=not positions))


def _into(name: str, path: Path, speed: float, settings: list[str]) -> Graph:
    from hil.cli.flowgraph import load_flowgraph
    from hil.cli.settings import build_settings
    from hil.cli.substitute import match_streams, only_source, replace_source, used_ports

    loaded = load_flowgraph(name)
    graph = loaded.build(build_settings(loaded.settings, settings, loaded.name))
    source = only_source(graph)
    ports = None
    if path.suffix == ".mcap":
        ports = match_streams(source, used_ports(graph, source), _recorded_streams(path))
    return replace_source(graph, source, _replay_source(source.name, path, speed, ports))


def _through(estimator: str, path: Path, speed: float, settings: list[str]) -> Graph:
    from hil.cli.flowgraph import load_flowgraph
    from hil.cli.settings import build_settings

    loaded = load_flowgraph(REPLAY_FLOWGRAPH)
    given = [f"path={path}", f"speed={speed}", f"estimator={estimator}", *settings]
    graph: Graph = loaded.build(build_settings(loaded.settings, given, loaded.name))
    return graph


def _as_recorded(path: Path, speed: float, settings: list[str]) -> tuple[Graph, bool]:
    """The recording alone, and whether it has something that is printed as positions."""
    from hil.errors import ParamError
    from hil.graph import Graph

    if settings:
        raise ParamError("--set needs --into FLOWGRAPH or --estimator NAME, whose settings it sets")
    graph = Graph(path.stem.replace(".", "_") or "recording")
    source = graph.add(_replay_source("replay", path, speed, None))
    kinds = _stream_kinds(path)
    exposed: dict[str, str] = {}
    for port in source.outputs:
        what = kinds.get(port)
        if what is not None:
            exposed.setdefault(what, f"{source.name}.{port}")
        elif port == "iq":
            exposed["iq"] = f"{source.name}.{port}"
    if "tracks" in exposed:
        exposed["positions"] = exposed.pop("tracks")
    graph.expose(**exposed)
    return graph, any(what in exposed for what in ("positions", "estimates", "pose"))


def _replay_source(name: str, path: Path, speed: float, ports: dict[str, str] | None) -> Source:
    from hil.cli.flowgraph import load_object
    from hil.cli.load_source import REPLAY_DRIVERS
    from hil.errors import GraphError

    where = REPLAY_DRIVERS.get(path.suffix)
    if where is None:
        raise GraphError(f"{path} is no recording: expected a name that ends in {', '.join(REPLAY_DRIVERS)}")
    params: dict[str, Any] = {"path": str(path), "speed": speed}
    if ports is not None:
        params["ports"] = ports
    source: Source = load_object(where)(name, **params)
    return source


def _recorded_streams(path: Path) -> tuple[str, ...]:
    from hil.record.recording import open_recording

    with open_recording(path) as recording:
        return recording.streams()


def _stream_kinds(path: Path) -> dict[str, str]:
    """What the streams at the beginning of the recording are, by the name of their port."""
    from itertools import islice

    from hil.record.recording import open_recording

    kinds: dict[str, str] = {}
    with open_recording(path) as recording:
        names = recording.streams()
        last = [name.rsplit(".", 1)[-1] for name in names]
        for frame in islice(recording.frames(), _LOOK_AT):
            name = frame.header.stream
            port = name.rsplit(".", 1)[-1]
            port = port if last.count(port) == 1 else name.replace(".", "_")
            if frame.header.kind == "data" and port not in kinds:
                what = next((what for sign, what in _SIGNS.items() if sign in frame), None)
                if port.endswith("truth"):
                    what = "truth"
                if what is not None:
                    kinds[port] = what
    return kinds

"""``hil record``: all streams of a device into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Control, For, Frames, Json, Overwrite, Set


@guarded
def record(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A driver (xl-array, package.module:Class) or tcp://host:port.")
    ],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File to write: .mcap, or .sigmf-meta for IQ.")],
    settings: Set = None,
    seconds: For = None,
    frames: Frames = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    control: Control = "tcp://127.0.0.1:*",
    verbose: Verbose = 0,
) -> None:
    """Record all streams of a device until it ends, or Ctrl-C.

    The file is readable at any moment, also after a crash.

    \b
    [cyan]hil record tcp://127.0.0.1:5555 field.mcap --for 60[/cyan]
    [cyan]hil record xl-array sim.mcap --set embedded=true --frames 1000[/cyan]
    [cyan]hil record drivers.xl_array:XlArray iq.sigmf-meta --set endpoint=ADDR[/cyan]
    """
    from hil.cli.load_source import make_source
    from hil.cli.session import RunOptions, run_graph
    from hil.graph import Graph

    graph = Graph("record")
    device = graph.add(make_source("device", source, settings or ()))
    graph.expose(**{port: f"{device.name}.{port}" for port in device.outputs})
    run_graph(graph, RunOptions(seconds, frames, as_json, record=path, overwrite=overwrite, control=control))

"""``hil run``: a flowgraph from its device to positions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.guard import Verbose, guarded

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="A setting, e.g. device.snr_db=3. JSON, else text."),
]
For = Annotated[float | None, typer.Option("--for", metavar="SECONDS", min=0.0, help="End after so many seconds.")]
Frames = Annotated[int | None, typer.Option("--frames", metavar="N", min=1, help="End after so many source frames.")]
Record = Annotated[
    Path | None,
    typer.Option("--record", metavar="PATH", help="Record the streams too: .mcap, or .sigmf-meta for IQ and truth."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a recording that exists.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout; logs go to stderr.")]
Picture = Annotated[
    Path | None, typer.Option("--picture", metavar="PATH", help="Leave a picture of tracks, spectrum and errors.")
]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", metavar="PORT", min=0, max=65535, help="Serve Prometheus metrics.")
]
Control = Annotated[str, typer.Option("--control", metavar="ADDR", help="Where the control plane is bound.")]
HelpSettings = Annotated[
    bool, typer.Option("--help-settings", help="List what --set takes: type, limits, default, meaning.")
]
Inline = Annotated[bool, typer.Option("--inline", help="All blocks in this process, for debuggers.")]


@guarded
def run(
    flowgraph: Annotated[
        str | None, typer.Argument(metavar="FLOWGRAPH", help="Name of a flowgraph, or a .py file.", show_default=False)
    ] = None,
    settings: Set = None,
    seconds: For = None,
    frames: Frames = None,
    record: Record = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    picture: Picture = None,
    metrics_port: MetricsPort = None,
    control: Control = "tcp://127.0.0.1:*",
    inline: Inline = False,
    help_settings: HelpSettings = False,
    verbose: Verbose = 0,
) -> None:
    """Run a flowgraph: print its positions until it ends, or Ctrl-C.

    Prints a live table on a terminal, plain lines (five a second at most) into a pipe, and with \
[bold]--json[/bold] every frame as one JSON object a line, the summary last.

    \b
    [cyan]hil run flowgraphs.near_field_music --for 10[/cyan]
    [cyan]hil run near_field_music --set device.snr_db=3[/cyan]
    [cyan]hil run near_field_music --frames 500 --json | jq .sources[/cyan]
    [cyan]hil run near_field_music --for 10 --record run.mcap --picture run.png[/cyan]
    [cyan]hil run near_field_music --help-settings[/cyan]
    [cyan]hil run my_receiver.py[/cyan]
    """
    from hil.cli.flowgraph import known_flowgraphs, load_flowgraph
    from hil.cli.session import RunOptions, run_graph
    from hil.cli.settings import build_settings, describe_settings
    from hil.cli.settings_table import print_settings_table
    from hil.errors import GraphError

    if flowgraph is None:
        raise GraphError(f"which flowgraph? there are {', '.join(known_flowgraphs()) or 'none'}")
    loaded = load_flowgraph(flowgraph)
    if help_settings:
        print_settings_table(describe_settings(loaded.settings), loaded.doc)
        return
    graph = loaded.build(build_settings(loaded.settings, settings or (), loaded.name))
    options = RunOptions(seconds, frames, as_json, record, overwrite, picture, metrics_port, control, inline)
    run_graph(graph, options)

"""``hil record``: all streams of a device into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Control, For, Frames, HelpSettings, Json, Overwrite, Set


@guarded
def record(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE] PATH",
            show_default=False,
            help="A driver (xl-array, package.module:Class) or an address, where --driver and --uri do not say it; "
            "and the file to write: .mcap, or .sigmf-meta for IQ.",
        ),
    ] = None,
    driver: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="iio, uhd, heimdall, oai_tracer, fapi, gnuradio, srsran, xl_array ..."),
    ] = None,
    uri: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Where the device is, as its driver takes it.")
    ] = None,
    settings: Set = None,
    seconds: For = None,
    frames: Frames = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    control: Control = "tcp://127.0.0.1:*",
    help_settings: HelpSettings = False,
    verbose: Verbose = 0,
) -> None:
    """Record all streams of a device until it ends, or Ctrl-C.

    The file is readable at any moment, also after a crash. [bold]hil devices[/bold] finds what can be recorded.

    \b
    [cyan]hil record --driver iio --uri ip:192.168.2.1 field.mcap --for 60[/cyan]
    [cyan]hil record --driver iio --help-settings[/cyan]
    [cyan]hil record heimdall://krakensdr.local field.mcap[/cyan]
    [cyan]hil record tcp://127.0.0.1:5555 field.mcap --for 60[/cyan]
    [cyan]hil record xl-array sim.mcap --set embedded=true --frames 1000[/cyan]
    [cyan]hil record drivers.xl_array:XlArray iq.sigmf-meta --set endpoint=ADDR[/cyan]
    """
    from hil.cli.load_source import make_source, make_source_at
    from hil.cli.session import RunOptions, run_graph
    from hil.errors import GraphError
    from hil.graph import Graph

    if help_settings:
        _print_settings(driver or (words or [""])[0])
        return
    *sources, path = words or [""]
    named = driver is not None or uri is not None
    if not path or len(sources) != (0 if named else 1):
        wanted = "PATH" if named else "SOURCE PATH, or PATH with --driver and --uri"
        came = repr(" ".join(words)) if words else "nothing"
        raise GraphError(f"expected {wanted}, got {came}: say once which device to record, then the file")
    graph = Graph("record")
    if named:
        device = graph.add(make_source_at("device", driver, uri, settings or ()))
    else:
        device = graph.add(make_source("device", sources[0], settings or ()))
    graph.expose(**{port: f"{device.name}.{port}" for port in device.outputs})
    run_graph(graph, RunOptions(seconds, frames, as_json, record=Path(path), overwrite=overwrite, control=control))


def _print_settings(driver: str) -> None:
    """What ``--set`` takes: the parameters of a driver."""
    from hil.cli.load_source import driver_class, driver_names
    from hil.cli.settings import describe_settings
    from hil.cli.settings_table import print_settings_table
    from hil.errors import GraphError
    from hil.params import params_type

    if not driver:
        raise GraphError(f"the settings of which driver? give --driver NAME: {', '.join(driver_names())}")
    cls = driver_class(driver)
    print_settings_table(describe_settings(params_type(cls)), (cls.__doc__ or "").partition("\n\n")[0])

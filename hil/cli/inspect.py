"""``hil inspect``: what a recording holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Json


@guarded
def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Recording: .mcap, .sigmf-meta or .sigmf.")],
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Say what is in a recording: streams, arrays, times, epochs, gaps, and what is wrong with it.

    \b
    [cyan]hil inspect run.mcap[/cyan]
    [cyan]hil inspect run.mcap --json | jq '.streams | keys'[/cyan]
    """
    from hil.cli.console import StderrStatus
    from hil.cli.output import write_json
    from hil.record import describe_recording

    with StderrStatus(f"reading {path}"):
        told = describe_recording(path)
    if as_json:
        write_json(told)
    else:
        print_recording(told)


def print_recording(told: Mapping[str, Any]) -> None:
    """The description for people, on stdout."""
    from rich.markup import escape
    from rich.table import Table

    from hil.cli.console import StdoutConsole

    console = StdoutConsole(140)
    duration = "" if told["duration_s"] is None else f", {told['duration_s']:.3f} s"
    state = "" if told["closed"] else ", not closed by its writer"
    console.print(
        f"[bold]{escape(told['path'])}[/bold]: {told['format']}, {told['bytes'] / 1e6:.2f} MB{duration}{state}"
    )
    for name, array in told["arrays"].items():
        console.print(
            f"array {name}: {array['n_elements']} elements, {array['n_channels']} channels, "
            f"aperture {array['aperture_m']:.3f} m"
        )
    table = Table(box=None, pad_edge=False, header_style="cyan")
    for heading in ("stream", "frames", "per s", "seq", "epochs", "missing", "lost", "calibration", "arrays"):
        table.add_column(heading, justify="left" if heading in ("stream", "arrays", "calibration") else "right")
    for name, stream in told["streams"].items():
        table.add_row(name, *(escape(cell) for cell in _cells(stream)))
    console.print(table)
    for name, stream in told["streams"].items():
        events = ", ".join(f"{n} x {event}" for event, n in stream["events"].items())
        if events:
            console.print(f"events of {name}: {events}")
    for problem in told["problems"]:
        console.print(f"[red]problem[/red]: {escape(problem)}")


def _cells(stream: Mapping[str, Any]) -> list[str]:
    arrays = "; ".join(
        f"{name} {spec['dtype']} [{', '.join(f'{a}={n}' for a, n in zip(spec['axes'], spec['shape'], strict=False))}]"
        for name, spec in stream["arrays"].items()
    )
    rate = stream["frames_per_s"]
    numbers = "-" if stream["first_seq"] is None else f"{stream['first_seq']}..{stream['last_seq']}"
    lost = stream["lost"]
    return [
        str(stream["frames"]),
        "-" if rate is None else f"{rate:.1f}",
        numbers,
        _ranges(stream["epochs"]),
        "-" if stream["missing"] is None else str(stream["missing"]),
        ", ".join(f"{n} {what}" for what, n in lost.items() if n) or "0",
        ", ".join(stream["calibration"]),
        arrays,
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """``0, 2..5``: runs of numbers in one piece."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)

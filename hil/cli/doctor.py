"""``hil doctor``: what this host has and lacks, each finding with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Json, Set

if TYPE_CHECKING:
    from hil.doctor.finding import Finding

#: What the tests use, named by text: this package imports no driver and no block.
_INTERPRETERS = "drivers.uhd_interpreter:find_interpreters"
_TO_COMPLEX = "blocks.front_end.to_complex:ToComplex"
_FLOWGRAPH = "near_field_music"
#: One source that stands still, 30 dB above the noise of each channel.
_EMBEDDED = (
    "embedded=true",
    'device={"array": {"kind": "ula", "n": 8}, "noise_power_db": -50.0, "n_snapshots": 1000, "frame_period_s": 0.02, '
    '"sources": [{"id": 1, "power_db": -20.0, "motion": {"kind": "stand", "position_m": [1, 20, 0]}}]}',
)
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@guarded
def doctor(
    driver: Annotated[
        str | None, typer.Option(metavar="NAME", help="Test the channels of this device instead of the simulated one.")
    ] = None,
    uri: Annotated[str | None, typer.Option(metavar="ADDR", help="Where that device is.")] = None,
    settings: Set = None,
    tests: Annotated[bool, typer.Option("--tests/--no-tests", help="Run the tests, which takes some seconds.")] = True,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Look at libraries, interpreters, permissions and the host, test coherence; say what to do about each finding.

    Ends with status 1 where something fails that the receiver needs; what only some devices need is a warning.

    \b
    [cyan]hil doctor[/cyan]
    [cyan]hil doctor --no-tests --json | jq '.findings[] | select(.state != "ok")'[/cyan]
    [cyan]hil doctor --driver iio --uri ip:192.168.2.1[/cyan]
    """
    from hil.cli.console import StderrStatus
    from hil.cli.output import write_json
    from hil.doctor.finding import worst

    findings: list[Finding] = []
    with StderrStatus("examining"):
        for finding in _examine(driver, uri, settings or (), tests=tests):
            findings.append(finding)
    if as_json:
        write_json({"state": worst(findings), "findings": [f._asdict() for f in findings]})
    else:
        print_findings(findings)
    if worst(findings) == "fail":
        raise typer.Exit(1)


def print_findings(findings: Sequence[Finding]) -> None:
    """Findings for people, on stdout, each remedy below its finding."""
    from rich.markup import escape
    from rich.table import Table

    from hil.cli.console import StdoutConsole

    console = StdoutConsole(140)
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        colour = _COLOURS[finding.state]
        says = escape(finding.says)
        if finding.remedy:
            says += f"\n[bold]do:[/bold] {escape(finding.remedy)}"
        table.add_row(f"[{colour}]{finding.state}[/{colour}]", escape(finding.what), says)
    console.print(table)
    counts = {state: sum(f.state == state for f in findings) for state in _COLOURS}
    console.print(f"\n{counts['ok']} ok, {counts['warn']} to know of, {counts['fail']} to repair")


def _examine(driver: str | None, uri: str | None, settings: Sequence[str], *, tests: bool) -> Iterator[Finding]:
    from hil.cli.flowgraph import load_object
    from hil.doctor.device_libraries import check_gnuradio, check_iio, check_uhd
    from hil.doctor.host import check_host
    from hil.doctor.packages import check_packages
    from hil.doctor.permissions import check_permissions

    yield from check_packages()
    yield from check_iio()
    yield from check_uhd(load_object(_INTERPRETERS)())
    yield from check_gnuradio()
    yield from check_permissions()
    yield from check_host(Path.cwd())
    if tests:
        yield from _test(driver, uri, settings)


def _test(driver: str | None, uri: str | None, settings: Sequence[str]) -> Iterator[Finding]:
    from hil.cli.flowgraph import load_flowgraph, load_object
    from hil.cli.load_source import make_source_at
    from hil.doctor.self_test import check_coherence, check_receiver

    to_complex = load_object(_TO_COMPLEX)("to_complex")
    if driver is not None or uri is not None:
        yield check_coherence(make_source_at(driver or "device", driver, uri, settings), to_complex)
        return
    yield check_coherence(make_source_at("the simulated array", "xl-array", None, _EMBEDDED), to_complex)
    loaded = load_flowgraph(_FLOWGRAPH)
    yield check_receiver(loaded.build(loaded.settings()))

"""``hil devices``: what can be reached, and how to open it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Json

if TYPE_CHECKING:
    from hil.discovery.found import Found
    from hil.discovery.search import Place, Searched

#: Finds a Python with UHD; named by text, as this package imports no driver.
_INTERPRETER = "drivers.uhd_interpreter:first_usable"
_NOTHING = """\
What can be reached is asked at the usual ports of this host, and of hosts that you name:
  hil devices 192.168.2.1 krakensdr.local     hosts, each asked in the protocols of all families
  hil devices ip:192.168.2.1 addr=192.168.10.2 10.0.0.5:2021     one device or port
A device that is not there can be simulated, and is then found:
  hil sim ad9361     (or fmcomms5, iio, usrp, heimdall, gnodeb, gnuradio, srsran, xl-array)
`hil doctor` tells whether libraries or permissions are missing."""


@guarded
def devices(
    where: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST|HOST:PORT|ADDR]...", help="Ask there, and not what announces itself here."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, max=120, metavar="SECONDS", help="For all.")] = 6.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """List devices that can be reached: address, kind, channels, and the command that opens each.

    IIO contexts on USB and by multicast DNS, USRPs as UHD finds them, heimdall, T tracers and ZeroMQ sockets on the \
usual ports of this host, and simulated devices. Asking takes a connection for a moment: a unit that serves one client \
only may be busy meanwhile.

    \b
    [cyan]hil devices[/cyan]
    [cyan]hil devices 192.168.2.1 krakensdr.local gnb:2021[/cyan]
    [cyan]hil devices --json | jq -r '.devices[].address'[/cyan]
    """
    from hil.cli.console import StderrStatus
    from hil.cli.output import write_json
    from hil.discovery.search import Place, search

    places = [place_of(word) for word in where] if where else [Place("127.0.0.1")]
    with StderrStatus("looking for devices"):
        searched = search(places, _interpreter, timeout_s, wide=not where)
    if as_json:
        write_json({"devices": [_record(one) for one in searched.found], "problems": searched.problems})
    else:
        print_devices(searched, where or ())


def place_of(word: str) -> Place:
    """What to ask where ``word`` points.

    Raises:
        GraphError: It is no host and no address.
    """
    from urllib.parse import urlsplit

    from hil.cli.load_source import driver_of
    from hil.discovery.search import Place
    from hil.errors import GraphError

    fix = "expected HOST, HOST:PORT, or an address as hil record takes it"
    driver = driver_of(word)
    if driver in ("iio", "uhd"):
        return Place(driver=driver, address=word)
    try:
        parts = urlsplit(word if "://" in word else f"//{word}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise GraphError(f"{word!r}: {error}; {fix}") from error
    if not host or parts.path not in ("", "/"):
        raise GraphError(f"{word!r} is no host; {fix}")
    if driver == "heimdall" and port is None:
        port = 5000
    return Place(host, port)


def open_command(one: Found) -> str | None:
    """``hil record`` of what was found, to be copied; ``None`` where no driver is known for it."""
    from hil.cli.families import FAMILIES, record_command

    driver = one.driver or (FAMILIES[one.kind].driver if one.kind in FAMILIES else None)
    if driver is None:
        return None
    told = {family.driver: family.record_settings for family in FAMILIES.values()}.get(driver, ())
    # what a simulated device is set to is known; of a real one the user knows
    settings = told if one.simulated else [f"{setting.partition('=')[0]}=HZ" for setting in told]
    return record_command(driver, one.address, settings)


def print_devices(searched: Searched, where: Sequence[str] = ()) -> None:
    """What was found for people, on stdout; what could not be asked on stderr."""
    from rich.markup import escape
    from rich.table import Table

    from hil.cli.console import StdoutConsole

    console = StdoutConsole(140)
    asked = f" at {', '.join(where)}" if where else ""
    if not searched.found:
        sys.stdout.write(f"nothing was found{asked}. {_NOTHING}\n")
    else:
        table = Table(box=None, pad_edge=False, header_style="cyan")
        for heading in ("device", "address", "channels", "says"):
            table.add_column(heading, justify="right" if heading == "channels" else "left", overflow="fold")
        for one in searched.found:
            kind = f"{one.kind} (simulated)" if one.simulated else one.kind
            channels = "?" if one.channels is None else str(one.channels)
            table.add_row(*map(escape, (kind, one.address, channels, _says(one))))
        console.print(table)
        commands = [command for one in searched.found if (command := open_command(one))]
        sys.stdout.write("\nto open:\n" + "".join(f"  {command}\n" for command in commands))
    for name, problem in searched.problems.items():
        sys.stderr.write(f"not asked: {name}: {problem}\n")


def _record(one: Found) -> dict[str, Any]:
    return {**one._asdict(), "open": open_command(one)}


def _says(one: Found) -> str:
    words: Sequence[str] = [
        _word(key, value)
        for key, value in one.details.items()
        if key in ("frequency_hz", "sample_rate_hz", "serial", "claimed", "receivers")
    ]
    return ", ".join([*([one.name] if one.name else []), *words])


def _word(key: str, value: Any) -> str:
    if key.endswith("_hz"):
        return f"{value / 1e6:g} M{'S/s' if 'rate' in key else 'Hz'}"
    if key == "claimed":  # UHD says it in words
        return "in use" if str(value) == "True" else "free"
    return " and ".join(value) if key == "receivers" else f"{key} {value}"


def _interpreter() -> str | None:
    from hil.cli.flowgraph import load_object

    found = load_object(_INTERPRETER)()
    return None if found is None else str(found.path)

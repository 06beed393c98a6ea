"""``hil ctl``: one request to the control plane of a running graph or device."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hil.cli.guard import Verbose, guarded

#: The argument that a word without ``=`` is, by verb.
_BARE = {"get": "path", "set": "path", "describe": "node"}


@guarded
def ctl(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[ADDR|NAME] VERB [KEY=VALUE]...", help="What to ask.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", help="List the graphs and devices that run here.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.01, metavar="SECONDS")] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="The answer on one line.")] = False,
    verbose: Verbose = 0,
) -> None:
    """Ask or tell what runs: describe, get, set, start, pause, stop, stats, NODE.VERB.

    Without an address it is the graph that runs on this host. Values are JSON, else text.

    \b
    [cyan]hil ctl --list[/cyan]
    [cyan]hil ctl describe[/cyan]
    [cyan]hil ctl get music[/cyan]
    [cyan]hil ctl set music.spectrum_every=5[/cyan]
    [cyan]hil ctl sim.move_source id=1 position_m=\\[3,20,0][/cyan]
    [cyan]hil ctl sim.inject_fault element=7 kind=dead[/cyan]
    [cyan]hil ctl tcp://127.0.0.1:5556 set gain_db=3[/cyan]
    """
    from hil.cli.find import find_control, is_target, running
    from hil.cli.output import write_json
    from hil.errors import ControlError
    from hil.runtime.control import ControlClient

    if list_all:
        print_running(running(), as_json)
        return
    rest = list(words or [])
    target = rest.pop(0) if rest and is_target(rest[0]) else None
    if not rest:
        raise ControlError("which verb? e.g. hil ctl describe, hil ctl stats, hil ctl set NODE.PARAMETER=VALUE")
    verb, args = rest[0], arguments(rest[0], rest[1:])
    with ControlClient(find_control(target), timeout_s) as client:
        value = client.request(verb, **args)
    if as_json:
        write_json(value)
    else:
        _print_value(value)


def arguments(verb: str, words: Sequence[str]) -> dict[str, Any]:
    """``["id=1", "x=[2,3]"]`` to arguments; ``set a.b=3`` and ``get a.b`` in short for ``path=... value=...``.

    Raises:
        ControlError: A word without ``=`` where the verb takes none.
    """
    from hil.cli.settings import parse_value
    from hil.errors import ControlError

    args: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            if verb not in _BARE or _BARE[verb] in args:
                raise ControlError(f"{verb}: expected KEY=VALUE, got {word!r}")
            args[_BARE[verb]] = word
        elif verb == "set" and key not in ("path", "value"):
            args |= {"path": key, "value": parse_value(text)}
        else:
            args[key] = parse_value(text)
    return args


def print_running(notes: Sequence[dict[str, Any]], as_json: bool) -> None:
    """What runs here, a line each."""
    from hil.cli.output import write_json

    for note in notes:
        if as_json:
            write_json(note)
        else:
            sys.stdout.write(f"{note['kind']:7} {note['name']:24} process {note['pid']:<8} {note['control']}\n")
    if not notes and not as_json:
        sys.stderr.write("nothing runs here\n")


def _print_value(value: Any) -> None:
    import json

    if isinstance(value, str):
        sys.stdout.write(value + "\n")
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print_json(json.dumps(value, default=str))
    else:
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")

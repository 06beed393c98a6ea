"""Settings as a table: what ``--help-settings`` prints."""

from __future__ import annotations

from collections.abc import Iterable

from hil.cli.settings import Setting


def print_settings_table(settings: Iterable[Setting], about: str = "") -> None:
    """Path, type, limits, default and meaning of each setting on stdout, below what they are about."""
    from rich.markup import escape
    from rich.table import Table

    from hil.cli.console import StdoutConsole

    console = StdoutConsole(160)
    if about:
        console.print(escape(about) + "\n")
    table = Table(box=None, pad_edge=False, header_style="cyan")
    for heading in ("setting", "type", "limits", "default", "meaning"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "setting")
    for setting in settings:
        table.add_row(*(escape(text) for text in setting))
    console.print(table)

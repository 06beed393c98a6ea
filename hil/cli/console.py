"""The console that tables are printed on."""

from __future__ import annotations

import sys

from rich.console import Console


class StdoutConsole(Console):
    """Standard output; into a pipe as wide as a table needs, as nobody wraps there.

    Args:
        piped_width: Columns where stdout is no terminal.
    """

    def __init__(self, piped_width: int) -> None:
        super().__init__(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else piped_width)

    def on_broken_pipe(self) -> None:
        """Rich would end the process with a failure; a reader that leaves is none."""
        raise BrokenPipeError


class StderrStatus:
    """``with StderrStatus("reading ...")``: a line on stderr while something takes long, on a terminal only."""

    def __init__(self, text: str) -> None:
        self._status = Console(stderr=True).status(text) if sys.stderr.isatty() else None

    def __enter__(self) -> StderrStatus:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._status is not None:
            self._status.stop()

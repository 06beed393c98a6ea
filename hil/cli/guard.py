"""How a command ends: quietly on a broken pipe, with one clear line on an error, with a traceback only when asked."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from hil.errors import HilError

P = ParamSpec("P")
R = TypeVar("R")

Verbose = Annotated[
    int,
    typer.Option("--verbose", "-v", count=True, help="Log more (-vv: all), and show the traceback of an error."),
]


class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to whatever ``sys.stderr`` is now: a live table redirects it, so that logs do not tear the table."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        raise AttributeError("the stream is sys.stderr")


def set_up_logging(verbose: int) -> None:
    """Logs go to stderr; workers of the run follow the same level."""
    level = {0: "WARNING", 1: "INFO"}.get(verbose, "DEBUG")
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StderrHandler)]:
        root.removeHandler(handler)
    own = _StderrHandler()
    own.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root.addHandler(own)
    root.setLevel(level)
    logging.getLogger("matplotlib").setLevel("WARNING")
    os.environ["HIL_LOG"] = level


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap ``command``: what it raises becomes a line on stderr and an exit status."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        verbose = int(kwargs.get("verbose", 0))  # type: ignore[call-overload]
        set_up_logging(verbose)
        try:
            result = command(*args, **kwargs)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # Whoever read has seen enough. What Python still wants to flush at exit must go somewhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except HilError as error:
            _tell(error, str(error), verbose)
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort) or type(error).__module__.startswith(("click", "typer")):
                raise
            text = f"internal error: {type(error).__name__}: {error}; -v shows where, please report it"
            _tell(error, text, verbose)
        raise typer.Exit(1)

    return run


def _tell(error: BaseException, text: str, verbose: int) -> None:
    if verbose:
        sys.stderr.write("".join(traceback.format_exception(error)))
    sys.stderr.write(f"hil: {' '.join(text.split())}\n")

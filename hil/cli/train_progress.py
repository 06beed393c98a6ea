"""What people and programs see of a training: a bar and a line at each validation, JSON, TensorBoard."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

OnStep = Callable[[int, dict[str, float]], None]


@contextlib.contextmanager
def progress(as_json: bool, steps: int, directory: Path) -> Iterator[OnStep]:
    """Yield what is to be told each step's losses."""
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_board(directory)), stack.enter_context(_json() if as_json else _bar(steps))]

        def on_step(step: int, row: dict[str, float]) -> None:
            for write in writers:
                write(step, row)

        yield on_step


@contextlib.contextmanager
def _json() -> Iterator[OnStep]:
    from hil.cli.output import write_json

    yield lambda step, row: write_json(row) if _validated(row) else None


@contextlib.contextmanager
def _bar(steps: int) -> Iterator[OnStep]:
    """A bar on a terminal; in a pipe, lines alone."""
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = [*Progress.get_default_columns()[:-1], TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("training", total=steps)

        def on_step(step: int, row: dict[str, float]) -> None:
            bar.update(task, completed=step, description=f"loss {row['loss']:.4f}")
            if _validated(row):
                text = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "step")
                bar.console.print(f"step {step}: {text}", highlight=False)

        yield on_step


@contextlib.contextmanager
def _board(directory: Path) -> Iterator[OnStep]:
    """TensorBoard's event files, where the package is installed."""
    try:
        board = importlib.import_module("tensorboardX")
    except ImportError:
        yield lambda step, row: None
        return
    with board.SummaryWriter(str(directory / "tensorboard")) as writer:

        def on_step(step: int, row: dict[str, float]) -> None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, step)

        yield on_step


def _validated(row: dict[str, float]) -> bool:
    return any(name.startswith("validation_") for name in row)

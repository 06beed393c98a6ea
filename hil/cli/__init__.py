"""The command ``hil``. Heavy imports wait until a command needs them, so that ``hil --help`` is quick."""

from __future__ import annotations

import sys

import typer

from hil.cli.ctl import ctl
from hil.cli.devices import devices
from hil.cli.doctor import doctor
from hil.cli.evaluate import evaluate
from hil.cli.inspect import inspect
from hil.cli.record import record
from hil.cli.replay import replay
from hil.cli.run import run
from hil.cli.sim import sim
from hil.cli.top import top
from hil.cli.train import train

app = typer.Typer(
    name="hil",
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(
    epilog="Every command has its own --help with examples. Docs: docs/command-line.md",
)
def hil() -> None:
    """From an antenna array to positions: graphs of array streams, live, simulated or recorded.

    A [bold]flowgraph[/bold] is a named receiver: a device streams frames, blocks turn them into better frames, \
positions come out. Three commands to begin with, a simulated array, the same recorded, and the recording \
through the same receiver:

    \b
    [cyan]hil run near_field_music --for 10[/cyan]
    [cyan]hil run near_field_music --for 10 --record run.mcap[/cyan]
    [cyan]hil replay run.mcap --into near_field_music[/cyan]

    While one runs, in another terminal: [bold]hil top[/bold] watches it, [bold]hil ctl[/bold] talks to it. \
With hardware: [bold]hil doctor[/bold] says what this host lacks, [bold]hil devices[/bold] what can be reached and \
how to open it; [bold]hil sim[/bold] simulates a device that is not there.
    """


for command in (run, replay, record, inspect, sim, devices, doctor, top, ctl, train):
    app.command(command.__name__)(command)
app.command("eval")(evaluate)


def main() -> None:
    """Entry point of the script ``hil``."""
    app()


def run_flowgraph(name: str) -> None:
    """``python -m flowgraphs.NAME ...`` is ``hil run flowgraphs.NAME ...``."""
    app(["run", name, *sys.argv[1:]], prog_name=f"python -m {name}")

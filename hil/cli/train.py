"""``hil train``: a network from its configuration."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from hil.cli.guard import Verbose, guarded
from hil.cli.run import Json, Set
from hil.cli.train_progress import progress

#: Where configurations that come with the project are.
SHIPPED = "blocks.neural.configs"

Config = Annotated[str, typer.Argument(metavar="CONFIG", help="A .toml file, or the name of a shipped one.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="cpu or cuda.")]


@guarded
def train(
    config: Config,
    settings: Set = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For checkpoint, log and weights; default: out/NAME.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    device: Device = "cpu",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Train a network and leave its weights, with a card that says what they are for.

    Kill it at any time: [bold]--resume[/bold] goes on from the last checkpoint, to the same weights that an \
uninterrupted run gives. log.csv has loss and validation errors; TensorBoard shows them where tensorboardX is installed.

    \b
    [cyan]hil train nf_subspacenet_n15[/cyan]
    [cyan]hil train nf_subspacenet_n15 --set train.steps=500 --set data.coherent=false --out out/mine[/cyan]
    [cyan]hil train my_array.toml --resume[/cyan]
    [cyan]hil eval out/mine/weights.safetensors[/cyan]
    """
    from hil.cli.flowgraph import load_object
    from hil.cli.output import write_json
    from hil.params import convert_params

    plain, name = read_config(config)
    for path, value in assignments(settings or ()):
        put(plain, path, value)
    training = load_object("blocks.neural.run_training:TrainingConfig")
    params = convert_params(training, plain, f"configuration {config!r}")
    directory = out or Path("out") / name
    with progress(as_json, params.train.steps, directory) as on_step:
        weights = load_object("blocks.neural.run_training:run_training")(
            params,
            load_object(params.data_factory),
            directory,
            resume=resume,
            device=device,
            commit=commit(),
            on_step=on_step,
        )
    if as_json:
        write_json({"weights": str(weights)})
    else:
        sys.stdout.write(f"{weights}\n  hil eval {weights}\n")


def read_config(config: str) -> tuple[dict[str, Any], str]:
    """A configuration and its name, from a file or by the name of a shipped one.

    Raises:
        ParamError: There is none; lists those there are.
    """
    from importlib.resources import files

    from hil.errors import ParamError

    path = Path(config)
    if path.suffix == ".toml":
        try:
            return tomllib.loads(path.read_text()), path.stem
        except (OSError, ValueError) as error:
            raise ParamError(f"configuration {config}: {error}") from error
    shipped = {f.name.removesuffix(".toml"): f for f in files(SHIPPED).iterdir() if f.name.endswith(".toml")}
    if config not in shipped:
        raise ParamError(f"no configuration {config!r}: there are {', '.join(sorted(shipped))}, or give a .toml file")
    return tomllib.loads(shipped[config].read_text()), config


def assignments(settings: list[str] | tuple[()]) -> list[tuple[list[str], Any]]:
    """``["train.steps=5"]`` to paths and values."""
    from hil.cli.settings import parse_assignments, parse_value

    return [(path.split("."), parse_value(text)) for path, text in parse_assignments(settings).items()]


def put(plain: dict[str, Any], path: list[str], value: Any) -> None:
    """Set the value at a path, making groups on the way; what is wrong with it, the parameters' types will say."""
    *groups, last = path
    for group in groups:
        inner = plain.setdefault(group, {})
        if not isinstance(inner, dict):
            inner = plain[group] = {}
        plain = inner
    plain[last] = value


def commit() -> str:
    """Of the code, where it is a checkout; empty otherwise."""
    import subprocess

    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()

"""Every ``hil`` command that the documentation shows is one: its options exist, and its settings are taken."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from hil.cli import app
from hil.cli.families import FAMILIES
from hil.cli.flowgraph import known_flowgraphs, load_flowgraph
from hil.cli.load_source import driver_class
from hil.cli.settings import build_settings
from hil.params import params_type

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: What ends a command in a shell, or begins what is said of it.
_END = re.compile(r"\s(\||;|&|>|#).*|;.*")


def commands(page: Path) -> Iterator[str]:
    """Lines of code that begin with ``hil``, continued ones put together."""
    for block in re.findall(r"^```(?:sh)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.removeprefix("$ ")
            if words.startswith("hil ") and "..." not in words:
                yield _END.sub("", f"{words} ").strip()


FOUND = [pytest.param(c, id=f"{page.stem}: {c[:60]}") for page in PAGES for c in dict.fromkeys(commands(page))]


def test_there_are_some() -> None:
    assert len(FOUND) > 30


@pytest.mark.parametrize("command", FOUND)
def test_it_is_a_command(command: str) -> None:
    name, *words = shlex.split(command)[1:]
    group: Any = typer.main.get_command(app)
    assert name in group.commands, f"there is no hil {name}"
    options = group.commands[name].make_context(name, list(words)).params
    settings = options.get("settings") or []
    if "refused" in command or any("snr_db=300" in s or "snrdb" in s for s in settings):
        return  # shown to be refused
    if name == "run" and options["flowgraph"] in known_flowgraphs():
        loaded = load_flowgraph(options["flowgraph"])
        loaded.build(build_settings(loaded.settings, settings, loaded.name))
    elif name == "sim" and options["device"] in FAMILIES:
        from sim_device.servers.serve import read_settings

        family = FAMILIES[options["device"]]
        family.with_parameters(read_settings(None, settings))
    elif name == "record" and options["driver"] is not None:
        build_settings(params_type(driver_class(options["driver"])), [f"uri={options['uri']}", *settings], "driver")

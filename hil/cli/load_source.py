"""Drivers by name: ``drivers.xl_array:XlArray``, ``xl-array``, or the address of a running device."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from typing import Any

from hil.cli.flowgraph import load_object
from hil.cli.settings import build_settings
from hil.errors import GraphError
from hil.params import params_to_plain, params_type
from hil.source import Source

#: The package that is looked through for drivers without a dot in their name.
PACKAGE = "drivers"
#: The driver that reads an address.
NETWORK_DRIVER = "drivers.xl_array:XlArray"
#: The drivers that replay recordings, by the suffix of the file.
REPLAY_DRIVERS = {
    ".mcap": "drivers.mcap_replay:McapReplay",
    ".sigmf-meta": "drivers.sigmf_replay:SigmfReplay",
    ".sigmf-data": "drivers.sigmf_replay:SigmfReplay",
    ".sigmf": "drivers.sigmf_replay:SigmfReplay",
}


def make_source(name: str, source: str, assignments: Sequence[str]) -> Source:
    """Make the driver that ``source`` names, with ``path=value`` parameters.

    Raises:
        GraphError: There is no such driver; lists those there are.
        ParamError: A parameter is refused.
    """
    if "://" in source:
        return _make(load_object(NETWORK_DRIVER), name, [f"endpoint={source}", *assignments])
    where = source if ":" in source else known_drivers().get(source.replace("-", "_"))
    if where is None:
        raise GraphError(
            f"no driver {source!r}: there are {', '.join(known_drivers())}, or give package.module:Class, "
            "or the address of a running device, tcp://host:port"
        )
    cls = load_object(where)
    if not (isinstance(cls, type) and issubclass(cls, Source)):
        raise GraphError(f"{source} is no driver: expected a class that derives from hil.source.Source")
    return _make(cls, name, assignments)


def known_drivers() -> dict[str, str]:
    """``module:Class`` of each module of the package ``drivers`` that has a driver that can be made, by its name."""
    package = importlib.import_module(PACKAGE)
    found: list[tuple[str, type[Source]]] = []
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"{PACKAGE}.{module.name}")
        own = [c for c in vars(loaded).values() if inspect.isclass(c) and c.__module__ == loaded.__name__]
        found += [(module.name, c) for c in own if issubclass(c, Source)]
    # What others derive from is a base.
    return {name: f"{cls.__module__}:{cls.__name__}" for name, cls in found if not cls.__subclasses__()}


def _make(cls: type[Source], name: str, assignments: Sequence[str]) -> Source:
    kind = params_type(cls)
    # Defaults that need one another to be valid are left to the driver: only what was given is handed on.
    given: dict[str, Any] = {}
    values = params_to_plain(build_settings(kind, assignments, f"driver {name!r}"))
    for assignment in assignments:
        top = assignment.partition("=")[0].partition(".")[0]
        given[top] = values[top]
    return cls(name, **given)

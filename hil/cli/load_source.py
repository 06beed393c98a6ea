"""Drivers by name, ``xl-array`` or ``drivers.xl_array:XlArray``, or by the address of what they shall read."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import msgspec

from hil.cli.families import FAMILIES
from hil.cli.flowgraph import load_module, load_object
from hil.cli.settings import build_settings
from hil.errors import GraphError
from hil.params import params_to_plain, params_type
from hil.source import Source

#: The package that is looked through for drivers without a dot in their name.
PACKAGE = "drivers"
#: Its modules whose classes only serve as bases of drivers.
_BASES = ("base", "live", "paced", "replay")
#: The driver that reads an address of the package's own wire.
NETWORK_DRIVER = "xl_array"
#: The drivers that replay recordings, by the suffix of the file.
REPLAY_DRIVERS = {
    ".mcap": "drivers.mcap_replay:McapReplay",
    ".sigmf-meta": "drivers.sigmf_replay:SigmfReplay",
    ".sigmf-data": "drivers.sigmf_replay:SigmfReplay",
    ".sigmf": "drivers.sigmf_replay:SigmfReplay",
}
#: What the addresses of a driver look like.
_ADDRESSES = {
    "iio": r"(ip|usb|serial|local):(?!//)",
    "uhd": r"(type|addr\d*|mgmt_addr\d*|serial|resource)=",
    "heimdall": r"heimdall://",
    "gnuradio": r"gnuradio://",
    "srsran": r"srsran://",
    "fapi": r"udp://",
    NETWORK_DRIVER: r"\w+://",
}


def make_source(name: str, source: str, assignments: Sequence[str]) -> Source:
    """Make the driver that ``source`` names, or that reads the address that it is, with ``path=value`` parameters.

    Raises:
        GraphError: There is no such driver; lists those there are.
        ParamError: A parameter is refused.
    """
    driver = driver_of(source)
    if driver is not None:
        return _at(name, driver, source, assignments)
    return _make(driver_class(source), name, assignments)


def make_source_at(name: str, driver: str | None, uri: str | None, assignments: Sequence[str]) -> Source:
    """Make ``driver`` for the device at ``uri``; either may be left out where the other says it all.

    Raises:
        GraphError: There is no such driver, none that reads such an address, or neither is given.
        ParamError: A parameter is refused.
    """
    if driver is None:
        driver = None if uri is None else driver_of(uri)
        if driver is None:
            raise GraphError(f"which driver reads {uri!r}? give --driver NAME: {', '.join(driver_names())}")
    if uri is None:
        return _make(driver_class(driver), name, assignments)
    return _at(name, driver, uri, assignments)


def driver_of(address: str) -> str | None:
    """The driver that reads ``address``, ``None`` where it is no address."""
    return next((name for name, form in _ADDRESSES.items() if re.match(form, address)), None)


def _at(name: str, driver: str, uri: str, assignments: Sequence[str]) -> Source:
    cls = driver_class(driver)
    fields = {field.name for field in msgspec.structs.fields(params_type(cls))}
    key = next((key for key in ("uri", "endpoint") if key in fields), None)
    if key is None:
        raise GraphError(f"driver {driver!r} has no address: it takes {', '.join(sorted(fields))}")
    return _make(cls, name, [f"{key}={uri}", *assignments])


def driver_names() -> list[str]:
    """Names of the modules of the package ``drivers`` that have a driver that can be made."""
    package = importlib.import_module(PACKAGE)
    modules = [m.name for m in pkgutil.iter_modules(package.__path__)]
    return [name for name in modules if _driver_in(importlib.import_module(f"{PACKAGE}.{name}")) is not None]


def driver_class(source: str) -> type[Source]:
    """The driver of that name, of that family of devices, or at that ``package.module:Class``.

    Raises:
        GraphError: There is none; lists those there are.
    """
    if ":" in source:
        cls = load_object(source)
        if not (isinstance(cls, type) and issubclass(cls, Source)):
            raise GraphError(f"{source} is no driver: expected a class that derives from hil.source.Source")
        return cls
    name = FAMILIES[source].driver if source in FAMILIES else source.replace("-", "_")
    module = f"{PACKAGE}.{name}"
    if name.isidentifier() and importlib.util.find_spec(module) is not None:
        found = _driver_in(load_module(module))
        if found is not None:
            return found
    names = driver_names()
    close = difflib.get_close_matches(name, names, n=1)
    hint = f", did you mean {close[0]}?" if close else ":"
    raise GraphError(
        f"no driver {source!r}{hint} there are {', '.join(names)}, or give package.module:Class, "
        "or the address of a running device, tcp://host:port, ip:host, addr=host ..."
    )


def _driver_in(module: ModuleType) -> type[Source] | None:
    """The driver that ``module`` has, where it has one that can be made."""
    if module.__name__.rpartition(".")[2] in _BASES:
        return None
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    return next((c for c in own if issubclass(c, Source)), None)


def _make(cls: type[Source], name: str, assignments: Sequence[str]) -> Source:
    kind = params_type(cls)
    # Defaults that need one another to be valid are left to the driver: only what was given is handed on.
    given: dict[str, Any] = {}
    values = params_to_plain(build_settings(kind, assignments, f"driver {name!r}"))
    for assignment in assignments:
        top = assignment.partition("=")[0].partition(".")[0]
        given[top] = values[top]
    return cls(name, **given)

"""Flowgraphs by name: ``flowgraphs.near_field_music``, ``near_field_music``, or a path to a ``.py`` file."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hil.errors import GraphError, HilError
from hil.graph import Graph
from hil.params import Params

#: The package that is looked through for flowgraphs without a dot in their name.
PACKAGE = "flowgraphs"


class Flowgraph(NamedTuple):
    """A module that follows the convention: ``Settings``, ``build(settings) -> Graph``."""

    name: str
    settings: type[Params]
    build: Callable[[Any], Graph]
    doc: str


def known_flowgraphs() -> list[str]:
    """Names of the modules in the package ``flowgraphs``."""
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        return []
    return sorted(f"{PACKAGE}.{m.name}" for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def load_flowgraph(name: str) -> Flowgraph:
    """Import a flowgraph.

    Raises:
        GraphError: There is none of that name (lists those there are), or it is not made as the convention says.
    """
    module = _from_file(Path(name)) if name.endswith(".py") else _from_package(name)
    settings, build = getattr(module, "Settings", None), getattr(module, "build", None)
    if not (isinstance(settings, type) and issubclass(settings, Params) and callable(build)):
        raise GraphError(
            f"{name} is no flowgraph: expected a class Settings(Params, frozen=True) and a function "
            "build(settings) -> Graph"
        )
    return Flowgraph(name, settings, build, (module.__doc__ or "").strip())


def load_module(name: str) -> ModuleType:
    """Import a module by name.

    Raises:
        GraphError: There is none, or it needs a package that is not there.
    """
    return _import(name, f"there is no module {name!r}")


def load_object(where: str) -> Any:
    """Import ``"package.module:Name"``.

    Raises:
        GraphError: There is no such module or name in it.
    """
    module_name, _, attribute = where.partition(":")
    module = load_module(module_name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise GraphError(f"module {module_name!r} has no {attribute!r}") from None


def _from_package(name: str) -> ModuleType:
    known = ", ".join(known_flowgraphs()) or "none"
    full = name if "." in name else f"{PACKAGE}.{name}"
    return _import(full, f"no flowgraph {name!r}: there are {known}, or give the path of a .py file")


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise GraphError(f"no flowgraph at {path}: there is no such file")
    # Workers import the module of a block by its name, so the file must be found under its own.
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except HilError:
        raise
    except Exception as error:
        raise GraphError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _import(name: str, absent: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise GraphError(absent) from None
        raise GraphError(f"{name} needs the package {error.name!r}, which is not installed") from error
    except (ImportError, SyntaxError) as error:
        raise GraphError(f"{name} cannot be imported: {error}") from error
    except ValueError:  # "..", an empty name
        raise GraphError(absent) from None
